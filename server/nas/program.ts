import { execFile } from 'node:child_process';
import { basename } from 'node:path';
import type { Logger } from '../runtime/index.ts';

export interface Ended {
  /** Null: it could not be started, or was ended for taking too long. */
  status: number | null;
  output: string;
}

/** Programs of a NAS sometimes hang while its database is busy. */
const TIMEOUT_MS = 20_000;
const OUTPUT_BYTES_MAX = 64 * 1024;

/**
 * Runs a program of the NAS, never through a shell. Never rejects, and resolves soon after the time limit whatever the
 * program does: one that heeds no signal, or that has left the output to a process of its own, holds nobody up.
 */
export function runProgram(
  program: string,
  args: readonly string[],
  environment?: Record<string, string>,
  timeoutMs = TIMEOUT_MS,
): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { maxBuffer: OUTPUT_BYTES_MAX, ...(environment === undefined ? {} : { env: environment }) };
    let said = '';
    const child = execFile(program, args, options, (error, output) => {
      clearTimeout(timer);
      const code: unknown = error?.code;
      resolve({ status: error === null ? 0 : typeof code === 'number' ? code : null, output });
    });
    child.stdout?.on('data', (piece: string) => (said += piece));
    const timer = setTimeout(() => {
      const status = child.exitCode;
      child.kill('SIGKILL');
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve({ status, output: said });
    }, timeoutMs);
  });
}

/**
 * Programs with their arguments, tried in turn until one takes the notice.
 * @returns whether one did
 */
export async function tell(nas: string, logger: Logger, ways: readonly string[][]): Promise<boolean> {
  for (const [program = '', ...args] of ways) {
    const { status } = await runProgram(program, args);
    if (status === 0) return true;
    logger.warn({ status, nas, program: basename(program) }, 'the NAS did not take a notice');
  }
  return false;
}

/** Names of machines come from a host: nothing of them may end the line. */
export function toLine(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').trim();
  return line.length > TEXT_CHARACTERS_MAX ? `${line.slice(0, TEXT_CHARACTERS_MAX - 1)}…` : line;
}

const TEXT_CHARACTERS_MAX = 400;

/** All values of a cookie, in the order in which they came: browsers may send several of one name. */
export function cookieValues(header: string, name: string): string[] {
  return header
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part.startsWith(`${name}=`))
    .map((part) => part.slice(name.length + 1));
}
