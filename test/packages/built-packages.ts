import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface BuiltPackages {
  spk: Buffer;
  qpkg: Buffer;
  version: string;
}

/** Builds both packages for this machine's architecture. What was compiled once is taken from `.cache`. */
export function buildPackages(): BuiltPackages {
  const out = mkdtempSync(join(tmpdir(), 'dozo-packages-'));
  try {
    execFileSync(process.execPath, ['scripts/package/main.ts', '--arch', 'x86_64', '--out', out], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    return {
      spk: readFileSync(join(out, `Dozo-x86_64-${version}.spk`)),
      qpkg: readFileSync(join(out, `Dozo_${version}_x86_64.qpkg`)),
      version,
    };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}
