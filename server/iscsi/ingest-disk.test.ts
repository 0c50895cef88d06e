import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { DiskSink, Extent } from '../disk/index.ts';
import { createIngestDisk } from './ingest-disk.ts';

const SECTORS = 4096;
const SIZE_BYTES = SECTORS * 512;
const PREVIOUS = Buffer.alloc(SIZE_BYTES, 'previous version ');

/** Takes what comes a moment later, as a chunker does. */
function sinkOver(image: Buffer, fails = (): Error | null => null): DiskSink {
  const later = async (work: () => void): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    const failure = fails();
    if (failure !== null) throw failure;
    work();
  };
  return {
    read: async (offsetBytes, lengthBytes) => Buffer.from(image.subarray(offsetBytes, offsetBytes + lengthBytes)),
    write: (offsetBytes, data) => later(() => data.copy(image, offsetBytes)),
    zero: (offsetBytes, lengthBytes) => later(() => image.fill(0, offsetBytes, offsetBytes + lengthBytes)),
  };
}

/** What an initiator may do, short and long, anywhere and again. */
const STEP = fc.record({
  kind: fc.constantFrom('write', 'zero', 'discard', 'read', 'flush'),
  sector: fc.integer({ min: 0, max: SECTORS - 1 }),
  sectors: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 1500 })),
  fill: fc.integer({ min: 1, max: 255 }),
});

describe('An ingest disk', () => {
  it('holds what was written last, else the previous version, whatever the order, overlap and size', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(STEP, { minLength: 1, maxLength: 60 }), async (steps) => {
        const [image, expected] = [Buffer.from(PREVIOUS), Buffer.from(PREVIOUS)];
        const touched = new Uint8Array(SECTORS);
        const disk = createIngestDisk(sinkOver(image), SIZE_BYTES);
        for (const { kind, sector, sectors, fill } of steps) {
          const count = Math.min(sectors, SECTORS - sector);
          const [start, end] = [sector * 512, (sector + count) * 512];
          if (kind === 'read') assert.ok((await disk.read(start, end - start)).equals(expected.subarray(start, end)));
          else if (kind === 'flush') await disk.flush();
          else {
            if (kind === 'write') await disk.write(start, Buffer.alloc(end - start, fill));
            else await disk[kind](start, end - start);
            expected.fill(kind === 'write' ? fill : 0, start, end);
            touched.fill(1, sector, sector + count);
          }
        }

        const left = await disk.finish();

        assert.ok(image.equals(expected));
        assert.deepEqual(left, untouched(touched));
      }),
      { numRuns: 60 },
    );
  });

  it('keeps every one of many writes at once, and each read sees those that were answered before', async () => {
    const image = Buffer.from(PREVIOUS);
    const disk = createIngestDisk(sinkOver(image), SIZE_BYTES);
    // From the end to the beginning, so that nothing joins.
    const order = Array.from({ length: SECTORS }, (_, index) => SECTORS - 1 - index).filter(
      (sector) => sector % 2 === 0,
    );
    await Promise.all(
      order.map(async (sector) => {
        await disk.write(sector * 512, Buffer.alloc(512, sector % 251));
        assert.ok((await disk.read(sector * 512, 512)).equals(Buffer.alloc(512, sector % 251)));
      }),
    );

    const left = await disk.finish();

    assert.equal(left.length, SECTORS / 2);
    for (const { offsetBytes, lengthBytes } of left) {
      assert.deepEqual([(offsetBytes / 512) % 2, lengthBytes], [1, 512]);
      assert.ok(
        image.subarray(offsetBytes, offsetBytes + 512).equals(PREVIOUS.subarray(offsetBytes, offsetBytes + 512)),
      );
    }
  });

  it('is not complete once a write failed, though the initiator goes on', async () => {
    let failure: Error | null = new Error('the store is full');
    const disk = createIngestDisk(
      sinkOver(Buffer.from(PREVIOUS), () => failure),
      SIZE_BYTES,
    );
    await assert.rejects(disk.write(0, Buffer.alloc(512)), /full/);
    failure = null;

    await assert.rejects(disk.write(512, Buffer.alloc(512)), /full/);
    await assert.rejects(disk.flush(), /full/);
    await assert.rejects(disk.finish(), /full/);
  });

  it('waits for the writes that are under way before it is finished, and takes none after', async () => {
    const image = Buffer.from(PREVIOUS);
    const disk = createIngestDisk(sinkOver(image), SIZE_BYTES);
    const writing = disk.write(0, Buffer.alloc(SIZE_BYTES, 'whole'));

    assert.deepEqual(await disk.finish(), []);

    assert.ok(image.equals(Buffer.alloc(SIZE_BYTES, 'whole')));
    await writing;
    await assert.rejects(disk.write(0, Buffer.alloc(512)), { code: 'INVARIANT_BROKEN' });
    await assert.rejects(disk.read(0, 512), { code: 'INVARIANT_BROKEN' });
  });
});

function untouched(touched: Uint8Array): Extent[] {
  const extents: Extent[] = [];
  for (let sector = 0; sector < touched.length; sector += 1) {
    if (touched[sector] === 1) continue;
    const last = extents.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === sector * 512) last.lengthBytes += 512;
    else extents.push({ offsetBytes: sector * 512, lengthBytes: 512 });
  }
  return extents;
}
