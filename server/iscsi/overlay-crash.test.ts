/** The overlay cut at every write to its file: by the death of the process, and by the loss of power. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { DiskReader } from '../disk/index.ts';
import type { BackingDisk } from './backing-disk.ts';
import { openOverlayDisk } from './overlay-disk.ts';

const SIZE_BYTES = 5 * 64 * 1024 + 1536;
const SECTORS = SIZE_BYTES / 512;
const CONTENT = Buffer.alloc(SIZE_BYTES, 'below');
const BOOT_ID_OFFSET_BYTES = 4096;
/** The pieces of which a write may get to the disk one without the other. */
const PIECE_BYTES = 4096;
const STEPS = 200;
const base: DiskReader = {
  sizeBytes: SIZE_BYTES,
  read: async (offsetBytes, lengthBytes) => CONTENT.subarray(offsetBytes, offsetBytes + lengthBytes),
};

/** What got to the file, in order. `synced`: so many writes were before a sync that is over by then. */
interface Trace {
  writes: { offsetBytes: number; data: Buffer }[];
  synced: number;
}

/** How the file and the disk stood after a write: what may come back after a cut there. */
interface Cut {
  writes: number;
  synced: number;
  /** Each sector: what it had at the last flush, and everything since. The last one was written last. */
  sectors: string[][];
  /** Sectors that a step under way may have changed or not. */
  underWay: Set<number>;
}

let folder: string;
const trace: Trace = { writes: [], synced: 0 };
const cuts: Cut[] = [];
let sectors: string[][];
let underWay: { sectors: Set<number>; value: string } = { sectors: new Set(), value: '' };

/** The same for a seed. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor(state / 65_536) % limit;
  };
}

function noteCut(): void {
  const may = sectors.map((values, sector) => (underWay.sectors.has(sector) ? [...values, underWay.value] : values));
  cuts.push({ writes: trace.writes.length, synced: trace.synced, sectors: may, underWay: new Set(underWay.sectors) });
}

/** Writes and syncs of this process are noted while the overlay is used. */
async function recording(body: () => Promise<void>, file: string): Promise<void> {
  const plainWrite = fs.write;
  const handle = await open(file, 'w');
  const prototype = Object.getPrototypeOf(handle) as { datasync(): Promise<void>; sync(): Promise<void> };
  await handle.close();
  const plain = { datasync: prototype.datasync, sync: prototype.sync };
  const noting = (
    fd: number,
    data: Buffer,
    at: number,
    length: number,
    offsetBytes: number,
    done: (error: Error | null, count: number) => void,
  ): void => {
    plainWrite(fd, data, at, length, offsetBytes, (error, count) => {
      trace.writes.push({ offsetBytes, data: Buffer.from(data.subarray(at, at + count)) });
      noteCut();
      done(error, count);
    });
  };
  for (const name of ['datasync', 'sync'] as const)
    prototype[name] = async function (this: unknown) {
      const before = trace.writes.length;
      await plain[name].call(this);
      trace.synced = before;
    };
  fs.write = noting as typeof fs.write;
  syncBuiltinESMExports();
  try {
    await body();
  } finally {
    fs.write = plainWrite;
    Object.assign(prototype, plain);
    syncBuiltinESMExports();
  }
}

function valueOf(data: Buffer, sector: number): string {
  return data.toString('latin1', sector * 512, sector * 512 + 512);
}

async function useOverlay(overlay: BackingDisk): Promise<void> {
  const next = generator(11);
  for (let step = 0; step < STEPS; step += 1) {
    const first = next(SECTORS);
    const count = Math.min(SECTORS - first, 1 + next(next(2) === 0 ? 4 : 260));
    const kind = next(5);
    if (kind === 0) {
      await overlay.flush();
      // What was written before is there for good.
      sectors = sectors.map((values) => values.slice(-1));
      continue;
    }
    const data = Buffer.alloc(512, kind === 1 ? 0 : `${step} `);
    underWay = {
      sectors: new Set(Array.from({ length: count }, (_, index) => first + index)),
      value: valueOf(data, 0),
    };
    if (kind === 1) await overlay.zero(first * 512, count * 512);
    else await overlay.write(first * 512, Buffer.alloc(count * 512, data));
    sectors = sectors.map((values, sector) => (underWay.sectors.has(sector) ? [...values, underWay.value] : values));
    underWay = { sectors: new Set(), value: '' };
  }
}

/** The disk as an overlay shows it whose file holds that. */
async function readAfter(image: Buffer, isOtherBoot: boolean): Promise<Buffer> {
  const file = path.join(folder, 'after');
  if (isOtherBoot) image.fill('x', BOOT_ID_OFFSET_BYTES, BOOT_ID_OFFSET_BYTES + 36);
  await writeFile(file, image);
  const overlay = await openOverlayDisk({ path: file, base, baseIdentity: 'b' });
  const content = Buffer.from(await overlay.read(0, SIZE_BYTES));
  await overlay.close();
  return content;
}

let fileBytes = 0;

function imageOf(writes: Trace['writes'], isThere: (index: number, piece: number) => boolean): Buffer {
  const image = Buffer.alloc(fileBytes);
  writes.forEach(({ offsetBytes, data }, index) => {
    for (let at = 0; at < data.length; at += PIECE_BYTES)
      if (isThere(index, at)) data.copy(image, offsetBytes + at, at, Math.min(at + PIECE_BYTES, data.length));
  });
  return image;
}

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'dozo-overlay-'));
  sectors = Array.from({ length: SECTORS }, (_, sector) => [valueOf(CONTENT, sector)]);
  const file = path.join(folder, 'overlay');
  await recording(async () => {
    const overlay = await openOverlayDisk({ path: file, base, baseIdentity: 'b' });
    await useOverlay(overlay);
    await overlay.close();
  }, file);
  fileBytes = (await fs.promises.stat(file)).size;
  assert.ok(cuts.length > 150, `${cuts.length} writes`);
});
after(async () => await rm(folder, { recursive: true }));

/** The cuts after the overlay's header was there: before it, there is nothing to be kept. */
const laterCuts = (): Cut[] => cuts.filter(({ synced }) => synced > 0);

test('has everything that was answered when the process dies after any write', async () => {
  for (const cut of laterCuts()) {
    const content = await readAfter(
      imageOf(trace.writes.slice(0, cut.writes), () => true),
      false,
    );
    cut.sectors.forEach((values, sector) => {
      const found = valueOf(content, sector);
      const isRight = found === values.at(-1) || (cut.underWay.has(sector) && found === values.at(-2));
      assert.ok(isRight, `sector ${sector} after ${cut.writes} writes`);
    });
  }
});

test('has everything that was flushed when the power goes after any write, whichever of the rest got to the disk', async () => {
  const next = generator(5);
  for (const cut of laterCuts()) {
    const share = next(4);
    const content = await readAfter(
      imageOf(trace.writes.slice(0, cut.writes), (index) => index < cut.synced || next(3) < share),
      true,
    );
    cut.sectors.forEach((values, sector) => {
      assert.ok(values.includes(valueOf(content, sector)), `sector ${sector} after ${cut.writes} writes`);
    });
  }
});
