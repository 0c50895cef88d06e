import assert from 'node:assert/strict';
import { SUM_MEMORY } from '../../scripts/package/measure-memory.ts';
import { ARCHITECTURES, type Architecture } from '../../scripts/package/pins.ts';

/** The processor of a NAS, as `uname -m` says it. */
export type Machine = Architecture['machine'];

/** That whose packages are tested. With DOZO_ARM=1 it is emulated, on x86-64 as all that is not the package. */
export const TESTED: Machine = process.env['DOZO_ARM'] === undefined ? 'x86_64' : 'aarch64';
const EMULATOR = '/usr/bin/qemu-aarch64-static';

export function otherThan(machine: Machine): Machine {
  return machine === 'aarch64' ? 'x86_64' : 'aarch64';
}

export function architectureOf(machine: Machine): Architecture {
  const architecture = ARCHITECTURES.find((one) => one.machine === machine);
  if (architecture === undefined) throw new Error(machine);
  return architecture;
}

/** In the name of a suite. */
export const ON_TESTED = TESTED === 'aarch64' ? ' on 64-bit Arm' : '';

/** Shell: prints `kib=` with what processes have in memory, without what emulates them. @param ids words of a shell */
export function printMemory(ids: readonly string[]): string {
  const part = TESTED === 'aarch64' ? 'emulated' : 'all';
  return `echo kib=$(awk -v part=${part} '${SUM_MEMORY}' ${ids.map((id) => `/proc/${id}/smaps`).join(' ')})`;
}

/**
 * Server and queue at rest.
 * @param kib as `printMemory` has it
 * @throws AssertionError
 */
export function assertMemory(kib: string | undefined): void {
  assert.ok(Number(kib) > 10_000 && Number(kib) < 150 * 1024, `${kib} KiB at rest`);
}

/**
 * The processes of a package have nothing of the system in them, but what emulates them.
 * @param mapped as `PRINT_MAPPED` has it
 * @throws AssertionError
 */
export function assertMapped(mapped: string | undefined, folder: string): void {
  const paths = (mapped ?? '').trim().split(' ');
  assert.equal(paths.includes(EMULATOR), TESTED === 'aarch64', `whether it is emulated: ${mapped}`);
  const own = paths.filter((path) => path !== EMULATOR);
  assert.ok(own.length >= 6, mapped);
  for (const path of own) assert.ok(path.startsWith(folder), path);
}
