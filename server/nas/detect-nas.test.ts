import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { silentLogger } from '../runtime/index.ts';
import { detectNas } from './detect-nas.ts';

describe('detectNas', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'dozo-detect-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  /** A program that writes its arguments down, one a line. */
  function place(path: string, exitStatus = 0): void {
    const program = join(root, path);
    mkdirSync(dirname(program), { recursive: true });
    writeFileSync(program, `#!/bin/sh\nprintf '%s\\n' "$@" > '${root}/called'\nexit ${exitStatus}\n`);
    chmodSync(program, 0o755);
  }
  const called = (): string[] => readFileSync(join(root, 'called'), 'utf8').trimEnd().split('\n');

  it('tells DSM by keys of the texts in the package', async () => {
    place('usr/syno/bin/synodsmnotify');
    const nas = detectNas(silentLogger, root);
    assert.equal(await nas.notify('error', 'the backup "nightly" failed; $(reboot)\nand more'), true);
    assert.equal(nas.name, 'DSM');
    const [, application, group, title = '', text = '', argument] = called();
    assert.deepEqual([application, group], ['SYNO.SDS.Dozo.Application', '@administrators']);
    assert.equal(argument, 'the backup "nightly" failed; $(reboot) and more');
    for (const language of ['enu', 'jpn', 'ger']) {
      const words = readFileSync(join(import.meta.dirname, `../../spk/desktop/texts/${language}/strings`), 'utf8');
      for (const key of [title, text]) {
        assert.match(key, /^Dozo:notify:/);
        assert.match(words, new RegExp(`^${key.split(':')[2]}="`, 'm'), `${language} ${key}`);
      }
    }
  });

  it("prefers DSM's notification for mail and phone, and leaves a note where that is refused", async () => {
    place('usr/syno/bin/synodsmnotify');
    place('usr/syno/bin/synonotify');
    const nas = detectNas(silentLogger, root);
    assert.equal(await nas.notify('error', 'it "failed" at %TEXT%'), true);
    const [tag = '', values = '{}'] = called();
    assert.deepEqual(JSON.parse(values), {
      '%TEXT%': 'it "failed" at %TEXT%',
      DESKTOP_NOTIFY_CLASSNAME: 'SYNO.SDS.Dozo.Application',
    });
    for (const language of ['enu', 'jpn', 'ger']) {
      const words = readFileSync(join(import.meta.dirname, `../../spk/desktop/texts/${language}/mails`), 'utf8');
      assert.ok(words.includes(`[${tag}]\n`), `${language} ${tag}`);
    }
    place('usr/syno/bin/synonotify', 1);
    assert.equal(await nas.notify('error', 'again'), true);
    assert.equal(called().at(-1), 'again');
    assert.equal(called()[0], '-c');
  });

  it('tells QTS in its event log, with a word that rules can look for', async () => {
    place('sbin/log_tool');
    const nas = detectNas(silentLogger, root);
    await nas.notify('warning', 'x'.repeat(5_000));
    assert.equal(nas.name, 'QTS');
    const words = called();
    assert.equal(words[words.indexOf('-t') + 1], '1');
    const text = words[words.indexOf('-a') + 1] ?? '';
    assert.match(text, /^\[Dozo\] x+…$/);
    assert.ok(text.length < 450);
  });

  it('names a folder as that system calls them', () => {
    assert.match(detectNas(silentLogger, root).exampleFolder, /^\/srv\//);
    place('sbin/log_tool');
    assert.match(detectNas(silentLogger, root).exampleFolder, /^\/share\//);
    place('usr/syno/bin/synodsmnotify');
    assert.match(detectNas(silentLogger, root).exampleFolder, /^\/volume1\//);
  });

  it('goes on when the NAS refuses, and on a plain Linux', async () => {
    place('sbin/log_tool', 3);
    assert.equal(await detectNas(silentLogger, root).notify('info', 'done'), false);
    assert.ok(called().includes('[Dozo] done'));
    rmSync(join(root, 'sbin'), { recursive: true });
    rmSync(join(root, 'called'));
    const plain = detectNas(silentLogger, root);
    await plain.notify('info', 'done');
    assert.equal(plain.name, 'Linux');
    assert.throws(called, /ENOENT/);
  });
});
