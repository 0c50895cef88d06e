/**
 * Writes a set of golden repositories into a new folder: `node test/format/make-golden.ts FOLDER`.
 * Run once a format version; the result is committed and never made again.
 */
import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createRepository, type PointDisk } from '../../server/repository/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';

const CHUNK = 64 * 1024;
export const GOLDEN_PASSPHRASE = 'golden Grüße 東京';

interface Expected {
  [repository: string]: { points: { machineName: string; disks: Record<string, string>; files: Record<string, string> }[] };
}

/** Two disks: one of three levels of nothing but a few chunks, one that ends within a chunk. */
function contentOf(key: string, version: number): Buffer {
  const content = Buffer.alloc(key === 'scsi0:0' ? 300 * CHUNK : 2 * CHUNK + 4321);
  if (key === 'scsi0:0') {
    content.fill('first line of a disk\n', 0, 5000);
    createHash('sha512').update('noise').digest().copy(content, 255 * CHUNK - 20);
    content.fill(`version ${version}\n`, 270 * CHUNK + 100, 270 * CHUNK + 9000);
  } else {
    let block = createHash('sha512').update(key).digest();
    for (let at = CHUNK; at < CHUNK + 6000; at += 64) {
      block.copy(content, at);
      block = createHash('sha512').update(block).digest();
    }
    content.fill('end', content.length - 300);
  }
  return content;
}

async function make(folder: string, encrypted: boolean): Promise<Expected[string]> {
  await mkdir(folder, { recursive: true });
  const repository = await createRepository({
    storage: await openLocalStorage({ folder }),
    chunkSizeBytes: CHUNK,
    threads: 0,
    identity: encrypted ? 'sha512-256' : 'sha256',
    ...(encrypted ? { passphrase: GOLDEN_PASSPHRASE } : {}),
  });
  const expected: Expected[string] = { points: [] };
  let previousPointId: string | null = null;
  const bases = new Map<string, PointDisk>();
  for (const version of [1, 2]) {
    const session = await repository.startWrite({ sessionId: `golden-${version}` });
    const disks: Record<string, string> = {};
    const files = [{ name: 'ゲスト.vmx', kind: 'vmx', content: Buffer.from(`version = "${version}"\n`.repeat(30)) }];
    for (const key of ['scsi0:0', 'scsi0:1']) {
      const content = contentOf(key, version);
      disks[key] = createHash('sha256').update(content).digest('hex');
      const writer = await session.openDisk({ key, sizeBytes: content.length, base: bases.get(key) ?? null });
      await writer.write(0, content);
      await writer.finish();
    }
    const manifest = await session.commit({
      machineId: 'uuid-1',
      machineName: 'ゲスト',
      createdAtMs: 1_700_000_000_000 + version,
      state: 'complete',
      stateReasons: [],
      previousPointId,
      disks: Object.keys(disks).map((key) => ({ key, changeToken: `token ${version}`, facts: { label: key } })),
      files,
      machine: { cpus: 2 },
      evidence: { quiesced: true },
    });
    previousPointId = manifest.pointId;
    const point = await repository.openPoint(manifest.pointId);
    for (const key of Object.keys(disks)) bases.set(key, await point.openDisk(key));
    const hashes = files.map(({ name, content }) => [name, createHash('sha256').update(content).digest('hex')]);
    expected.points.push({ machineName: 'ゲスト', disks, files: Object.fromEntries(hashes) as Record<string, string> });
    // Points of a run lie seconds apart in their names.
    await new Promise((resolve) => setTimeout(resolve, 1100));
  }
  await repository.close();
  await rm(path.join(folder, 'tmp'), { recursive: true });
  return expected;
}

const target = process.argv[2];
if (process.argv[1]?.endsWith('make-golden.ts') === true && target !== undefined) {
  const expected: Expected = {
    plain: await make(path.join(target, 'plain'), false),
    encrypted: await make(path.join(target, 'encrypted'), true),
  };
  await writeFile(path.join(target, 'expected.json'), `${JSON.stringify(expected, null, 2)}\n`);
}
