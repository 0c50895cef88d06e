/** One build for all suites: it takes longer than they do. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { measureIdleMemory } from '../../scripts/package/measure-memory.ts';
import { readSpk } from './archives.ts';
import { buildPackages, type BuiltPackages } from './built-packages.ts';
import { architectureOf, ON_TESTED, TESTED } from './machine.ts';
import { testQnapBackup } from './qnap-backup.ts';
import { testQnap } from './qnap-suite.ts';
import { testSynologyBackup } from './synology-backup.ts';
import { testSynologyProblems } from './synology-problems.ts';
import { testSynology } from './synology-suite.ts';
import { testWithoutAvx } from './without-avx.ts';

let packages: BuiltPackages | null = null;
before(() => {
  packages = buildPackages(TESTED);
});

function built(): BuiltPackages {
  if (packages === null) throw new Error('the packages are not built');
  return packages;
}

describe(`the build${ON_TESTED}`, () => {
  it('has started what it packed, and would not let pass what does not start', () => {
    const { log, spk } = built();
    const measured = new RegExp(`^${TESTED}: server and queue at rest (\\d+\\.\\d) MiB$`, 'm');
    const [, mebibytes] = measured.exec(log) ?? [];
    assert.ok(Number(mebibytes) > 10 && Number(mebibytes) < 150, log);
    const dead = readSpk(spk)
      .payload.filter(({ type }) => type === '0')
      .map(({ name, mode, data }) => ({
        path: name,
        mode,
        data: name === 'server/server-main.js' ? Buffer.from('throw new Error("packed wrongly");') : data,
      }));
    const words = new RegExp(`${TESTED} does not start[^]*packed wrongly`);
    assert.throws(() => measureIdleMemory(architectureOf(TESTED), dead), words);
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
// Emulated, which continuous integration has no emulator for.
if (process.env['DOZO_WITHOUT_AVX'] !== undefined) testWithoutAvx(built);
