import assert from 'node:assert/strict';
import { copyFile, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import type { DiskReader } from '../disk/index.ts';
import { openOverlayDisk } from './overlay-disk.ts';

const SIZE = 300 * 1024;
const CONTENT = Buffer.alloc(SIZE, 'below');
const base: DiskReader = {
  sizeBytes: SIZE,
  read: async (offsetBytes, lengthBytes) => CONTENT.subarray(offsetBytes, offsetBytes + lengthBytes),
};

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'dozo-overlay-'));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** As another boot of the machine would find the file. */
async function forgetBoot(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.write(Buffer.alloc(36, 'x'), 0, 36, 4096);
  await handle.close();
}

describe('An overlay', () => {
  it('keeps what was written when the process dies, and what was flushed when the power goes', () =>
    withFolder(async (folder) => {
      const file = path.join(folder, 'overlay');
      const dead = path.join(folder, 'dead');
      const overlay = await openOverlayDisk({ path: file, base, baseIdentity: 'b' });
      const flushed = Buffer.from(CONTENT);
      await overlay.write(512, Buffer.alloc(1024, 'flushed'));
      flushed.set(Buffer.alloc(1024, 'flushed'), 512);
      await overlay.zero(65_536, 65_536 + 512);
      flushed.fill(0, 65_536, 131_584);
      await overlay.flush();
      const written = Buffer.from(flushed);
      await overlay.write(200_192, Buffer.alloc(512, 'only written'));
      written.set(Buffer.alloc(512, 'only written'), 200_192);

      // The file as it is under an overlay that was never closed.
      await copyFile(file, dead);
      const afterDeath = await openOverlayDisk({ path: dead, base, baseIdentity: 'b' });
      assert.ok((await afterDeath.read(0, SIZE)).equals(written));
      await afterDeath.close();

      await copyFile(file, dead);
      await forgetBoot(dead);
      const afterPowerCut = await openOverlayDisk({ path: dead, base, baseIdentity: 'b' });
      assert.ok((await afterPowerCut.read(0, SIZE)).equals(flushed));
      await afterPowerCut.close();
      await overlay.close();
    }));

  it('opens over the base that it was made for only', () =>
    withFolder(async (folder) => {
      const file = path.join(folder, 'overlay');
      await (await openOverlayDisk({ path: file, base, baseIdentity: 'b' })).close();

      await assert.rejects(openOverlayDisk({ path: file, base, baseIdentity: 'other' }), { code: 'INPUT_INVALID' });
    }));

  it('reads as a plain disk would after random writes and zeros at once', () =>
    withFolder(async (folder) => {
      const overlay = await openOverlayDisk({ path: path.join(folder, 'overlay'), base, baseIdentity: 'b' });
      const expected = Buffer.from(CONTENT);
      let state = 7;
      const next = (limit: number): number => {
        state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
        return Math.floor(state / 65_536) % limit;
      };
      for (let count = 0; count < 300; count += 1) {
        const start = next(SIZE / 512) * 512;
        const length = Math.min(SIZE - start, (1 + next(300)) * 512);
        if (next(3) === 0) {
          await overlay.zero(start, length);
          expected.fill(0, start, start + length);
        } else {
          const data = Buffer.alloc(length, `${count} `);
          await overlay.write(start, data);
          data.copy(expected, start);
        }
      }
      assert.ok((await overlay.read(0, SIZE)).equals(expected));
      await overlay.close();
    }));
});
