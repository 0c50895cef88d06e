/**
 * One measured step of `repository.ts` in a process of its own, so that its memory and processor time
 * are its own: `create` (a repository without versions), `full` (that, and a version), `add` (another one, on no
 * base), `again` (on the base of the last version), `restore` (the last one), `check` (by hashes), `checksums` (a check by them), `prune` (the version in the
 * middle goes, and its data), `open` (nothing else). Tags of chunks lie beside the repository. With
 * DOZO_BENCH_MACHINE_KEY `create` makes an encrypted repository and puts a machine key for it into a file of that name,
 * with which the other steps open it: as a worker does, without what a passphrase costs on purpose. With
 * DOZO_BENCH_MIB_PER_S the disk comes no faster than that, as from a host.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import {
  createRepository,
  openKeyring,
  openRepository,
  type PointDisk,
  type PointManifest,
} from '../../server/repository/index.ts';
import { RecallFolder, type TagSubject } from '../../server/recall/index.ts';
import { MIB, releaseMemory, silentLogger, systemClock } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';

const [step = '', folder = '', image = ''] = process.argv.slice(2);
const PIECE_BYTES = MIB;
const WRITES_MAX = 3;
const rateMibPerS = Number(process.env['DOZO_BENCH_MIB_PER_S'] ?? Infinity);
const keyFile = process.env['DOZO_BENCH_MACHINE_KEY'];

async function options(): Promise<Parameters<typeof openRepository>[0]> {
  const storage = await openLocalStorage({ folder });
  return keyFile === undefined ? { storage } : { storage, machineKey: await readFile(keyFile) };
}

async function create(): Promise<void> {
  await mkdir(folder, { recursive: true });
  const storage = await openLocalStorage({ folder });
  const secret = keyFile === undefined ? {} : { passphrase: 'bench' };
  await (await createRepository({ storage, ...secret })).close();
  if (keyFile === undefined) return;
  const keyring = await openKeyring({ storage, secret });
  await writeFile(keyFile, (await keyring.addMachineKey('bench')).machineKey);
}

async function write(base: boolean): Promise<void> {
  const repository = await openRepository(await options());
  const file = await open(image, 'r');
  const { size } = await file.stat();
  const last = (await repository.listPoints()).at(-1);
  const point = base && last !== undefined ? await repository.openPoint(last.pointId) : null;
  const baseDisk = point === null ? null : await point.openDisk('d0');
  const session = await repository.startWrite({ sessionId: `bench-${process.pid}` });
  const tagged = {
    repositoryId: repository.id,
    machineId: step === 'add' ? session.sessionId : 'bench',
    diskKey: 'd0',
  };
  const subjectOf = ({ pointId, disks }: PointManifest): TagSubject => {
    const { sizeBytes, rootHash = '' } = disks[0] ?? { sizeBytes: 0 };
    return { ...tagged, pointId, rootHash, sizeBytes, chunkSizeBytes: repository.chunkSizeBytes };
  };
  const recallFolder = new RecallFolder({ folder: `${folder}-recall`, clock: systemClock, logger: silentLogger });
  const former = point === null || baseDisk === null ? null : { subject: subjectOf(point.manifest), disk: baseDisk };
  const recall = recallFolder.open(tagged, former);
  const writer = await session.openDisk({ key: 'd0', sizeBytes: size, base: baseDisk, recall });
  const beganMs = performance.now();
  let next = 0;
  const reader = async (): Promise<void> => {
    const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
    while (next < size) {
      const at = next;
      const length = Math.min(PIECE_BYTES, size - at);
      next += length;
      await file.read(buffer, 0, length, at);
      const earlyMs = beganMs + ((at / MIB) * 1000) / rateMibPerS - performance.now();
      if (earlyMs > 0) await delay(earlyMs);
      await writer.write(at, buffer.subarray(0, length));
    }
  };
  await Promise.all([reader(), reader()]);
  const { stats } = await writer.finish();
  const committed = await session.commit({
    machineId: 'bench',
    machineName: 'bench',
    createdAtMs: Date.now(),
    state: 'complete',
    stateReasons: [],
    previousPointId: last?.pointId ?? null,
    disks: [{ key: 'd0', changeToken: null, facts: null }],
    files: [],
    machine: null,
    evidence: null,
  });
  await recall?.publish(subjectOf(committed));
  await file.close();
  await repository.close();
  result['stats'] = stats;
}

async function restore(): Promise<void> {
  const repository = await openRepository(await options());
  const point = (await repository.listPoints()).at(-1);
  if (point === undefined) throw new Error('no point to restore');
  const disk: PointDisk = await (await repository.openPoint(point.pointId)).openDisk('d0');
  const file = await open(image, 'w');
  await file.truncate(disk.sizeBytes);
  // A restore to a host writes over several channels.
  const writing = new Set<Promise<void>>();
  for await (const { offsetBytes, data } of disk.stream({})) {
    const write = file.write(data, 0, data.length, offsetBytes).then(() => {
      releaseMemory(data);
      writing.delete(write);
    });
    writing.add(write);
    if (writing.size >= WRITES_MAX) await Promise.race(writing);
  }
  await Promise.all(writing);
  await file.close();
  await repository.close();
}

async function check(depth: 'checksums' | 'hashes'): Promise<void> {
  const repository = await openRepository(await options());
  const report = await repository.check({ depth });
  if (report.damages.length > 0) throw new Error(JSON.stringify(report.damages));
  await repository.close();
  result['readBytes'] = report.readBytes;
}

async function prune(): Promise<void> {
  const repository = await openRepository(await options());
  const points = await repository.listPoints();
  const point = points[Math.floor(points.length / 2)];
  if (point === undefined) throw new Error('no point to delete');
  await repository.deletePoint(point.pointId, { keepUntilMs: Date.now() - 1, reason: 'bench' });
  const { state, purgedPoints } = await repository.collect({ patienceMs: 0 });
  if (state !== 'done' || purgedPoints.length !== 1) throw new Error(`the collector ended as ${state}`);
  await repository.close();
}

const result: Record<string, unknown> = {};
const started = performance.now();
const usedBefore = process.cpuUsage();
if (step === 'create' || step === 'full') await create();
if (step === 'full' || step === 'add') await write(false);
else if (step === 'again') await write(true);
else if (step === 'prune') await prune();
else if (step === 'restore') await restore();
else if (step === 'check') await check('hashes');
else if (step === 'checksums') await check('checksums');
else if (step === 'open') await (await openRepository(await options())).close();
else if (step !== 'create') throw new Error(`unknown step ${step}`);
const used = process.cpuUsage(usedBefore);
const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
result['seconds'] = (performance.now() - started) / 1000;
// Without starting Node and loading the code, which is most of a short step and no part of the work.
result['stepCpuSeconds'] = (used.user + used.system) / 1e6;
result['cpuSeconds'] = (userCPUTime + systemCPUTime) / 1e6;
result['peakMemoryBytes'] = maxRSS * 1024;
console.log(JSON.stringify(result));
