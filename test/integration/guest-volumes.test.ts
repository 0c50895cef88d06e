import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { PointDisk } from '../../server/repository/index.ts';
import { listGuestFolder, listGuestVolumes, openGuestFile } from '../../server/restore/index.ts';
import { MIB } from '../../server/runtime/index.ts';
import type { FakeMachine } from '../fakes/fake-source-host.ts';
import { fillGuest, useMounted, writeThrough } from '../guest-images/ext4-image.ts';
import { openLvmDisk, stripesOf, type LvmDisk } from '../guest-images/lvm-image.ts';
import { assertStoreIsClean, openScene, type Scene } from './engine-scene.ts';

/** mkfs.xfs makes none that is smaller. */
const ROOT_BYTES = 304 * MIB;
const SWAP_BYTES = 8 * MIB;
const SIGNAL = new AbortController().signal;

/** A Linux guest as it is installed today: XFS and swap on logical volumes. */
describe('a version of XFS on LVM', () => {
  let scene: Scene;
  let lvm: LvmDisk;
  let machine: FakeMachine;
  let pointId: string;
  let restored: Buffer;
  const document = randomBytes(3 * MIB);

  before(async () => {
    scene = await openScene();
    const root = join(scene.folder, 'root.img');
    await writeFile(root, '');
    await truncate(root, ROOT_BYTES);
    execFileSync('mkfs.xfs', ['-q', '-L', 'root', root]);
    await useMounted(root, 'clean', async (mounted) => {
      await fillGuest(mounted);
      await mkdir(join(mounted, 'home/anna'), { recursive: true });
      // Free space that is not zero, as it is on any disk that was used.
      await writeThrough(join(mounted, 'deleted'), randomBytes(24 * MIB));
      await rm(join(mounted, 'deleted'));
    });
    // In use when it is frozen: the newest files are known to the log alone.
    await useMounted(root, 'journaled', (mounted) => writeThrough(join(mounted, 'home/anna/late.doc'), document));
    const swap = join(scene.folder, 'swap.img');
    await writeFile(swap, randomBytes(SWAP_BYTES));
    execFileSync('mkswap', [swap], { stdio: 'pipe' });

    lvm = await openLvmDisk(join(scene.folder, 'disk.img'), [320 * MIB]);
    const make = ['-an', '-Zn', '-Wn'];
    lvm.lvm('pvcreate', '$1');
    lvm.lvm('vgcreate', '-s', '4m', 'rhel', '$1');
    lvm.lvm('lvcreate', ...make, '-L', '200m', '-n', 'root', 'rhel');
    lvm.lvm('lvcreate', ...make, '-L', '8m', '-n', 'swap', 'rhel');
    lvm.lvm('lvextend', '-L', '304m', 'rhel/root');
    const disk = await readFile(lvm.image);
    for (const [name, image] of [
      ['root', root],
      ['swap', swap],
    ] as const) {
      const content = await readFile(image);
      for (const { atBytes, offsetBytes, lengthBytes } of stripesOf(lvm.stretches('rhel', name)))
        content.copy(disk, offsetBytes, atBytes, atBytes + lengthBytes);
    }
    machine = scene.host.addMachine('web');
    machine.addDisk('scsi0:0', disk);
  });

  after(async () => {
    lvm.close();
    await scene.end();
  });

  it('leaves out what is free and swap, and restores every file with a clean file system', async () => {
    const result = await scene.back(machine, { skipFreeSpace: true, skipSwap: true, verifySample: 1 });

    assert.equal(result.state, 'success', JSON.stringify(scene.lines));
    pointId = result.pointId ?? '';
    const { skippedBytes = 0 } = result.stats;
    // What was deleted, and swap; zeros of the disk are not counted.
    assert.ok(skippedBytes > 30 * MIB, `${String(skippedBytes)} bytes were left out`);
    assert.deepEqual(
      scene.lines.filter(({ code }) => code.startsWith('SKIP_')),
      [],
    );
    const disk = await diskOf(pointId);
    restored = await disk.read(0, disk.sizeBytes);
    const frozen = machine.diskAt('scsi0:0').content;
    const sums: string[] = [];
    for (const bytes of [frozen, restored]) {
      const path = join(scene.folder, 'taken-up.img');
      await writeFile(path, logical(bytes, 'root', ROOT_BYTES));
      // As a guest does after a power cut: its log is replayed by being mounted.
      await useMounted(path, 'clean', (mounted) => {
        const list = 'cd "$0" && find . -type f -print0 | sort -z | xargs -0 sha256sum';
        sums.push(execFileSync('sh', ['-c', list, mounted]).toString());
        return Promise.resolve();
      });
      assert.equal(spawnSync('xfs_repair', ['-n', path]).status, 0);
      await rm(path);
    }
    assert.ok((sums[0]?.split('\n').length ?? 0) > 250);
    assert.equal(sums[1], sums[0]);
    await assertStoreIsClean(scene.repository);
  });

  it('keeps the head of the swap volume, and nothing of its content', () => {
    const swap = logical(restored, 'swap', SWAP_BYTES);
    const before = logical(machine.diskAt('scsi0:0').content, 'swap', SWAP_BYTES);
    assert.ok(swap.subarray(0, 4096).equals(before.subarray(0, 4096)));
    const content = swap.subarray(64 * 1024);
    assert.ok(content.equals(Buffer.alloc(content.length)));
  });

  it('lists its volumes and folders, and gives a file that the log alone knew of', async () => {
    const disk = await diskOf(pointId);
    const volumes = await listGuestVolumes(disk);

    assert.deepEqual(
      volumes.map(({ number, name, fileSystem, label, holds }) => [number, name, fileSystem, label, holds]),
      [
        [1, undefined, null, '', 'lvm'],
        [1001, 'rhel/root', 'xfs', 'root', undefined],
        [1002, 'rhel/swap', null, '', 'swap'],
      ],
    );
    const { entries } = await listGuestFolder(disk, 1001, { path: '/home/anna', from: 0, limit: 10 });
    assert.deepEqual(
      entries.map(({ name, type, sizeBytes }) => [name, type, sizeBytes]),
      [['late.doc', 'file', document.length]],
    );
    const pieces: Buffer[] = [];
    for await (const piece of (await openGuestFile(disk, 1001, '/home/anna/late.doc')).bytes(SIGNAL))
      pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(document));
  });

  async function diskOf(point: string): Promise<PointDisk> {
    return (await scene.repository.openPoint(point)).openDisk('scsi0:0');
  }

  /** A logical volume as lvm2 would put it together. */
  function logical(disk: Buffer, name: string, sizeBytes: number): Buffer {
    const volume = Buffer.alloc(sizeBytes);
    for (const { atBytes, offsetBytes, lengthBytes } of stripesOf(lvm.stretches('rhel', name)))
      disk.copy(volume, atBytes, offsetBytes, offsetBytes + lengthBytes);
    return volume;
  }
});
