interface Held {
  start: number;
  end: number;
  exclusive: boolean;
  released: Promise<void>;
  release(): void;
}

/** Shared and exclusive locks of byte ranges. A shared lock over a free range costs no wait. */
export class RangeLock {
  readonly #held = new Set<Held>();

  async run<T>(
    { offsetBytes, lengthBytes, exclusive }: { offsetBytes: number; lengthBytes: number; exclusive: boolean },
    work: () => Promise<T>,
  ): Promise<T> {
    const end = offsetBytes + lengthBytes;
    for (;;) {
      const blocker = this.#blocker(offsetBytes, end, exclusive);
      if (blocker === undefined) break;
      await blocker.released;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const held: Held = { start: offsetBytes, end, exclusive, released: promise, release: resolve };
    this.#held.add(held);
    try {
      return await work();
    } finally {
      this.#held.delete(held);
      held.release();
    }
  }

  #blocker(start: number, end: number, exclusive: boolean): Held | undefined {
    for (const held of this.#held)
      if (held.start < end && start < held.end && (exclusive || held.exclusive)) return held;
    return undefined;
  }
}
