import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { architectureOf, type Machine } from './machine.ts';

export interface BuiltPackages {
  spk: Buffer;
  qpkg: Buffer;
  version: string;
  /** What the build said. */
  log: string;
}

/**
 * Builds both packages of an architecture. What was compiled once is taken from `.cache`. An archive that moves on is
 * no fault of what is tested here.
 */
export function buildPackages(machine: Machine): BuiltPackages {
  const { spk, qpkg } = architectureOf(machine);
  const out = mkdtempSync(join(tmpdir(), 'dozo-packages-'));
  try {
    const log = execFileSync(
      process.execPath,
      ['scripts/package/main.ts', '--newer-patches', '--arch', machine, '--out', out],
      // Its last words are then a part of the error.
      { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' },
    );
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    return {
      spk: readFileSync(join(out, `Dozo-${spk}-${version}.spk`)),
      qpkg: readFileSync(join(out, `Dozo_${version}_${qpkg}.qpkg`)),
      version,
      log,
    };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}
