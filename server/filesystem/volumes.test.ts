import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeExt4, readImage } from '../../test/guest-images/ext4-image.ts';
import { mbrSector, writeGpt } from '../../test/guest-images/partition-table.ts';
import { MIB, SECTOR_BYTES } from '../runtime/index.ts';
import { findVolumes, type DiskVolume } from './volumes.ts';

const LINUX = '0fc63daf-8483-4772-8e79-3d69d8477de4';

describe('volumes of a disk', () => {
  let folder: string;
  let ext4: Buffer;
  const image = (): string => join(folder, 'disk.img');

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dozo-volumes-'));
    const path = join(folder, 'ext4.img');
    await makeExt4(path, 8 * MIB, ['-b', '1024', '-L', 'data']);
    const reader = await readImage(path);
    ext4 = await reader.read(0, reader.sizeBytes);
    await reader.close();
  });

  after(async () => {
    await rm(folder, { recursive: true });
  });

  async function volumesOf(pieces: { atBytes: number; bytes: Buffer }[], sizeBytes = 64 * MIB): Promise<DiskVolume[]> {
    await writeFile(image(), '');
    await truncate(image(), sizeBytes);
    const file = await open(image(), 'r+');
    for (const { atBytes, bytes } of pieces) await file.write(bytes, 0, bytes.length, atBytes);
    await file.close();
    const disk = await readImage(image());
    try {
      return await findVolumes(disk);
    } finally {
      await disk.close();
    }
  }

  it('finds primary and logical partitions of an MBR', async () => {
    const sector = (bytes: number): number => bytes / SECTOR_BYTES;
    const volumes = await volumesOf([
      {
        atBytes: 0,
        bytes: mbrSector([
          { type: 0x83, firstSector: 2048, sectorCount: sector(8 * MIB) },
          { type: 0x05, firstSector: sector(16 * MIB), sectorCount: sector(40 * MIB) },
        ]),
      },
      {
        atBytes: 16 * MIB,
        bytes: mbrSector([
          { type: 0x82, firstSector: 2048, sectorCount: sector(4 * MIB) },
          { type: 0x05, firstSector: sector(8 * MIB), sectorCount: sector(10 * MIB) },
        ]),
      },
      { atBytes: 24 * MIB, bytes: mbrSector([{ type: 0x83, firstSector: 64, sectorCount: sector(8 * MIB) }]) },
      { atBytes: MIB, bytes: ext4 },
      { atBytes: 24 * MIB + 64 * SECTOR_BYTES, bytes: ext4 },
    ]);

    assert.deepEqual(
      volumes.map(({ number, offsetBytes, sizeBytes, partitionType, system, freeUnknown }) => ({
        number,
        offsetBytes,
        sizeBytes,
        partitionType,
        label: system?.label,
        isSure: freeUnknown === null,
      })),
      [
        { number: 1, offsetBytes: MIB, sizeBytes: 8 * MIB, partitionType: '83', label: 'data', isSure: true },
        { number: 5, offsetBytes: 17 * MIB, sizeBytes: 4 * MIB, partitionType: '82', label: undefined, isSure: false },
        {
          number: 6,
          offsetBytes: 24 * MIB + 32_768,
          sizeBytes: 8 * MIB,
          partitionType: '83',
          label: 'data',
          isSure: true,
        },
      ],
    );
  });

  it('reads a GPT, also from its copy, and says when both are damaged', async () => {
    const tables = writeGpt(64 * MIB, [{ type: LINUX, firstSector: 2048, lastSector: 2048 + ext4.length / 512 - 1 }]);
    const content = { atBytes: MIB, bytes: ext4 };
    const damage = { atBytes: SECTOR_BYTES + 24, bytes: Buffer.alloc(8, 0xff) };
    const damageOfCopy = { atBytes: 64 * MIB - SECTOR_BYTES + 24, bytes: Buffer.alloc(8, 0xff) };

    for (const pieces of [
      [...tables, content],
      [...tables, content, damage],
    ]) {
      const [volume] = await volumesOf(pieces);
      assert.equal(volume?.system?.kind, 'ext4');
      assert.equal(volume.partitionType, LINUX);
      assert.equal(volume.freeUnknown, null);
    }
    assert.deepEqual(await volumesOf([...tables, content, damage, damageOfCopy]), []);
  });

  it('takes a file system over the whole disk, and trusts no bitmap where marks contradict', async () => {
    const [whole] = await volumesOf([{ atBytes: 0, bytes: ext4 }]);
    assert.equal(whole?.number, 0);
    assert.equal(whole.freeUnknown, null);

    const table = mbrSector([{ type: 0x83, firstSector: 32_768, sectorCount: ext4.length / 512 }]);
    const [beside] = await volumesOf([
      { atBytes: 0, bytes: ext4 },
      { atBytes: 16 * MIB, bytes: ext4 },
      { atBytes: 0, bytes: table },
    ]);
    assert.match(beside?.freeUnknown ?? '', /without partitions as well/);

    const [luks] = await volumesOf([
      { atBytes: 0, bytes: ext4 },
      { atBytes: 0, bytes: Buffer.from('LUKS\xba\xbe', 'latin1') },
    ]);
    assert.match(luks?.freeUnknown ?? '', /LUKS/);

    const overlapping = mbrSector([
      { type: 0x83, firstSector: 2048, sectorCount: 30_000 },
      { type: 0x83, firstSector: 20_000, sectorCount: 30_000 },
    ]);
    const volumes = await volumesOf([
      { atBytes: 0, bytes: overlapping },
      { atBytes: MIB, bytes: ext4 },
    ]);
    assert.match(volumes[0]?.freeUnknown ?? '', /overlap/);
  });

  it('knows a swap area by its first page, and none that holds a sleeping guest', async () => {
    const path = join(folder, 'swap.img');
    await writeFile(path, '');
    await truncate(path, 4 * MIB);
    execFileSync('mkswap', [path], { stdio: 'pipe' });
    const reader = await readImage(path);
    const swap = await reader.read(0, 4096);
    await reader.close();

    const [plain] = await volumesOf([{ atBytes: 0, bytes: swap }]);
    assert.equal(plain?.swapKeepBytes, 4096);
    const asleep = { atBytes: 4086, bytes: Buffer.from('S1SUSPEND\0', 'latin1') };
    const [sleeping] = await volumesOf([{ atBytes: 0, bytes: swap }, asleep]);
    assert.equal(sleeping?.swapKeepBytes, null);
  });

  it('ends where a chain of logical partitions goes in a circle', async () => {
    const link = mbrSector([
      { type: 0, firstSector: 0, sectorCount: 0 },
      { type: 0x05, firstSector: 2048, sectorCount: 2048 },
    ]);
    const volumes = await volumesOf([
      { atBytes: 0, bytes: mbrSector([{ type: 0x05, firstSector: 2048, sectorCount: 60_000 }]) },
      { atBytes: MIB, bytes: link },
      { atBytes: 2 * MIB, bytes: link },
    ]);
    assert.deepEqual(volumes, []);
  });
});
