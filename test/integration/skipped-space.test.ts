import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import { KIB, MIB } from '../../server/runtime/index.ts';
import type { FakeMachine } from '../fakes/fake-source-host.ts';
import { fillGuest, makeExt4, useMounted, writeThrough } from '../guest-images/ext4-image.ts';
import { mbrSector } from '../guest-images/partition-table.ts';

import { assertStoreIsClean, openScene, type Scene } from './engine-scene.ts';

const SYSTEM_AT = MIB;
const SYSTEM_BYTES = 48 * MIB;
const SWAP_AT = 50 * MIB;
const SWAP_BYTES = 8 * MIB;
const DISK_BYTES = 60 * MIB;
const SKIP = { skipFreeSpace: true, skipSwap: true, verifySample: 1 };

describe('a version without free space and swap', () => {
  let scene: Scene;
  let machine: FakeMachine;
  let image: string;
  let lastPoint = '';

  before(async () => {
    scene = await openScene();
    image = join(scene.folder, 'system.img');
    await makeExt4(image, SYSTEM_BYTES, ['-b', '4096']);
    await useMounted(image, 'clean', async (mounted) => {
      await fillGuest(mounted);
      // Free space that is not zero, as it is on any disk that was used.
      await writeThrough(join(mounted, 'deleted'), randomBytes(16 * MIB));
      await rm(join(mounted, 'deleted'));
    });
    // In use when it is frozen: the newest files are known to the journal alone.
    await useMounted(image, 'journaled', (mounted) => writeThrough(join(mounted, 'late'), randomBytes(3 * MIB)));
    const swap = join(scene.folder, 'swap.img');
    await writeFile(swap, '');
    await truncate(swap, SWAP_BYTES);
    execFileSync('mkswap', [swap], { stdio: 'pipe' });
    const swapBytes = await readFile(swap);
    randomBytes(SWAP_BYTES - 4096).copy(swapBytes, 4096);
    const disk = Buffer.alloc(DISK_BYTES);
    mbrSector([
      { type: 0x83, firstSector: SYSTEM_AT / 512, sectorCount: SYSTEM_BYTES / 512 },
      { type: 0x82, firstSector: SWAP_AT / 512, sectorCount: SWAP_BYTES / 512 },
    ]).copy(disk);
    (await readFile(image)).copy(disk, SYSTEM_AT);
    swapBytes.copy(disk, SWAP_AT);
    machine = scene.host.addMachine('web');
    machine.addDisk('scsi0:0', disk);
  });

  after(() => scene.end());

  it('restores every file, with a clean file system, and says how much was left out', async () => {
    const result = await scene.back(machine, SKIP);

    assert.equal(result.state, 'success', JSON.stringify(scene.lines));
    const { skippedBytes = 0, readBytes } = result.stats;
    assert.ok(skippedBytes > 20 * MIB, `${String(skippedBytes)} bytes were left out`);
    assert.ok(readBytes < DISK_BYTES - 20 * MIB, `${String(readBytes)} bytes were read`);
    await assertSameFiles(result.pointId ?? '');
    await assertStoreIsClean(scene.repository);
  });

  it('keeps the head of the swap area, and nothing of its content', async () => {
    const restored = await restoredDisk(lastPoint);

    const frozen = machine.diskAt('scsi0:0').content;
    assert.ok(restored.subarray(SWAP_AT, SWAP_AT + 4096).equals(frozen.subarray(SWAP_AT, SWAP_AT + 4096)));
    const content = restored.subarray(SWAP_AT + 64 * KIB, SWAP_AT + SWAP_BYTES);
    assert.ok(content.equals(Buffer.alloc(content.length)));
  });

  it('goes on with changes alone, and takes nothing that was left out for a wrong change map', async () => {
    for (const options of [SKIP, { verifySample: 1 }]) {
      await changeGuest();
      scene.lines.length = 0;
      const result = await scene.back(machine, options);

      assert.equal(result.state, 'success', JSON.stringify(scene.lines));
      assert.equal(result.disks[0]?.kind, 'changed', JSON.stringify(scene.lines));
      await assertSameFiles(result.pointId ?? '');
      const { manifest } = await scene.repository.openPoint(lastPoint);
      const isInherited = JSON.stringify(manifest.evidence).includes('"isInherited":true');
      assert.equal(isInherited, options === SKIP, 'told where something stays left out');
    }
    await assertStoreIsClean(scene.repository);
  });

  it('reads what it had left out once that is in use, though nothing was written to it since', async () => {
    const disk = machine.diskAt('scsi0:0');
    const before = Buffer.from(disk.content);
    const late = randomBytes(4 * MIB);
    await writeFile(image, before.subarray(SYSTEM_AT, SYSTEM_AT + SYSTEM_BYTES));
    await useMounted(image, 'clean', (mounted) => writeThrough(join(mounted, 'in between'), late));
    const after = await readFile(image);
    // Frozen in between: the file's data are on the disk, the records that claim them are not.
    let dataBlocks = 0;
    const isData = (block: Buffer): boolean => late.indexOf(block) % 4096 === 0;
    const changed: number[] = [];
    for (let at = 0; at < SYSTEM_BYTES; at += 4096) {
      const block = after.subarray(at, at + 4096);
      if (block.equals(disk.content.subarray(SYSTEM_AT + at, SYSTEM_AT + at + 4096))) continue;
      if (isData(block)) {
        disk.write(SYSTEM_AT + at, block);
        dataBlocks += 1;
      } else changed.push(at);
    }
    assert.equal(dataBlocks, late.length / 4096);
    await scene.back(machine, { ...SKIP, verifySample: 0 });
    const [first = ''] = (await scene.repository.listPoints()).slice(-1).map(({ pointId }) => pointId);
    await assertSameFiles(first);
    for (const at of changed) disk.write(SYSTEM_AT + at, after.subarray(at, at + 4096));
    scene.lines.length = 0;
    const result = await scene.back(machine, { ...SKIP, verifySample: 0 });

    assert.equal(result.disks[0]?.kind, 'changed', JSON.stringify(scene.lines));
    assert.ok(scene.lines.some((line) => line.code === 'SKIPPED_READ_AGAIN'));
    await assertSameFiles(result.pointId ?? '');
  });

  it('holds everything again, and reads no more than changes, once nothing is left out any more', async () => {
    const whole = await scene.back(machine, { verifySample: 0 });

    const frozen = machine.diskAt('scsi0:0').content;
    assert.ok((await restoredDisk(whole.pointId ?? '')).equals(frozen));
    const point = await scene.repository.openPoint(whole.pointId ?? '');
    assert.doesNotMatch(JSON.stringify(point.manifest.evidence), /"skipped"/);
    const next = await scene.back(machine, { verifySample: 0 });
    assert.equal(next.stats.readBytes, 0);
  });

  it('reads all of a volume that is not sure of itself, and says so', async () => {
    const disk = machine.diskAt('scsi0:0');
    // The superblock notes an error.
    disk.write(SYSTEM_AT + 1024 + 0x3a, Buffer.of(3));
    disk.write(SYSTEM_AT + 1024 + 0x3fc, Buffer.alloc(4));
    scene.lines.length = 0;
    const result = await scene.back(machine, { skipFreeSpace: true, fullRead: true });

    assert.equal(result.stats.skippedBytes, undefined);
    assert.ok(scene.lines.some((line) => line.code === 'SKIP_NOT_SURE'));
    assert.ok((await restoredDisk(result.pointId ?? '')).equals(disk.content));
  });

  async function restoredDisk(pointId: string): Promise<Buffer> {
    const disk = await (await scene.repository.openPoint(pointId)).openDisk('scsi0:0');
    return disk.read(0, disk.sizeBytes);
  }

  /** The restored volume is taken up by its own system as the frozen one would be, and holds the same. */
  async function assertSameFiles(pointId: string): Promise<void> {
    const restored = await restoredDisk(pointId);
    const frozen = machine.diskAt('scsi0:0').content;
    assert.ok(restored.subarray(0, SYSTEM_AT).equals(frozen.subarray(0, SYSTEM_AT)));
    const sums: string[] = [];
    for (const bytes of [frozen, restored]) {
      const path = join(scene.folder, 'taken-up.img');
      await writeFile(path, bytes.subarray(SYSTEM_AT, SYSTEM_AT + SYSTEM_BYTES));
      assert.ok((spawnSync('e2fsck', ['-fy', path]).status ?? 9) <= 1);
      assert.equal(spawnSync('e2fsck', ['-fn', path]).status, 0);
      await useMounted(path, 'clean', (mounted) => {
        sums.push(
          execFileSync('sh', [
            '-c',
            'cd "$0" && find . -type f -print0 | sort -z | xargs -0 sha256sum',
            mounted,
          ]).toString(),
        );
        return Promise.resolve();
      });
      await rm(path);
    }
    assert.ok((sums[0]?.split('\n').length ?? 0) > 250);
    assert.equal(sums[1], sums[0]);
    lastPoint = pointId;
  }

  /** Files come and go, and space comes into use without being written. */
  async function changeGuest(): Promise<void> {
    const disk = machine.diskAt('scsi0:0');
    await writeFile(image, disk.content.subarray(SYSTEM_AT, SYSTEM_AT + SYSTEM_BYTES));
    await useMounted(image, 'clean', async (mounted) => {
      await writeThrough(join(mounted, `new ${String(disk.generation)}`), randomBytes(MIB));
      await rm(join(mounted, 'shattered'), { force: true });
      execFileSync('fallocate', ['-l', '6M', join(mounted, `reserved ${String(disk.generation)}`)]);
    });
    const after = await readFile(image);
    for (let at = 0; at < SYSTEM_BYTES; at += 4096) {
      const block = after.subarray(at, at + 4096);
      if (!block.equals(disk.content.subarray(SYSTEM_AT + at, SYSTEM_AT + at + 4096)))
        disk.write(SYSTEM_AT + at, block);
    }
  }
});
