/**
 * Writes golden repositories in which something was decided and something broke: `node
 * test/format/make-marked-golden.ts FOLDER`. Run once; the result is committed and never made again.
 *
 * In each: a version that is locked, one in the trash, one that was brought back from there, one that is gone for good
 * and one whose deletion was cut after its purge; a fence; packs that a collector announced and did not remove; a
 * damaged copy of a chunk that was noted and stored again; evidence; an interrupted session.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createRepository, openRepository, type KeptRepository } from '../../server/repository/index.ts';
import { openLocalStorage, type Storage } from '../../server/storage/index.ts';
import { GOLDEN_PASSPHRASE } from './make-golden.ts';

const CHUNK = 64 * 1024;
/** 2100: long after every test. */
const FAR_MS = 4_102_444_800_000;

export interface ExpectedMarks {
  /** Shown, oldest first: SHA-256 of the disk. */
  shown: Record<string, string>;
  locked: { pointId: string; untilMs: number };
  trashed: string;
  /** Purged, its file still there. */
  purged: string;
  fenced: string;
}

function contentOf(version: number): Buffer {
  const content = Buffer.alloc(5 * CHUNK + 99);
  let block = createHash('sha512').update('marks').digest();
  for (let at = 0; at < CHUNK; at += 64) {
    block.copy(content, at);
    block = createHash('sha512').update(block).digest();
  }
  content.fill(`own of version ${version}\n`, 3 * CHUNK, 4 * CHUNK);
  return content;
}

async function commit(repository: KeptRepository, version: number): Promise<string> {
  const session = await repository.startWrite({ sessionId: `marks-${version}` });
  const content = contentOf(version);
  const writer = await session.openDisk({ key: 'scsi0:0', sizeBytes: content.length, base: null });
  await writer.write(0, content);
  await writer.finish();
  const { pointId } = await session.commit({
    ...{ machineId: 'uuid-1', machineName: 'ゲスト', createdAtMs: 1_700_000_000_000 + version, state: 'complete' },
    ...{ stateReasons: [], previousPointId: null, files: [], machine: null, evidence: { version } },
    disks: [{ key: 'scsi0:0', changeToken: null, facts: null }],
  });
  return pointId;
}

/** A session that was interrupted after its first checkpoint. */
async function interrupt(folder: string, sessionId: string, unlock: object): Promise<void> {
  const repository = await openRepository({ storage: await openLocalStorage({ folder }), threads: 0, ...unlock });
  const session = await repository.startWrite({ sessionId });
  const writer = await session.openDisk({ key: 'scsi0:0', sizeBytes: 2 * CHUNK, base: null });
  await writer.write(0, Buffer.alloc(CHUNK, sessionId));
  await session.checkpoint({ at: 1 });
  // Not ended in order: its records look like those of a writer at work.
}

/** Changes a stored byte of the pack's first chunk. */
async function damage(folder: string): Promise<void> {
  for (const name of await readdir(path.join(folder, 'packs'), { recursive: true })) {
    if (!name.endsWith('.pack')) continue;
    const file = path.join(folder, 'packs', name);
    const bytes = await readFile(file);
    // The one with the chunk that does not compress, which every version needs.
    if (bytes.length < CHUNK) continue;
    bytes[70] = (bytes[70] as number) ^ 1;
    await writeFile(file, bytes);
    return;
  }
  throw new Error('no pack to damage');
}

async function make(folder: string, unlock: { passphrase?: string }): Promise<ExpectedMarks> {
  await mkdir(folder, { recursive: true });
  const storage = await openLocalStorage({ folder });
  let repository = await createRepository({
    ...{ storage, chunkSizeBytes: CHUNK, threads: 0, ...unlock },
    identity: unlock.passphrase === undefined ? 'sha256' : 'sha512-256',
  });
  const open = (of: Storage): Promise<KeptRepository> => openRepository({ storage: of, threads: 0, ...unlock });
  const ids: string[] = [];
  for (let version = 1; version <= 7; version += 1) ids.push(await commit(repository, version));
  const [, second, third, fourth, fifth, sixth, seventh] = ids as [string, string, string, string, string, string, string];

  // A deletion that came to its end, and a fence for who was silent meanwhile.
  await interrupt(folder, 'silent', unlock);
  await repository.deletePoint(seventh, { keepUntilMs: Date.now() - 1, reason: 'rule' });
  const before = new Set(await readdir(path.join(folder, 'points')));
  await repository.collect({ patienceMs: 0, sessionSilenceMs: 0, liveShareMin: 0 });
  const fenced = (await readdir(path.join(folder, 'points'))).find((name) => !before.has(name));
  if (fenced === undefined) throw new Error('nothing was fenced');
  await rm(path.join(folder, 'sessions/silent'), { recursive: true, force: true });

  // Noted, and stored again by the next that delivers it.
  await repository.close();
  await damage(folder);
  repository = await open(storage);
  const { damages } = await repository.check({ depth: 'hashes', noteDamage: true });
  if (damages.length === 0) throw new Error('the damage was not found');
  ids.push(await commit(repository, 8));

  await repository.lockPoint(third, FAR_MS);
  await repository.deletePoint(fourth, { keepUntilMs: FAR_MS, reason: 'Deleted on request.' });
  await repository.deletePoint(second, { keepUntilMs: FAR_MS, reason: 'Deleted on request.' });
  await repository.restorePoint(second);

  // Announced, and not removed: somebody is at work.
  await interrupt(folder, 'at-work', unlock);
  await repository.deletePoint(fifth, { keepUntilMs: Date.now() - 1, reason: 'rule' });
  const waiting = await repository.collect({ patienceMs: 0, liveShareMin: 0.9 });
  if (waiting.state !== 'waiting') throw new Error('the collection did not wait');

  // A cut after a purge.
  await repository.deletePoint(sixth, { keepUntilMs: Date.now() - 1, reason: 'rule' });
  await repository.close();
  const failing = await openLocalStorage({ folder });
  failing.remove = () => Promise.reject(new Error('cut'));
  repository = await open(failing);
  await repository.collect({ patienceMs: 0 }).then(
    () => Promise.reject(new Error('it was not cut')),
    () => undefined,
  );
  const shown = (await repository.listPoints()).map(({ pointId }) => pointId);
  await repository.close();
  await rm(path.join(folder, 'tmp'), { recursive: true, force: true });
  const hash = (pointId: string): string =>
    createHash('sha256')
      .update(contentOf(ids.indexOf(pointId) + 1))
      .digest('hex');
  return {
    shown: Object.fromEntries(shown.map((pointId) => [pointId, hash(pointId)])),
    locked: { pointId: third, untilMs: FAR_MS },
    trashed: fourth,
    purged: sixth,
    fenced: fenced.slice(0, -'.point'.length),
  };
}

const target = process.argv[2];
if (process.argv[1]?.endsWith('make-marked-golden.ts') === true && target !== undefined) {
  const expected: Record<string, ExpectedMarks> = {
    plain: await make(path.join(target, 'plain'), {}),
    encrypted: await make(path.join(target, 'encrypted'), { passphrase: GOLDEN_PASSPHRASE }),
  };
  await writeFile(path.join(target, 'expected.json'), `${JSON.stringify(expected, null, 2)}\n`);
}
