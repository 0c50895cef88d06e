import { normalizeExtents, subtractExtents, type Extent } from '../disk/index.ts';

/**
 * Which bytes of a disk have arrived. Bytes mostly arrive in a few ascending streams, so an addition
 * nearly always extends a run that exists; the runs stay few and sorted.
 */
export class ExtentSet {
  #runs: Extent[];
  #totalBytes = 0;

  constructor(extents: Iterable<Extent> = []) {
    this.#runs = normalizeExtents(extents);
    for (const run of this.#runs) this.#totalBytes += run.lengthBytes;
  }

  /** Bytes in the set, each counted once. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  add(offsetBytes: number, lengthBytes: number): void {
    if (lengthBytes <= 0) return;
    let start = offsetBytes;
    let end = offsetBytes + lengthBytes;
    const first = this.#firstEndingAtOrAfter(start);
    let past = first;
    for (; past < this.#runs.length; past += 1) {
      const run = this.#runs[past];
      if (run === undefined || run.offsetBytes > end) break;
      start = Math.min(start, run.offsetBytes);
      end = Math.max(end, run.offsetBytes + run.lengthBytes);
      this.#totalBytes -= run.lengthBytes;
    }
    const joined = { offsetBytes: start, lengthBytes: end - start };
    if (past === first + 1) this.#runs[first] = joined;
    else this.#runs.splice(first, past - first, joined);
    this.#totalBytes += joined.lengthBytes;
  }

  /** The runs, sorted and not touching; a copy. */
  extents(): Extent[] {
    return this.#runs.map((run) => ({ ...run }));
  }

  /** What of `extents` (normalized) is not in the set. */
  missingFrom(extents: readonly Extent[]): Extent[] {
    return subtractExtents(extents, this.#runs);
  }

  /** Index of the first run that ends at or after `offsetBytes`. */
  #firstEndingAtOrAfter(offsetBytes: number): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const run = this.#runs[middle];
      if (run !== undefined && run.offsetBytes + run.lengthBytes < offsetBytes) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
