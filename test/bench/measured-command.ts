import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryWatch, cpuSeconds, listChildren, listTree } from './process-tree.ts';

const MEMORY_LOOK_MS = 100;

export interface Cost {
  /** Wall clock, from starting the shell until its end. */
  seconds: number;
  /** User and system, of all processes of the command. */
  cpuSeconds: number;
  /** The same of the other side: everything below this process that is not the command. */
  hostCpuSeconds: number;
  /** Highest sum of the resident sizes of the command's processes, looked at every 100 ms. */
  memorySumBytes: number;
  /** Highest resident size of any one of them, as the kernel recorded it. */
  memoryLargestBytes: number;
}

/**
 * Runs a script with bash and measures what it costs. CPU time comes from the shell itself, which
 * counts all that it waited for. Standard error is kept for the error's text.
 *
 * @throws when the script fails, with the end of what it said
 */
export async function measureCommand(
  script: string,
  options: { scratch: string; env?: Record<string, string> },
): Promise<Cost & { stdout: string }> {
  const timesFile = join(options.scratch, 'times');
  rmSync(timesFile, { force: true });
  const hostIds = listChildren(process.pid);
  const hostBefore = cpuSeconds(hostIds.flatMap(listTree));
  const startedMs = performance.now();
  const child = spawn('bash', ['-c', `set -euo pipefail\ntrap 'times > "$BENCH_TIMES"' EXIT\n${script}`], {
    env: { ...process.env, ...options.env, BENCH_TIMES: timesFile },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const memory = new MemoryWatch(child.pid ?? 0, MEMORY_LOOK_MS);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-4000)));
  const ended = Promise.withResolvers<number | null>();
  child.on('error', ended.reject).on('close', ended.resolve);
  const status = await ended.promise;
  const seconds = (performance.now() - startedMs) / 1000;
  const { sumPeakBytes, largestPeakBytes } = memory.stop();
  if (status !== 0) throw new Error(`exit status ${String(status)} of: ${script}\n${stderr}${stdout.slice(-2000)}`);
  return {
    seconds,
    cpuSeconds: parseTimes(readFileSync(timesFile, 'utf8')),
    hostCpuSeconds: cpuSeconds(hostIds.flatMap(listTree)) - hostBefore,
    memorySumBytes: Math.max(sumPeakBytes, largestPeakBytes),
    memoryLargestBytes: largestPeakBytes,
    stdout,
  };
}

/** Output of the shell's `times`: user and system of the shell, then of its children; `0m1.234s`. */
export function parseTimes(text: string): number {
  const times = [...text.matchAll(/(\d+)m(\d+\.\d+)s/g)];
  if (times.length !== 4) throw new Error(`not the output of times: ${text}`);
  return times.reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds), 0);
}
