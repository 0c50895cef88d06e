import { readFile } from 'node:fs/promises';
import { uptime } from 'node:os';

/**
 * Which start of the system this is, and how long ago it was: by a clock that nobody sets and that goes on while the
 * system sleeps (CLOCK_BOOTTIME). Null where the system has no id of it.
 */
export async function readBoot(): Promise<{ bootId: string | null; uptimeMs: number }> {
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'latin1').catch(() => '')).trim();
  return { bootId: bootId === '' ? null : bootId, uptimeMs: uptime() * 1000 };
}
