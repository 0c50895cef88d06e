import { readFileSync, readdirSync } from 'node:fs';

/** Kernel ticks a second in /proc, a constant of Linux's user interface. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

/** The process and everything below it that is alive. */
export function listTree(rootId: number): number[] {
  const found = [rootId];
  for (let at = 0; at < found.length; at += 1) found.push(...listChildren(found[at] ?? 0));
  return found;
}

export function listChildren(processId: number): number[] {
  try {
    // Children belong to the thread that started them.
    return readdirSync(`/proc/${String(processId)}/task`).flatMap((thread) =>
      readFileSync(`/proc/${String(processId)}/task/${thread}/children`, 'utf8')
        .split(' ')
        .filter((id) => id !== '')
        .map(Number),
    );
  } catch {
    return []; // It ended meanwhile.
  }
}

/** CPU seconds of these processes and of all their ended children, user and system. */
export function cpuSeconds(processIds: readonly number[]): number {
  let ticks = 0;
  for (const processId of processIds) {
    try {
      const stat = readFileSync(`/proc/${String(processId)}/stat`, 'utf8');
      // The name in parentheses may hold blanks; utime, stime, cutime, cstime are fields 14 to 17.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      for (const field of fields.slice(11, 15)) ticks += Number(field);
    } catch {
      // It ended meanwhile; its parent has counted it.
    }
  }
  return ticks / TICKS_PER_SECOND;
}

export function residentBytes(processId: number): number {
  try {
    return Number(readFileSync(`/proc/${String(processId)}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0;
  }
}

/** The kernel's own record of a process's highest resident size. */
export function residentPeakBytes(processId: number): number {
  try {
    const status = readFileSync(`/proc/${String(processId)}/status`, 'utf8');
    return Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Watches a tree of processes for its memory. */
export class MemoryWatch {
  readonly #rootId: number;
  readonly #timer: NodeJS.Timeout;
  #sumPeakBytes = 0;
  #largestPeakBytes = 0;

  constructor(rootId: number, intervalMs: number) {
    this.#rootId = rootId;
    this.#timer = setInterval(() => {
      this.#look();
    }, intervalMs);
  }

  #look(): void {
    const tree = listTree(this.#rootId);
    const sumBytes = tree.reduce((sum, processId) => sum + residentBytes(processId), 0);
    this.#sumPeakBytes = Math.max(this.#sumPeakBytes, sumBytes);
    this.#largestPeakBytes = Math.max(this.#largestPeakBytes, ...tree.map(residentPeakBytes));
  }

  stop(): { sumPeakBytes: number; largestPeakBytes: number } {
    clearInterval(this.#timer);
    return { sumPeakBytes: this.#sumPeakBytes, largestPeakBytes: this.#largestPeakBytes };
  }
}
