import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { subtractExtents, totalBytes, type Extent } from '../disk/index.ts';
import { KIB, MIB } from '../runtime/index.ts';
import { findReadAgain } from './skipped-space.ts';

const CHUNK = 256 * KIB;

/** A version that holds data where it is said. */
function versionOf(sizeBytes: number, data: Extent[]): Parameters<typeof findReadAgain>[0] {
  return {
    sizeBytes,
    async *dataExtents() {
      yield* data;
    },
  };
}

describe('what a version without its free space leaves to be read again', () => {
  it('are the zeros before, between and behind its data, up to the end of the smaller disk', async () => {
    const version = versionOf(10 * MIB, [
      { offsetBytes: MIB, lengthBytes: 2 * MIB },
      { offsetBytes: 4 * MIB, lengthBytes: MIB },
    ]);
    const extents = [
      { offsetBytes: 0, lengthBytes: MIB },
      { offsetBytes: 3 * MIB, lengthBytes: MIB },
    ];
    const last = { offsetBytes: 5 * MIB, lengthBytes: 5 * MIB };
    const isInherited = false;
    assert.deepEqual(await findReadAgain(version, 20 * MIB, []), { extents: [...extents, last], isInherited });
    assert.deepEqual(await findReadAgain(version, 4 * MIB, []), { extents, isInherited });
    const full = versionOf(MIB, [{ offsetBytes: 0, lengthBytes: MIB }]);
    assert.deepEqual(await findReadAgain(full, 8 * MIB, []), { extents: [], isInherited });
    const empty = await findReadAgain(versionOf(MIB, []), 8 * MIB, []);
    assert.deepEqual(empty, { extents: [{ offsetBytes: 0, lengthBytes: MIB }], isInherited });
  });

  it('is nothing that is left out now as well', async () => {
    const version = versionOf(10 * MIB, [{ offsetBytes: 4 * MIB, lengthBytes: MIB }]);
    const skipped = [
      { offsetBytes: MIB, lengthBytes: MIB },
      { offsetBytes: 3 * MIB, lengthBytes: 3 * MIB },
      { offsetBytes: 9 * MIB, lengthBytes: MIB },
    ];
    assert.deepEqual(await findReadAgain(version, 10 * MIB, skipped), {
      extents: [
        { offsetBytes: 0, lengthBytes: MIB },
        { offsetBytes: 2 * MIB, lengthBytes: MIB },
        { offsetBytes: 6 * MIB, lengthBytes: 3 * MIB },
      ],
      isInherited: true,
    });
    const onlyData = [{ offsetBytes: 4 * MIB, lengthBytes: MIB }];
    assert.equal((await findReadAgain(version, 10 * MIB, onlyData)).isInherited, false);
  });

  it('are few runs that miss no zeros, of a version torn into very many', async () => {
    const chunksAfter = (index: number): number => (index < 50_000 ? 64 * index : 64 * 50_000 + 2 * (index - 50_000));
    const data = Array.from({ length: 200_000 }, (_, index) => ({
      offsetBytes: chunksAfter(index) * CHUNK,
      // Long ones far apart are not read along for short ones that are.
      lengthBytes: (index < 50_000 ? 32 : 1) * CHUNK,
    }));
    const sizeBytes = chunksAfter(200_000) * CHUNK;
    const { extents } = await findReadAgain(versionOf(sizeBytes, data), sizeBytes, []);
    assert.ok(extents.length <= 65_536, `${extents.length} runs`);
    const zeros = subtractExtents([{ offsetBytes: 0, lengthBytes: sizeBytes }], data);
    assert.deepEqual(subtractExtents(zeros, extents), []);
    assert.ok(totalBytes(extents) < sizeBytes * 0.6);
  });
});
