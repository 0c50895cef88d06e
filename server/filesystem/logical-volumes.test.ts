import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import { fillGuest, makeExt4, useMounted } from '../../test/guest-images/ext4-image.ts';
import { openLvmDisk, stripesOf, type LvmDisk } from '../../test/guest-images/lvm-image.ts';
import type { DiskReader } from '../disk/index.ts';
import { AppError, isAppError } from '../errors/index.ts';
import { KIB, MIB } from '../runtime/index.ts';
import { findVolumes, type DiskVolume } from './volumes.ts';

const PARTITIONS = [80 * MIB, 48 * MIB];
/** In a file system, to tell one from another. */
const LABELS = { root: 'in pieces', striped: 'in stripes' };

/** Volumes described by lvm2 itself, with file systems put where it says that they lie. */
describe('logical volumes of LVM', () => {
  let folder: string;
  let lvm: LvmDisk;
  let disk: Buffer;
  const images: Record<keyof typeof LABELS, Buffer> = { root: Buffer.alloc(0), striped: Buffer.alloc(0) };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dozo-lvm-'));
    lvm = await openLvmDisk(join(folder, 'disk.img'), PARTITIONS);
    // A ring so small that a text goes over its end.
    for (const place of ['$1', '$2']) lvm.lvm('pvcreate', '--metadatasize', '16k', '--dataalignment', '64k', place);
    lvm.lvm('vgcreate', '-s', '1m', 'rhel', '$1', '$2');
    const make = ['-an', '-Zn', '-Wn'];
    lvm.lvm('lvcreate', ...make, '-L', '20m', '-n', 'root', 'rhel', '$1');
    lvm.lvm('lvcreate', ...make, '-L', '8m', '-n', 'swap', 'rhel', '$1');
    lvm.lvm('lvextend', '-L', '32m', 'rhel/root', '$1');
    lvm.lvm('lvcreate', ...make, '-i', '2', '-I', '64k', '-L', '24m', '-n', 'striped', 'rhel');
    lvm.lvm('lvextend', '-L', '34m', 'rhel/root', '$2');
    for (let time = 0; time < 12; time += 1) lvm.lvm('lvchange', '--addtag', `tag${String(time)}`, 'rhel/swap');
    for (const name of ['root', 'striped'] as const) {
      const path = join(folder, `${name}.img`);
      await makeExt4(path, name === 'root' ? 34 * MIB : 24 * MIB, ['-b', '4096', '-L', LABELS[name]]);
      await useMounted(path, 'clean', (mounted) => fillGuest(mounted, name === 'root' ? 1 : 2));
      images[name] = await readFile(path);
    }
    const swap = join(folder, 'swap.img');
    await writeFile(swap, Buffer.alloc(8 * MIB, 'swapped'));
    execFileSync('mkswap', [swap], { stdio: 'pipe' });
    const file = await open(lvm.image, 'r+');
    for (const [name, content] of Object.entries({ ...images, swap: await readFile(swap) })) {
      for (const { atBytes, offsetBytes, lengthBytes } of stripesOf(lvm.stretches('rhel', name)))
        await file.write(content, atBytes, lengthBytes, offsetBytes);
    }
    await file.close();
    disk = await readFile(lvm.image);
  });

  after(async () => {
    lvm.close();
    await rm(folder, { recursive: true });
  });

  it('are found by their names, whole, in as many pieces and stripes as they lie', async () => {
    assert.equal(lvm.stretches('rhel', 'root').length, 3);
    assert.equal(lvm.stretches('rhel', 'striped')[0]?.offsets.length, 2);
    const volumes = await findVolumes(readerOf(disk));

    assert.deepEqual(
      volumes.map(({ number, name, sizeBytes, isPhysical, system }) => [
        number,
        name,
        sizeBytes / MIB,
        isPhysical,
        system?.label,
      ]),
      [
        [1, null, 80, true, undefined],
        [2, null, 48, true, undefined],
        [1001, 'rhel/root', 34, false, LABELS.root],
        [1002, 'rhel/swap', 8, false, undefined],
        [1003, 'rhel/striped', 24, false, LABELS.striped],
      ],
    );
    for (const [name, image] of Object.entries(images)) {
      const { reader, freeUnknown } = named(volumes, `rhel/${name}`);
      assert.equal(freeUnknown, null);
      assert.ok((await reader.read(0, reader.sizeBytes)).equals(image));
      // Pieces that begin and end anywhere.
      for (let at = 0; at < image.length - 200_000; at += 7_654_321)
        assert.ok((await reader.read(at, 199_999)).equals(image.subarray(at, at + 199_999)));
    }
    assert.equal(named(volumes, 'rhel/swap').swapKeepBytes, 4096);
  });

  it('give their files', async () => {
    const volumes = await findVolumes(readerOf(disk));
    for (const name of ['root', 'striped'] as const) {
      const { system } = named(volumes, `rhel/${name}`);
      const file = await system?.open('/shattered');
      assert.ok(file !== undefined);
      const content = await file.read(0, file.sizeBytes);
      const path = join(folder, `${name}.img`);
      await useMounted(path, 'clean', async (mounted) => {
        assert.ok(content.equals(await readFile(join(mounted, 'shattered'))));
      });
    }
  });

  it('say where on the disk nothing is lost when it is overwritten', async () => {
    const volumes = await findVolumes(readerOf(disk));
    const spoiled = Buffer.from(disk);
    let spoiledBytes = 0;
    for (const name of ['root', 'striped']) {
      const volume = named(volumes, `rhel/${name}`);
      for await (const extent of volume.system?.freeExtents() ?? []) {
        for (const { offsetBytes, lengthBytes } of volume.onDisk(extent)) {
          spoiled.fill(0xaa, offsetBytes, offsetBytes + lengthBytes);
          spoiledBytes += lengthBytes;
        }
      }
    }
    assert.ok(spoiledBytes > 20 * MIB);

    for (const [name, image] of Object.entries(images)) {
      const taken = Buffer.alloc(image.length);
      for (const { atBytes, offsetBytes, lengthBytes } of stripesOf(lvm.stretches('rhel', name)))
        spoiled.copy(taken, atBytes, offsetBytes, offsetBytes + lengthBytes);
      assert.equal(taken.equals(image), false);
      const sums: string[] = [];
      for (const bytes of [taken, image]) {
        const path = join(folder, 'taken.img');
        await writeFile(path, bytes);
        assert.equal(spawnSync('e2fsck', ['-fn', path]).status, 0);
        await useMounted(path, 'clean', (mounted) => {
          const list = 'cd "$0" && find . -type f -print0 | sort -z | xargs -0 sha256sum';
          sums.push(execFileSync('sh', ['-c', list, mounted]).toString());
          return Promise.resolve();
        });
      }
      assert.ok((sums[0]?.split('\n').length ?? 0) > 250);
      assert.equal(sums[0], sums[1]);
    }
    // All that is not a file's stays: descriptions, the swap area, the table.
    assert.deepEqual(
      (await findVolumes(readerOf(spoiled))).map(({ name }) => name),
      volumes.map(({ name }) => name),
    );
  });

  it('are named where a part of them lies on another disk, and are not sure of what is free then', async () => {
    const alone = Buffer.from(disk);
    const second = lvm.partitions[1]?.offsetBytes ?? 0;
    alone.fill(0, second, second + 2 * KIB);
    const volumes = await findVolumes(readerOf(alone));

    assert.match(named(volumes, 'rhel/root').failure?.message ?? '', /other disks/);
    assert.match(named(volumes, 'rhel/striped').failure?.message ?? '', /other disks/);
    const swap = named(volumes, 'rhel/swap');
    assert.equal(swap.failure, null);
    assert.equal(swap.swapKeepBytes, null);
    assert.match(swap.freeUnknown ?? '', /other disks/);
    assert.equal(volumes.find(({ number }) => number === 2)?.isPhysical, false);
  });

  it('are put together from several disks, each given by the one that it begins on', async () => {
    // The group's second half on a disk of its own, without partitions.
    const [first, second] = lvm.partitions.map(({ offsetBytes }) => offsetBytes);
    assert.ok(first !== undefined && second !== undefined);
    const system = Buffer.from(disk);
    system.fill(0, second);
    const data = Buffer.from(disk.subarray(second));
    const broken: DiskReader = {
      sizeBytes: MIB,
      read: () => Promise.reject(new AppError('REPOSITORY_CHUNK_DAMAGED', 'A chunk is damaged.', { hint: 'Check.' })),
    };
    const volumes = await findVolumes(readerOf(system), undefined, [broken, readerOf(data)]);

    assert.deepEqual(
      volumes.flatMap(({ name }) => name ?? []),
      ['rhel/root', 'rhel/swap', 'rhel/striped'],
    );
    for (const [name, image] of Object.entries(images)) {
      const { reader, freeUnknown, onDisk } = named(volumes, `rhel/${name}`);
      assert.ok((await reader.read(0, reader.sizeBytes)).equals(image));
      assert.match(freeUnknown ?? '', /other disks/);
      const here = onDisk({ offsetBytes: 0, lengthBytes: image.length });
      assert.ok(here.every(({ offsetBytes, lengthBytes }) => offsetBytes + lengthBytes <= second));
    }
    assert.equal(named(volumes, 'rhel/swap').swapKeepBytes, null);
    assert.deepEqual(
      (await findVolumes(readerOf(data), undefined, [readerOf(system)])).map(({ name, isPhysical }) => [
        name,
        isPhysical,
      ]),
      [[null, true]],
    );
  });

  it('take the newest description, and are not sure where an older one is beside it', async () => {
    const older = withText(readerOf(disk), lvm, 1, (text) =>
      text.replace(/seqno = \d+/, 'seqno = 2').replaceAll('swap', 'pawn'),
    );
    const volumes = await findVolumes(older);

    assert.deepEqual(
      volumes.flatMap(({ name }) => name ?? []),
      ['rhel/root', 'rhel/swap', 'rhel/striped'],
    );
    const { system, freeUnknown } = named(volumes, 'rhel/root');
    assert.equal(system?.label, LABELS.root);
    assert.match(freeUnknown ?? '', /descriptions differ/);
  });

  it('are read, but not sure of what is free, beside anything that may build on them', async () => {
    const snapshot = `snapshot0 { status = ["READ", "WRITE"] flags = [] segment_count = 1
      segment1 { start_extent = 0 extent_count = 34 type = "snapshot" chunk_size = 8 origin = "root" cow_store = "swap" } }`;
    const withSnapshot = await volumesWith((text) =>
      text.replace('logical_volumes {', `logical_volumes { ${snapshot}`),
    );
    assert.equal(named(withSnapshot, 'rhel/root').system?.label, LABELS.root);
    assert.match(named(withSnapshot, 'rhel/root').freeUnknown ?? '', /built on it/);
    assert.match(named(withSnapshot, 'rhel/swap').failure?.message ?? '', /part of another one \(cow_store\)/);
    assert.equal(named(withSnapshot, 'rhel/striped').freeUnknown, null);

    for (const [from, to, reason] of [
      ['"RESIZEABLE"', '"RESIZEABLE", "EXPORTED"', /state that is not known/],
      ['"VISIBLE"]', '"VISIBLE", "LOCKED"]', /state that is not known/],
      ['flags = []', 'flags = ["NEW_FLAG"]', /state that is not known/],
    ] as const) {
      const volume = named(await volumesWith((text) => text.replaceAll(from, to)), 'rhel/root');
      assert.equal(volume.system?.label, LABELS.root);
      assert.match(volume.freeUnknown ?? '', reason);
    }
    const overlapping = await volumesWith((text) => text.replace(/("pv0", )20\b/, '$119'));
    assert.match(named(overlapping, 'rhel/root').freeUnknown ?? '', /overlap/);
  });

  it('are named where they are of another kind', async () => {
    for (const [from, to, reason] of [
      ['type = "striped"', 'type = "thin"', /kind is thin/],
      ['type = "striped"', 'type = "raid1"', /kind is raid1/],
      ['"pv0", 0', '"swap", 0', /another logical volume/],
    ] as const) {
      const { failure, system } = named(await volumesWith((text) => text.replace(from, to)), 'rhel/root');
      assert.equal(system, null);
      assert.equal(failure?.code, 'FILESYSTEM_UNSUPPORTED');
      assert.match(failure.message, reason);
    }
    const hidden = await volumesWith((text) => text.replace(', "VISIBLE"]', ']'));
    assert.deepEqual(
      hidden.flatMap(({ name }) => name ?? []),
      ['rhel/swap', 'rhel/striped'],
    );
  });

  it('leave no doubt that a description is damaged', async () => {
    for (const [from, to] of [
      ['seqno', 'seqn0'],
      ['extent_size = 2048', 'extent_size = 9007199254740991'],
      ['start_extent = 20', 'start_extent = 21'],
      ['"pv0", 0', '"pv0", 70'],
      ['stripe_count = 2', 'stripe_count = 3'],
      ['stripe_size = 128', 'stripe_size = 100'],
      ['logical_volumes {', 'logical_volumes { {'],
      ['version = 1', 'version = 2'],
      ['rhel {', 'rhel { } other {'],
    ] as const) {
      const volumes = await volumesWith((text) => text.replace(from, to));
      assert.equal(volumes.length, 2, from);
      assert.equal(volumes[0]?.failure?.code, 'FILESYSTEM_DAMAGED', from);
    }
    const torn = Buffer.from(disk);
    for (const { offsetBytes } of lvm.partitions)
      torn.fill(0xff, offsetBytes + 4 * KIB + 8, offsetBytes + 4 * KIB + 16);
    const volumes = await findVolumes(readerOf(torn));
    assert.deepEqual(
      volumes.map(({ failure }) => failure?.code),
      ['FILESYSTEM_DAMAGED', 'FILESYSTEM_DAMAGED'],
    );
  });

  it('end for any description, with a value or an error by name', async () => {
    const words = [
      '{',
      '}',
      '[',
      ']',
      '=',
      ',',
      '"',
      '\\',
      '#',
      '0',
      '-1',
      '1e9',
      '9999999999999999',
      '"pv1"',
      '__proto__',
    ];
    let readable = 0;
    for (let seed = 1; seed <= 150; seed += 1) {
      const random = (limit: number, salt: string): number =>
        createHash('sha256')
          .update(`${String(seed)} ${salt}`)
          .digest()
          .readUInt32LE(0) % limit;
      const volumes = await volumesWith((text) => {
        let changed = text;
        for (let change = 0; change <= seed % 4; change += 1) {
          const at = random(changed.length, `at ${String(change)}`);
          const word = words[random(words.length, `word ${String(change)}`)] ?? '';
          changed = changed.slice(0, at) + word + changed.slice(at + random(12, `cut ${String(change)}`));
        }
        return changed;
      });
      for (const { system } of volumes) {
        if (system === null) continue;
        readable += 1;
        try {
          for await (const entry of system.list('/')) assert.ok(entry.name !== '');
        } catch (error) {
          assert.ok(isAppError(error), String(error));
        }
      }
    }
    assert.ok(readable > 10, 'some changes do no harm');
  });

  /** The volumes of the disk with another description in both places, its checksums right. */
  async function volumesWith(change: (text: string) => string): Promise<DiskVolume[]> {
    return findVolumes(withText(withText(readerOf(disk), lvm, 0, change), lvm, 1, change));
  }
});

function named(volumes: readonly DiskVolume[], name: string): DiskVolume {
  const volume = volumes.find((one) => one.name === name);
  assert.ok(volume !== undefined, name);
  return volume;
}

function readerOf(bytes: Buffer): DiskReader {
  return {
    sizeBytes: bytes.length,
    read: (offsetBytes, lengthBytes) => {
      if (offsetBytes < 0 || offsetBytes + lengthBytes > bytes.length) throw new Error('read outside of the disk');
      return Promise.resolve(Buffer.from(bytes.subarray(offsetBytes, offsetBytes + lengthBytes)));
    },
  };
}

/** LVM's own: CRC-32 from another beginning, not inverted. */
function checksum(bytes: Buffer): number {
  return (crc32(bytes, (0xf597a6cf ^ 0xffffffff) >>> 0) ^ 0xffffffff) >>> 0;
}

/** The disk with the description in one partition changed. */
function withText(disk: DiskReader, lvm: LvmDisk, partition: number, change: (text: string) => string): DiskReader {
  const areaAt = (lvm.partitions[partition]?.offsetBytes ?? 0) + 4 * KIB;
  let changedArea: Promise<Buffer> | null = null;
  const changeArea = async (): Promise<Buffer> => {
    const header = await disk.read(areaAt, 512);
    const sizeBytes = Number(header.readBigUInt64LE(32));
    const ringBytes = sizeBytes - 512;
    const startBytes = Number(header.readBigUInt64LE(40)) - 512;
    const lengthBytes = Number(header.readBigUInt64LE(48));
    const ring = await disk.read(areaAt + 512, ringBytes);
    const text = Buffer.concat([ring.subarray(startBytes), ring]).toString('latin1', 0, lengthBytes);
    const changed = Buffer.from(change(text), 'latin1');
    assert.ok(changed.length <= ringBytes);
    for (const [index, byte] of changed.entries()) ring[(startBytes + index) % ringBytes] = byte;
    header.writeBigUInt64LE(BigInt(changed.length), 48);
    header.writeUInt32LE(checksum(changed), 56);
    header.writeUInt32LE(checksum(header.subarray(4)), 0);
    return Buffer.concat([header, ring]);
  };
  return {
    sizeBytes: disk.sizeBytes,
    read: async (offsetBytes, lengthBytes) => {
      const bytes = await disk.read(offsetBytes, lengthBytes);
      const area = await (changedArea ??= changeArea());
      const from = Math.max(areaAt, offsetBytes);
      const to = Math.min(areaAt + area.length, offsetBytes + lengthBytes);
      if (from < to) area.copy(bytes, from - offsetBytes, from - areaAt, to - areaAt);
      return bytes;
    },
  };
}
