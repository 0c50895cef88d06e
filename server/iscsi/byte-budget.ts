/** Memory shared out in the order of asking. A request larger than all of it is granted when nobody else has any. */
export class ByteBudget {
  readonly #bytesMax: number;
  #used = 0;
  readonly #waiting: { bytes: number; granted: () => void }[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Calls back at once when there is room. */
  acquire(bytes: number, granted: () => void): void {
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#used += bytes;
      granted();
    } else this.#waiting.push({ bytes, granted });
  }

  release(bytes: number): void {
    this.#used -= bytes;
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined || !this.#fits(next.bytes)) return;
      this.#waiting.shift();
      this.#used += next.bytes;
      next.granted();
    }
  }

  #fits(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= this.#bytesMax;
  }
}
