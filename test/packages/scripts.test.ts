import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

/** Everything of a package that a shell of a NAS reads: with and without a first line that names it. */
const SCRIPTS = [
  ...globSync('spk/scripts/*'),
  ...globSync('qpkg/*.sh'),
  'qpkg/package_routines',
  ...['service', 'words.sh', 'dozo'].map((name) => `scripts/package/payload/${name}`),
].sort();

const CHECKS: [name: string, command: string[]][] = [
  ['dash', ['dash', '-n']],
  ['BusyBox', ['busybox', 'sh', '-n']],
  ['bash as sh', ['bash', '--posix', '-n']],
  ['shellcheck', ['shellcheck', '--shell=sh', '--severity=warning', '--exclude=SC2034']],
];

function complaints([program = '', ...args]: string[], script: string, text?: string): string {
  const { status, stdout, stderr } = spawnSync(program, [...args, text === undefined ? script : '/dev/stdin'], {
    encoding: 'utf8',
    ...(text === undefined ? {} : { input: text }),
  });
  return status === 0 ? '' : `${script}: ${stdout}${stderr}`;
}

describe('the scripts of the packages', () => {
  for (const [name, command] of CHECKS) {
    it(`are clean for ${name}`, () => {
      assert.ok(SCRIPTS.length >= 15, SCRIPTS.join(' '));
      for (const script of SCRIPTS) assert.equal(complaints(command, script), '');
      assert.notEqual(complaints(command, 'spoilt', 'if true; then { echo; fi\n'), '', 'it sees nothing');
    });
  }

  it('have no line ends of another system', () => {
    for (const script of SCRIPTS) assert.ok(!readFileSync(script).includes('\r'), script);
  });
});
