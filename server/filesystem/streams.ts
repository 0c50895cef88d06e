import type { Extent } from '../disk/index.ts';

/** Extents in ascending order, those that touch made one. */
export async function* joinTouching(extents: AsyncIterable<Extent>): AsyncGenerator<Extent> {
  let pending: Extent | null = null;
  for await (const extent of extents) {
    if (pending !== null && pending.offsetBytes + pending.lengthBytes === extent.offsetBytes) {
      pending.lengthBytes += extent.lengthBytes;
    } else {
      if (pending !== null) yield pending;
      pending = { ...extent };
    }
  }
  if (pending !== null) yield pending;
}

/** The same items in arrays of `size`; the last may be shorter, none is empty. */
export async function* inBatches<Item>(items: AsyncIterable<Item>, size: number): AsyncGenerator<Item[]> {
  let batch: Item[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
