/**
 * Writes golden repositories of versions that leave out what a guest does not need: `node
 * test/format/make-skipped-golden.ts FOLDER`. Run once; the result is committed and never made again. Needs Debian's
 * `e2fsprogs util-linux`.
 *
 * The disk was full of noise before its file systems were made, so what is free holds something. It has an ext4, a
 * swap area and an ext4 that was not unmounted, whose free space nobody can be sure of. The second version is built on
 * the first and takes over zeros of it.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findReadAgain, findSkippedSpace, type SkippedSpace } from '../../server/backup/skipped-space.ts';
import { subtractExtents, totalBytes, type DiskReader, type Extent } from '../../server/disk/index.ts';
import { createRepository, type PointDisk } from '../../server/repository/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { GOLDEN_PASSPHRASE } from './make-golden.ts';

const CHUNK = 64 * 1024;
const MIB = 1024 * 1024;
const DISK_BYTES = 24 * MIB;
const EXT4 = ['mkfs.ext4', '-q', '-F', '-E', 'nodiscard', '-O', '^has_journal', '-N', '32'];
const PARTITIONS = [
  { at: MIB, bytes: 12 * MIB, type: 0x83, make: EXT4 },
  { at: 14 * MIB, bytes: 4 * MIB, type: 0x82, make: ['mkswap', '-q'] },
  { at: 18 * MIB, bytes: 5 * MIB, type: 0x83, make: EXT4 },
];

export interface ExpectedSkipped {
  points: {
    /** SHA-256 of the disk as the version has it, and as the machine had it. */
    disk: string;
    source: string;
    /** As in the evidence. */
    skipped: { bytes: number; isInherited: boolean; volumes: SkippedSpace['volumes'] };
  }[];
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

async function withFile<T>(content: Buffer, use: (file: string) => T): Promise<{ content: Buffer; result: T }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'dozo-golden-'));
  const file = path.join(folder, 'image');
  try {
    await writeFile(file, content);
    const result = use(file);
    return { content: await readFile(file), result };
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function makeSource(): Promise<Buffer> {
  const disk = createHash('shake256', { outputLength: DISK_BYTES }).update('what was there before').digest();
  // What is read in full is small when it is stored.
  disk.fill(0, 0, MIB);
  disk.fill(0, 13 * MIB, 14 * MIB);
  disk.fill(0, 18 * MIB);
  for (const [index, { at, bytes, make }] of PARTITIONS.entries()) {
    const { content } = await withFile(disk.subarray(at, at + bytes), (file) => {
      execFileSync(make[0] as string, [...make.slice(1), file]);
      if (index === 2) execFileSync('debugfs', ['-w', '-R', 'ssv state 0', file], { stdio: 'ignore' });
    });
    content.copy(disk, at);
  }
  // The table of partitions of a master boot record.
  for (const [index, { at, bytes, type }] of PARTITIONS.entries()) {
    disk.writeUInt8(type, 446 + 16 * index + 4);
    disk.writeUInt32LE(at / 512, 446 + 16 * index + 8);
    disk.writeUInt32LE(bytes / 512, 446 + 16 * index + 12);
  }
  disk.writeUInt16BE(0x55aa, 510);
  return disk;
}

function readerOf(content: Buffer): DiskReader {
  return {
    sizeBytes: content.length,
    read: async (offsetBytes, lengthBytes) => Buffer.from(content.subarray(offsetBytes, offsetBytes + lengthBytes)),
  };
}

async function make(folder: string, sources: readonly Buffer[], passphrase?: string): Promise<ExpectedSkipped> {
  await mkdir(folder, { recursive: true });
  const storage = await openLocalStorage({ folder });
  const secret = passphrase === undefined ? {} : { passphrase };
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, ...secret });
  const expected: ExpectedSkipped = { points: [] };
  let base: PointDisk | null = null;
  let previousPointId: string | null = null;
  for (const [version, source] of sources.entries()) {
    const choice = { freeSpace: true, swap: true };
    const { extents, volumes } = await findSkippedSpace(readerOf(source), choice, CHUNK, new AbortController().signal);
    const all: Extent = { offsetBytes: 0, lengthBytes: source.length };
    let wanted = subtractExtents([all], extents);
    let isInherited = false;
    if (base !== null) {
      const again = await findReadAgain(base, source.length, extents);
      isInherited = again.isInherited;
      // Nothing is read but what differs and what the version before has as zeros.
      const former = sources[version - 1] as Buffer;
      const at = Array.from({ length: source.length / CHUNK }, (_, chunk) => chunk * CHUNK);
      const differs = at.filter((from) => !source.subarray(from, from + CHUNK).equals(former.subarray(from, from + CHUNK)));
      const changed = differs.map((offsetBytes) => ({ offsetBytes, lengthBytes: CHUNK }));
      wanted = subtractExtents([...changed, ...again.extents], extents);
    }
    const session = await repository.startWrite({ sessionId: `skipped-${version + 1}` });
    const writer = await session.openDisk({ key: 'scsi0:0', sizeBytes: source.length, base });
    for (const { offsetBytes, lengthBytes } of wanted) {
      await writer.write(offsetBytes, Buffer.from(source.subarray(offsetBytes, offsetBytes + lengthBytes)));
    }
    await writer.finish();
    const skipped = { bytes: base === null ? totalBytes(extents) : 0, isInherited, volumes };
    const manifest = await session.commit({
      ...{ machineId: 'uuid-1', machineName: 'ゲスト', createdAtMs: 1_700_000_000_000 + version, state: 'complete' },
      ...{ stateReasons: [], previousPointId, files: [], machine: null },
      disks: [{ key: 'scsi0:0', changeToken: `token ${version}`, facts: { label: 'Hard disk 1' } }],
      evidence: { version: 1, disks: [{ key: 'scsi0:0', skipped }] },
    });
    previousPointId = manifest.pointId;
    base = await (await repository.openPoint(manifest.pointId)).openDisk('scsi0:0');
    const disk = sha256(await base.read(0, base.sizeBytes));
    expected.points.push({ disk, source: sha256(source), skipped });
    // Points of a run lie seconds apart in their names.
    await new Promise((resolve) => setTimeout(resolve, 1100));
  }
  await repository.close();
  await rm(path.join(folder, 'tmp'), { recursive: true });
  return expected;
}

const target = process.argv[2];
if (process.argv[1]?.endsWith('make-skipped-golden.ts') === true && target !== undefined) {
  const folder = await mkdtemp(path.join(tmpdir(), 'dozo-golden-'));
  const file = path.join(folder, 'file');
  await writeFile(file, 'kept\n'.repeat(40_000));
  const before = await makeSource();
  const after = Buffer.from(before);
  const [first] = PARTITIONS;
  if (first !== undefined) {
    const part = await withFile(before.subarray(first.at, first.at + first.bytes), (image) =>
      execFileSync('debugfs', ['-w', '-R', `write ${file} kept.txt`, image], { stdio: 'ignore' }),
    );
    part.content.copy(after, first.at);
  }
  await rm(folder, { recursive: true });
  const expected: Record<string, ExpectedSkipped> = {
    plain: await make(path.join(target, 'plain'), [before, after]),
    encrypted: await make(path.join(target, 'encrypted'), [before, after], GOLDEN_PASSPHRASE),
  };
  await writeFile(path.join(target, 'expected.json'), `${JSON.stringify(expected, null, 2)}\n`);
}
