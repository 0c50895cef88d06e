import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { writeLightQpkg } from './light-packages.ts';
import { inspectQpkg } from './qpkg-reader.ts';

/** Replaces text of the header, or of what is not compressed, by text of the same length. */
function swap(from: string, to: string): (file: Buffer) => Buffer {
  return (file) => {
    assert.equal(from.length, to.length);
    const at = file.indexOf(from, 0, 'latin1');
    assert.ok(at >= 0, `${from} is not there`);
    return Buffer.concat([file.subarray(0, at), Buffer.from(to, 'latin1'), file.subarray(at + from.length)]);
  };
}

/** In the field of the first archive that begins so many bytes behind its start, with its checksum made anew. */
function inArchive(offset: number, text: string): (file: Buffer) => Buffer {
  return (file) => {
    const copy = Buffer.from(file);
    const { headerBytes } = inspectQpkg(file);
    const block = copy.subarray(headerBytes, headerBytes + 512);
    block.write(text, offset, 'latin1');
    block.fill(' ', 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    return copy;
  };
}

const SPOILT: [problem: string, spoil: (file: Buffer) => Buffer, words: RegExp][] = [
  ['bytes at its end', (file) => Buffer.concat([file, Buffer.from('x')]), /flag|reserved|checksum|plain text/],
  ['a cut', (file) => Buffer.concat([file.subarray(0, 8192), file.subarray(-100)]), /checksum of the size/],
  [
    'a checksum of another size',
    (file) => {
      const at = file.length - 60;
      const digit = String((Number(String.fromCharCode(file[at + 9] ?? 0)) + 1) % 10);
      return Buffer.concat([file.subarray(0, at + 9), Buffer.from(digit), file.subarray(at + 10)]);
    },
    /checksum of the size/,
  ],
  [
    'another name in its tail',
    (file) => Buffer.concat([file.subarray(0, -40), Buffer.from('Bozo'), file.subarray(-36)]),
    /name in the tail/,
  ],
  ['a length that its header does not have', swap('script_len=4096', 'script_len=4095'), /another end/],
  ['a line of the header for another system', swap('PATH\nscript_len', 'PATH\rscript_len'), /more than plain lines/],
  [
    'two lines that a query would run',
    swap('tar -x -C $_EXTRACT_DIR ||', 'tar -xv -C $_EXTRACT_DIR||'),
    /query would run/,
  ],
  ['a number that is no length', swap('$script_len + ', '$script_len+1 '), /offsets/],
  ['an archive of a user', inArchive(108, '0001750\0'), /owner/],
  ['an archive with extensions', inArchive(156, 'x'), /kind x/],
  ['an archive that a NAS does not read', inArchive(257, 'ustar  \0'), /dialect/],
  ['an archive under another name', inArchive(0, 'control.tar.gz2'), /what it holds/],
];

describe('the form of a QPKG, by a reader that knows nothing of its writer', () => {
  for (const machine of ['x86_64', 'aarch64'] as const) {
    it(`is what App Center and QNAP's own tools read, on ${machine}`, () => {
      const { settings, control, payload } = inspectQpkg(writeLightQpkg({ version: '1.2.3', machine }));
      assert.equal(settings.get('QPKG_VER'), '1.2.3');
      assert.ok(control.has('./install.sh'));
      assert.equal(payload.get('./version')?.data.toString(), '1.2.3\n');
    });
  }
  const good = writeLightQpkg({ version: '1.2.3' });
  for (const [problem, spoil, words] of SPOILT) {
    it(`would be refused with ${problem}`, () => {
      const bad = spoil(good);
      assert.throws(
        () => inspectQpkg(bad),
        (error) => error instanceof assert.AssertionError && words.test(error.message),
      );
    });
  }
});
