import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { ChunkIndex } from './chunk-index.ts';

function idOf(number: number): Buffer {
  return createHash('sha256').update(String(number)).digest();
}

describe('the chunk index', () => {
  it('finds every chunk that was put in, and no other', () => {
    const index = new ChunkIndex();
    for (let number = 0; number < 50_000; number += 1)
      index.insert(idOf(number), Math.floor(number / 200), number % 200);

    assert.equal(index.size, 50_000);
    for (let number = 0; number < 50_000; number += 7) {
      assert.deepEqual(index.candidates(idOf(number)), [{ pack: Math.floor(number / 200), row: number % 200 }]);
    }
    for (let number = 50_000; number < 60_000; number += 1) assert.deepEqual(index.candidates(idOf(number)), []);
  });

  it('takes at most 24 bytes a chunk once it has grown', () => {
    const index = new ChunkIndex();
    let worst = 0;
    for (let number = 0; number < 400_000; number += 1) {
      const id = Buffer.alloc(32);
      // A cheap even spread: the index looks at the first nine bytes.
      id[0] = number & 255;
      id.writeUInt32LE(Math.imul(number, 2_654_435_761) >>> 0, 1);
      id.writeUInt32LE(number, 5);
      index.insert(id, 1, 1);
      if (number > 100_000 && number % 5000 === 0) worst = Math.max(worst, index.memoryBytes / index.size);
    }
    assert.ok(worst <= 24, `${worst.toFixed(1)} bytes a chunk`);
  });

  it('names every chunk whose first bytes are the same, for the whole identity to decide', () => {
    const index = new ChunkIndex();
    const one = idOf(1);
    const twin = Buffer.from(one);
    twin[31] = (twin[31] as number) ^ 1;
    index.insert(one, 3, 4);
    index.insert(twin, 5, 65_534);

    assert.deepEqual(index.candidates(one), [
      { pack: 3, row: 4 },
      { pack: 5, row: 65_534 },
    ]);
  });
});
