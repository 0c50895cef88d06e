import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { PieceHasher } from './write-disk.ts';

/** Pieces as `[offset, content]`, found again by their hashes among all that follow each other. */
function pieces(max: number, ...list: [number, string][]): [number, number, string][] {
  const hasher = new PieceHasher(max);
  for (const [offsetBytes, text] of list) hasher.add(offsetBytes, Buffer.from(text), null);
  const { extents, digests, writtenBytes } = hasher.finish();
  assert.equal(
    writtenBytes,
    list.reduce((sum, [, text]) => sum + text.length, 0),
  );
  return extents.map(({ offsetBytes, lengthBytes }, at) => [
    offsetBytes,
    lengthBytes,
    digests[at]?.toString('hex') ?? '',
  ]);
}

function piece(offsetBytes: number, text: string): [number, number, string] {
  return [offsetBytes, text.length, createHash('sha256').update(text).digest('hex')];
}

test('hashes chunks that follow each other as one piece, and only those', () => {
  assert.deepEqual(pieces(100, [0, 'ab'], [2, 'cd'], [8, 'ef'], [10, 'g'], [4, 'hi']), [
    piece(0, 'abcd'),
    piece(8, 'efg'),
    piece(4, 'hi'),
  ]);
});

test('keeps pieces below the size, unless a chunk is larger', () => {
  assert.deepEqual(pieces(4, [0, 'ab'], [2, 'cd'], [4, 'e'], [5, 'fghij'], [10, 'k']), [
    piece(0, 'abcd'),
    piece(4, 'e'),
    piece(5, 'fghij'),
    piece(10, 'k'),
  ]);
  assert.deepEqual(pieces(4), []);
});

test('makes the hash of a piece of those of its chunks, which are of one size but for the last', () => {
  const sha256 = (data: Buffer | string) => createHash('sha256').update(data).digest();
  const hasher = new PieceHasher(8);
  const chunks: [number, string][] = [
    [0, 'abcd'],
    [4, 'ef'],
    [6, 'gh'],
    [8, 'ijkl'],
    [12, 'mnop'],
    [16, 'qrst'],
  ];
  for (const [offsetBytes, text] of chunks) hasher.add(offsetBytes, Buffer.from(text), sha256(text));
  hasher.add(20, Buffer.from('uv'), null);
  const { extents, digests } = hasher.finish();
  assert.deepEqual(extents, [
    { offsetBytes: 0, lengthBytes: 6, chunkBytes: 4 },
    { offsetBytes: 6, lengthBytes: 2, chunkBytes: 2 },
    { offsetBytes: 8, lengthBytes: 8, chunkBytes: 4 },
    { offsetBytes: 16, lengthBytes: 4, chunkBytes: 4 },
    { offsetBytes: 20, lengthBytes: 2, chunkBytes: null },
  ]);
  assert.deepEqual(digests, [
    sha256(Buffer.concat([sha256('abcd'), sha256('ef')])),
    sha256(sha256('gh')),
    sha256(Buffer.concat([sha256('ijkl'), sha256('mnop')])),
    sha256(sha256('qrst')),
    sha256('uv'),
  ]);
});
