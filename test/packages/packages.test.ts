/** One build for all suites: it takes longer than they do. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { measureIdleMemory } from '../../scripts/package/measure-memory.ts';
import { ARCHITECTURES } from '../../scripts/package/pins.ts';
import { readSpk } from './archives.ts';
import { buildPackages, type BuiltPackages } from './built-packages.ts';
import { testArm, testWithoutAvx } from './emulated.ts';
import { testQnapBackup } from './qnap-backup.ts';
import { testQnap } from './qnap-suite.ts';
import { testSynologyBackup } from './synology-backup.ts';
import { testSynologyProblems } from './synology-problems.ts';
import { testSynology } from './synology-suite.ts';

let packages: BuiltPackages | null = null;
before(() => {
  packages = buildPackages('x86_64');
});

function built(): BuiltPackages {
  if (packages === null) throw new Error('the packages are not built');
  return packages;
}

describe('the build', () => {
  it('has started what it packed, and would not let pass what does not start', () => {
    const { log, spk } = built();
    const [, mebibytes] = /^x86_64: server and queue at rest (\d+\.\d) MiB$/m.exec(log) ?? [];
    assert.ok(Number(mebibytes) > 10 && Number(mebibytes) < 150, log);
    const [architecture] = ARCHITECTURES;
    assert.ok(architecture);
    const dead = readSpk(spk)
      .payload.filter(({ type }) => type === '0')
      .map(({ name, mode, data }) => ({
        path: name,
        mode,
        data: name === 'server/server-main.js' ? Buffer.from('throw new Error("packed wrongly");') : data,
      }));
    assert.throws(() => measureIdleMemory(architecture, dead), /x86_64 does not start[^]*packed wrongly/);
  });
});
testSynologyProblems(built);
testSynology(built);
testQnap('dash', built);
testQnap('busybox', built);
testSynologyBackup(built);
testQnapBackup(built);
// By zfs-fuse, which is installed for this alone.
if (process.env['DOZO_ZFS'] !== undefined) testQnapBackup(built, 'QuTS hero');
// Emulated, and cross-compiled before: many minutes.
if (process.env['DOZO_ARM'] !== undefined) testArm();
// Emulated, too, which continuous integration has no emulator for.
if (process.env['DOZO_WITHOUT_AVX'] !== undefined) testWithoutAvx(built);
