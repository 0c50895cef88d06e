/**
 * How a process that moves disks is started. All of it concerns Node's own buffers: they lie outside of
 * V8's heap, and V8 collects its whole heap again and again only to get rid of them. Measured with
 * `npm run bench`, 4 GiB, two cores:
 *
 * - `--single-threaded-gc`: without it four more threads help to collect a small heap, at a quarter of all
 *   processor time; the collecting thread itself needs no longer. A full backup takes 17 % less.
 * - `--max-semi-space-size=2`, `MALLOC_ARENA_MAX=2`: 50 MB less at no cost. By default V8 lets the space for
 *   young objects grow to 16 MB a thread though hardly any are made, and the C library gives every thread
 *   heaps of its own, which keep what was freed.
 *
 * Not taken: `--optimize-for-size`, with which V8 collects a heap before it lets it grow: 8 MB less for a full backup
 * and 50 MB less for a restore, which then take 16 and 22 % more processor time (1 GiB). Beside that,
 * `MALLOC_MMAP_THRESHOLD_=200000` gives every freed chunk back at once, which leaves 184 MB of 260 in a restore and
 * changes nothing in a backup, where compressing a chunk then takes half as long again.
 */
export const SMALL_PROCESS: { execArgv: string[]; environment: Record<string, string> } = {
  execArgv: ['--max-semi-space-size=2', '--single-threaded-gc'],
  environment: { MALLOC_ARENA_MAX: '2' },
};
