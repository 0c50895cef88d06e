/** A chunk of which not all bytes were delivered yet: the bytes, and which of them are there. */
export class PartialChunk {
  readonly content: Buffer;
  /** Start and end of each covered run, ascending, never touching one another. */
  #covered: number[] = [];

  constructor(lengthBytes: number) {
    this.content = Buffer.alloc(lengthBytes);
  }

  get isComplete(): boolean {
    return this.#covered.length === 2 && this.#covered[0] === 0 && this.#covered[1] === this.content.length;
  }

  /** @param data null: zeros */
  put(startBytes: number, lengthBytes: number, data: Buffer | null): void {
    const endBytes = startBytes + lengthBytes;
    if (data === null) this.content.fill(0, startBytes, endBytes);
    else data.copy(this.content, startBytes, 0, lengthBytes);
    const kept: number[] = [];
    let start = startBytes;
    let end = endBytes;
    for (let index = 0; index < this.#covered.length; index += 2) {
      const from = this.#covered[index] as number;
      const to = this.#covered[index + 1] as number;
      if (to < start || from > end) kept.push(from, to);
      else {
        start = Math.min(start, from);
        end = Math.max(end, to);
      }
    }
    const at = kept.findIndex((position) => position > end);
    kept.splice(at < 0 ? kept.length : at, 0, start, end);
    this.#covered = kept;
  }

  /** Fills what was not delivered from the content that stood there before. */
  complete(before: Buffer): void {
    let at = 0;
    for (let index = 0; index < this.#covered.length; index += 2) {
      const from = this.#covered[index] as number;
      before.copy(this.content, at, at, from);
      at = this.#covered[index + 1] as number;
    }
    before.copy(this.content, at, at);
  }

  /** What `complete` would give, in a buffer of its own; the chunk stays partial. */
  over(before: Buffer): Buffer {
    const merged = Buffer.from(before.subarray(0, this.content.length));
    for (let index = 0; index < this.#covered.length; index += 2) {
      const from = this.#covered[index] as number;
      this.content.copy(merged, from, from, this.#covered[index + 1] as number);
    }
    return merged;
  }
}
