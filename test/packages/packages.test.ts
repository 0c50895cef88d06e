/** One build for all suites: it takes longer than they do. */
import { before } from 'node:test';
import { testArm } from './arm-backup.ts';
import { buildPackages, type BuiltPackages } from './built-packages.ts';
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
