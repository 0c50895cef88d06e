import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { freeName, makeUnderName, safeName } from './target-folder.ts';

const HOSTILE = ['', '.', '..', '../up', '/etc/passwd', 'a\0b', '\u001b[2J', '\ud800', 'x'.repeat(5000), '...', '. .'];

function refuse(code: string): Error {
  return Object.assign(new Error(code), { code });
}

describe('names in the folder that is restored into', () => {
  it('are one name each, whatever a guest or a repository says', () => {
    const names = new Set<string>();
    const given = [...HOSTILE.map((name) => freeName(names, name)), ...HOSTILE.map((name) => freeName(names, name))];

    assert.equal(new Set(given.map((name) => name.toLowerCase())).size, 2 * HOSTILE.length);
    for (const name of [...given, ...HOSTILE.flatMap((one) => [safeName(one, 'linux'), safeName(one, 'win32')])]) {
      assert.doesNotMatch(name, /[\u0000-\u001f\u007f/]/);
      assert.ok(name !== '' && name !== '.' && name !== '..' && name.isWellFormed());
    }
  });

  it('stay as they are where the system takes them', () => {
    for (const name of ['.bashrc', 'a:b', 'back\\slash', 'nul', '日本語 ü', 'ends.'])
      assert.equal(safeName(name, 'linux'), name);
    assert.deepEqual(
      ['a:stream', 'back\\slash', 'nul', 'COM1.txt', 'console', 'ends.', 'ends '].map((name) =>
        safeName(name, 'win32'),
      ),
      ['a_stream', 'back_slash', '_nul', '_COM1.txt', 'console', 'ends_', 'ends_'],
    );
  });

  it('give way where the folder takes two for the same, or one not at all', async () => {
    // As a share does that keeps no difference of case and no colons.
    const there = new Set<string>();
    const make = async (place: string): Promise<string> => {
      const name = place.slice('/folder/'.length);
      if (name.includes(':')) throw refuse('EINVAL');
      if (name.length > 200) throw refuse('ENAMETOOLONG');
      if (there.has(name.toLowerCase())) throw refuse('EEXIST');
      there.add(name.toLowerCase());
      return Promise.resolve(name);
    };
    const names: string[] = [];
    for (const wanted of ['Read.me', 'read.me', 'READ.ME', 'a:b', 'a_b', 'x'.repeat(250)])
      names.push((await makeUnderName('/folder', wanted, make)).name);
    assert.deepEqual(names, ['Read.me', 'read-2.me', 'READ-3.ME', 'a_b', 'a_b-2', 'x'.repeat(120)]);
  });

  it('come to an end where there is none, and pass on what the folder says', async () => {
    let tries = 0;
    const full = (): Promise<never> => {
      tries += 1;
      return Promise.reject(refuse('EEXIST'));
    };
    await assert.rejects(makeUnderName('/folder', 'a', full), { code: 'EEXIST' });
    assert.ok(tries <= 100);
    await assert.rejects(
      makeUnderName('/folder', 'a', () => Promise.reject(refuse('ENOSPC'))),
      { code: 'ENOSPC' },
    );
    await assert.rejects(
      makeUnderName('/folder', 'a', () => Promise.reject(refuse('EINVAL'))),
      { code: 'EINVAL' },
    );
  });
});
