/**
 * Results of `work` in the order of the items, so many of which are worked on at a time: for what waits, for a disk
 * above all. Whoever leaves the loop early, or whom a failure ends it for, waits for those that had begun.
 *
 * @param atOnce at least 1; as many results are in memory at the most
 * @throws what `work` throws, when it is that item's turn
 */
export async function* workAhead<Item, Result>(
  items: Iterable<Item>,
  atOnce: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void, undefined> {
  const running: Promise<Result>[] = [];
  try {
    for (const item of items) {
      while (running.length >= atOnce) yield await (running.shift() as Promise<Result>);
      const one = work(item);
      // It may fail before its turn comes.
      one.catch(() => undefined);
      running.push(one);
    }
    while (running.length > 0) yield await (running.shift() as Promise<Result>);
  } finally {
    await Promise.allSettled(running);
  }
}
