import assert from 'node:assert/strict';
import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import {
  createIngestDisk,
  openFileDisk,
  openOverlayDisk,
  serveReader,
  type BackingDisk,
  type IngestDisk,
} from '../../server/iscsi/index.ts';
import {
  createRepository,
  type DiskWriter,
  type PointDisk,
  type Repository,
  type WriteSession,
} from '../../server/repository/index.ts';
import { commitDisk, request } from '../fakes/small-repository.ts';
import { MemoryStorage } from '../fakes/memory-storage.ts';
import { diskContent, runClient, TARGET, withTarget, type Scene } from './scene.ts';
import { runSuite } from './suite.ts';

const DISK_BYTES = 40 * 1024 * 1024;
const LARGE_BYTES = 3 * 2 ** 40;

/**
 * The one test of libiscsi 1.19 that is not passed: its last part announces another order of numbers, but libiscsi
 * has reconnected by then, negotiates immediate data again and sends nothing wrong. See docs/iscsi.md.
 */
const KNOWN_FAILURES = ['iSCSIdatasn.iSCSIDataSnInvalid'];
/** Those that do not skip themselves. */
const PASSED_MIN = 170;

async function fileDisk(folder: string): Promise<BackingDisk> {
  const file = path.join(folder, 'disk.img');
  await writeFile(file, '');
  await truncate(file, DISK_BYTES);
  return openFileDisk(file, { writable: true });
}

async function withRepository(body: (repository: Repository) => Promise<void>): Promise<void> {
  const repository = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: 65_536, threads: 0 });
  try {
    await body(repository);
  } finally {
    await repository.close();
  }
}

async function storedDisk(repository: Repository, content: Buffer): Promise<PointDisk> {
  const { pointId } = await commitDisk(repository, 'stored', content);
  return (await repository.openPoint(pointId)).openDisk('d0');
}

/** An ingest disk over a previous version, and its session. */
async function ingest(
  repository: Repository,
  base: PointDisk | null,
): Promise<{ disk: IngestDisk; writer: DiskWriter; session: WriteSession }> {
  const session = await repository.startWrite({ sessionId: `ingest-${base === null ? 'first' : 'next'}` });
  const writer = await session.openDisk({ key: 'd0', sizeBytes: DISK_BYTES, base });
  return { disk: createIngestDisk(writer, DISK_BYTES), writer, session };
}

/** Writes an image by QEMU, reads it back by QEMU, compares. */
async function assertConvertsBothWays({ folder, url }: Scene, content: Buffer): Promise<void> {
  const [source, back] = [path.join(folder, 'source.img'), path.join(folder, 'back.img')];
  await writeFile(source, content);

  const written = await runClient('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, url]);
  assert.equal(written.status, 0, written.output);
  const read = await runClient('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', url, back]);

  assert.equal(read.status, 0, read.output);
  assert.ok((await readFile(back)).equals(content), 'what QEMU read back is not what it wrote');
}

/** Runs the whole of libiscsi's suite. Which tests fail has to be exactly what is documented. */
async function assertPassesSuite({ url }: Scene): Promise<void> {
  const { passed, skipped, failed } = await runSuite(url);
  assert.deepEqual(failed, KNOWN_FAILURES);
  assert.ok(passed.length >= PASSED_MIN, `${passed.length} tests passed, skipped: ${JSON.stringify(skipped)}`);
}

describe('An image file as an iSCSI disk', () => {
  it('is found and described by libiscsi', () =>
    withTarget({ open: fileDisk }, async ({ url }) => {
      const list = await runClient('iscsi-ls', ['-s', url.replace(`/${TARGET}/0`, '')]);
      assert.match(list.output, /Target:iqn\.2020-01\.test\.dozo:disk Portal:127\.0\.0\.1:\d+,1\n/);
      assert.match(list.output, /Lun:0 +Type:DIRECT_ACCESS \(Size:39M\)|Lun:0 +Type:DIRECT_ACCESS \(Size:40M\)/);

      const identification = await runClient('iscsi-inq', ['-e', '1', '-c', '131', url]);
      assert.match(identification.output, /NAA/);
      assert.match(identification.output, /DOZO/);
    }));

  it('takes and gives what QEMU copies', () =>
    withTarget({ open: fileDisk }, async (scene) => {
      const content = diskContent(DISK_BYTES, 'file');

      await assertConvertsBothWays(scene, content);

      assert.ok((await readFile(path.join(scene.folder, 'disk.img'))).equals(content));
    }));

  it('of 3 TiB is read and written by QEMU at its end, and nowhere else', () =>
    withTarget(
      {
        open: async (folder) => {
          const file = path.join(folder, 'large.img');
          await writeFile(file, '');
          await truncate(file, LARGE_BYTES);
          return openFileDisk(file, { writable: true });
        },
      },
      async ({ folder, url }) => {
        const at = LARGE_BYTES - 1024 * 1024;
        // Where the address would end up if it lost its upper bits.
        const lost = at % 2 ** 41;
        const commands = ['-c', `write -P 0x5a ${at} 1M`, '-c', `read -P 0x5a ${at} 1M`, '-c', `read -P 0 ${lost} 1M`];

        const { status, output } = await runClient('qemu-io', ['-f', 'raw', ...commands, url]);

        assert.equal(status, 0, output);
        assert.doesNotMatch(output, /verification failed|error/i);
        const capacity = await runClient('iscsi-readcapacity16', ['-i', 'iqn.2020-01.test.dozo:own', url]);
        assert.match(capacity.output, new RegExp(`Total size:${LARGE_BYTES}\\b`));
        const image = await open(path.join(folder, 'large.img'));
        const { buffer } = await image.read(Buffer.alloc(4096), 0, 4096, at);
        assert.ok(buffer.equals(Buffer.alloc(4096, 0x5a)));
        assert.ok((await image.stat()).blocks * 512 < 16 * 1024 * 1024, 'the image is sparse still');
        await image.close();
      },
    ));

  it('passes the suite of libiscsi', () => withTarget({ open: fileDisk }, assertPassesSuite));

  it('refuses writes when it is read-only', () =>
    withTarget(
      {
        open: async (folder) => {
          await (await fileDisk(folder)).close();
          return openFileDisk(path.join(folder, 'disk.img'), { writable: false });
        },
      },
      async ({ url }) => {
        const { output } = await runClient('iscsi-test-cu', ['-d', '-n', '-t', 'SCSI.ReadOnly', url]);
        assert.match(output, /tests +1 +1 +1 +0/, output);
      },
    ));
});

describe('A restore point as an iSCSI disk', () => {
  it('is read by QEMU as it was stored, by itself and through an overlay', () =>
    withRepository(async (repository) => {
      const content = diskContent(DISK_BYTES, 'point');
      const point = await storedDisk(repository, content);

      await withTarget({ open: async () => serveReader(point) }, async ({ folder, url }) => {
        const back = path.join(folder, 'back.img');
        const read = await runClient('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', url, back]);
        assert.equal(read.status, 0, read.output);
        assert.ok((await readFile(back)).equals(content));
      });
      await withTarget(
        {
          open: (folder) => openOverlayDisk({ path: path.join(folder, 'overlay'), base: point, baseIdentity: 'point' }),
        },
        async (scene) => {
          const changed = Buffer.from(content);
          changed.fill('changed', 1_000_448, 3_000_832);

          await assertConvertsBothWays(scene, changed);

          assert.ok((await point.read(0, DISK_BYTES)).equals(content), 'the point itself changed');
        },
      );
    }));

  it('passes the suite of libiscsi through an overlay', () =>
    withRepository(async (repository) => {
      const point = await storedDisk(repository, diskContent(DISK_BYTES, 'suite'));
      await withTarget(
        {
          open: (folder) => openOverlayDisk({ path: path.join(folder, 'overlay'), base: point, baseIdentity: 'point' }),
        },
        async (scene) => {
          await assertPassesSuite(scene);
          const { blocks } = await stat(path.join(scene.folder, 'overlay'));
          assert.ok(blocks * 512 < DISK_BYTES, 'the overlay is not sparse');
        },
      );
    }));
});

describe('An ingest disk', () => {
  it('becomes a version of what QEMU wrote, and the next costs only what changed', () =>
    withRepository(async (repository) => {
      const first = diskContent(DISK_BYTES, 'first');
      const second = Buffer.from(first);
      second.fill('changed', 10_000_384, 10_400_256);
      let base: PointDisk | null = null;
      const newBytes: number[] = [];

      for (const content of [first, second]) {
        const { disk, writer, session } = await ingest(repository, base);
        await withTarget({ open: async () => disk }, async (scene) => {
          const source = path.join(scene.folder, 'source.img');
          await writeFile(source, content);
          const args = ['convert', '-n', '-t', 'writeback', '-S', '0', '-f', 'raw', '-O', 'raw', source, scene.url];
          const written = await runClient('qemu-img', args);
          assert.equal(written.status, 0, written.output);
          assert.equal((await scene.sessionEnd()).orderly, true);
          assert.deepEqual(await disk.finish(), []);
          newBytes.push((await writer.finish()).stats.newBytes);
        });
        const { pointId } = await session.commit(request({}));
        base = await (await repository.openPoint(pointId)).openDisk('d0');
        assert.ok((await base.read(0, DISK_BYTES)).equals(content));
      }

      assert.ok((newBytes[1] ?? Infinity) < 600_000, `the second version stored ${newBytes[1]} bytes`);
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
    }));

  it('leaves no version of what was not finished', () =>
    withRepository(async (repository) => {
      const base = await storedDisk(repository, diskContent(DISK_BYTES, 'base'));
      const { disk, session } = await ingest(repository, base);

      await withTarget({ open: async () => disk }, async ({ url }) => {
        for (const suite of ['Write10', 'WriteSame10', 'Unmap', 'CompareAndWrite']) {
          const { output } = await runClient('iscsi-test-cu', ['-d', '-n', '-t', `SCSI.${suite}`, url]);
          assert.match(output, /tests +\d+ +\d+ +\d+ +0/, output);
        }
      });

      await session.abort();
      assert.equal((await repository.listPoints()).length, 1);
    }));
});
