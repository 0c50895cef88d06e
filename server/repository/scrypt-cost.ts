import { randomBytes, scrypt } from 'node:crypto';
import { systemClock } from '../runtime/index.ts';

/**
 * How hard a passphrase is to guess, decided on the machine that makes the slot: about half a second a guess,
 * within the memory that the smallest NAS can spare. Section 11 of the format.
 */

/** The most that a reader takes; 1 GiB of memory at r = 8. */
export const SCRYPT_N_MAX = 1_048_576;
/** 32 MiB: never less, however slow the machine is. */
const N_MIN = 32_768;
/** 128 MiB: a NAS of 2 GB still makes and opens such a slot beside its other work. */
const N_WANTED_MAX = 131_072;
const TRIAL_N = 8_192;
const GOAL_MS = 500;
const R = 8;
const P = 1;

let measuring: Promise<number> | null = null;

export async function measuredScryptCost(): Promise<{ n: number; r: number; p: number }> {
  measuring ??= measureTrialMs();
  return { n: chooseScryptN(await measuring), r: R, p: P };
}

/** The largest power of two whose time, linear in n, stays within the goal; within the bounds. */
export function chooseScryptN(trialMs: number): number {
  let n = N_MIN;
  while (n < N_WANTED_MAX && (n * 2 * trialMs) / TRIAL_N <= GOAL_MS) n *= 2;
  return n;
}

async function measureTrialMs(): Promise<number> {
  const startedMs = systemClock.monotonicMs();
  await new Promise<void>((resolve, reject) => {
    scrypt('trial', randomBytes(16), 32, { N: TRIAL_N, r: R, p: P, maxmem: 256 * TRIAL_N * R }, (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  return systemClock.monotonicMs() - startedMs;
}
