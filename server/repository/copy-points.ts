import { createHash } from 'node:crypto';
import * as z from 'zod';
import { normalizeExtents, totalBytes, type Extent } from '../disk/index.ts';
import { AppError, isAppError } from '../errors/index.ts';
import { releaseMemory, systemClock } from '../runtime/index.ts';
import type { DiskWriter, KeptRepository, Point, PointDisk, PointManifest, WriteSession } from './repository.ts';

/** Copied between two checkpoints: what an interruption costs, and what a comparison holds hashes of. */
const PIECE_BYTES = 1024 * 1024 * 1024;
/** Compared by one hash; every chunk size is a multiple. */
const UNIT_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(UNIT_BYTES);
/** Read back at a time. */
const READ_BYTES = 4 * 1024 * 1024;

export interface CopyOptions {
  source: KeptRepository;
  target: KeptRepository;
  /** Null: all versions. */
  pointIds: readonly string[] | null;
  signal: AbortSignal;
  /** Told for every version before it is copied, oldest first. */
  begin(point: PointManifest, position: { number: number; count: number }): void;
  progress(done: { doneBytes: number; totalBytes: number }): void;
}

export interface CopyReport {
  copied: { pointId: string; targetPointId: string; readBytes: number; storedBytes: number }[];
  /** There already, perhaps in the trash. */
  present: number;
  /** There already, but damaged: whole again by what was sent. */
  repaired: { pointId: string; targetPointId: string }[];
  /** Versions that cannot be read; the others are copied all the same. */
  failed: { pointId: string; code: string; text: string }[];
}

/** One version, wherever copies of it lie. */
const placeSchema = z.object({ repositoryId: z.string(), pointId: z.string() });
type PointPlace = z.infer<typeof placeSchema>;

/** In the evidence of a copied point: where it is from, and where that was made if it was a copy itself. */
const originSchema = placeSchema.extend({ rootHash: z.string(), original: placeSchema.exactOptional() });
type CopyOrigin = z.infer<typeof originSchema>;

/**
 * Sends versions to another repository, of any chunk size, plain or encrypted. Only what differs from the version
 * before is read, only what the target has not is stored, and what an earlier attempt delivered is not read again.
 * A version appears there once it is whole and compared. The source is only read; what is deleted there later stays
 * at the target, which keeps and deletes by its own rules. A version that the target has is not sent again, also when
 * it was made there and comes back; where it lacks something there, it is made whole.
 *
 * @throws CONFLICT when both are one repository, CANCELLED, errors of the target's storage; an error of one
 *   version's data is in the report
 */
export async function copyPoints(options: CopyOptions): Promise<CopyReport> {
  const { source, target, signal } = options;
  if (source.id === target.id) {
    throw new AppError('CONFLICT', 'Source and target are the same repository, or one is a copy of its files.', {
      hint: 'Choose another repository as the target.',
      details: { repositoryId: source.id },
    });
  }
  const there = await findThere(target);
  const copies = new Map<string, string>();
  const report: CopyReport = { copied: [], present: 0, repaired: [], failed: [] };
  const wanted: PointManifest[] = [];
  /** At the target, by id at the source; not those in its trash. */
  const listed = new Map<string, string>();
  for (const { pointId, manifest, damage } of await source.listPoints()) {
    const found = there(placesOf({ repositoryId: source.id, pointId }, manifest?.evidence));
    if (found !== null) copies.set(pointId, found.pointId);
    if (options.pointIds !== null && !options.pointIds.includes(pointId)) continue;
    if (manifest === null && found === null)
      report.failed.push({ pointId, code: 'REPOSITORY_MANIFEST_DAMAGED', text: damage ?? 'It cannot be read.' });
    else if (manifest === null || found?.isInTrash === true) report.present += 1;
    else {
      if (found !== null) listed.set(pointId, found.pointId);
      wanted.push(manifest);
    }
  }
  // A version is there only with all that it needs: the target may have lost a pack, or a check found damage.
  const broken = await target.findBroken([...listed.values()], signal);
  const sent = wanted.filter(({ pointId }) => {
    const targetPointId = listed.get(pointId);
    return targetPointId === undefined || broken.has(targetPointId);
  });
  report.present += wanted.length - sent.length;
  for (const [index, manifest] of sent.entries()) {
    signal.throwIfAborted();
    const { pointId } = manifest;
    const damaged = listed.get(pointId);
    const isHealed = async (): Promise<boolean> =>
      damaged !== undefined && !(await target.findBroken([damaged], signal)).has(damaged);
    // By what was sent for a version before.
    if (index > 0 && damaged !== undefined && (await isHealed())) {
      report.repaired.push({ pointId, targetPointId: damaged });
      continue;
    }
    options.begin(manifest, { number: index + 1, count: sent.length });
    try {
      const copied = await copyPoint(options, manifest, copies);
      if (damaged !== undefined && (await isHealed())) {
        // Chunks are shared by their names, so it has all of them again and needs no twin.
        const reason = `It was sent to make version ${damaged} whole again, which it is.`;
        await target.deletePoint(copied.targetPointId, { keepUntilMs: systemClock.nowMs(), reason });
        report.repaired.push({ pointId, targetPointId: damaged });
        continue;
      }
      copies.set(pointId, copied.targetPointId);
      report.copied.push({ pointId, ...copied });
    } catch (error) {
      // Deleted at the source since it was listed, by retention for one: nobody wants it any more.
      if (isAppError(error) && error.code === 'POINT_NOT_FOUND' && error.details['pointId'] === pointId) continue;
      // Of this version's data, which others may not need; what the target's storage says ends the copy.
      if (!isAppError(error) || !/^(?:REPOSITORY_(?:CHUNK|MANIFEST|PACK)|DISK_VERIFY)/.test(error.code)) throw error;
      report.failed.push({ pointId, code: error.code, text: error.message });
    }
  }
  return report;
}

/**
 * Tells which version of the target is one of the source's, by where either is from; in its trash as well: somebody let
 * go of it on purpose. One that cannot be read is not there.
 */
async function findThere(
  target: KeptRepository,
): Promise<(places: readonly PointPlace[]) => { pointId: string; isInTrash: boolean } | null> {
  const listed = new Map<string, string>();
  const trashed = new Map<string, string>();
  for (const [into, listings] of [
    [trashed, await target.listTrash()],
    [listed, await target.listPoints()],
  ] as const) {
    for (const { pointId, manifest } of listings) {
      if (manifest === null) continue;
      const places = placesOf({ repositoryId: target.id, pointId }, manifest.evidence);
      // The version itself before any copy of it.
      for (const place of places.slice(1)) if (!into.has(keyOf(place))) into.set(keyOf(place), pointId);
      into.set(keyOf({ repositoryId: target.id, pointId }), pointId);
    }
  }
  return (places) => {
    for (const [among, isInTrash] of [
      [listed, false],
      [trashed, true],
    ] as const) {
      for (const place of places) {
        const pointId = among.get(keyOf(place));
        if (pointId !== undefined) return { pointId, isInTrash };
      }
    }
    return null;
  };
}

function keyOf({ repositoryId, pointId }: PointPlace): string {
  return `${repositoryId} ${pointId}`;
}

/** Where a version is, where it was copied from, and where it was made. */
function placesOf(own: PointPlace, evidence: unknown): PointPlace[] {
  const origin = originOf(evidence);
  if (origin === null) return [own];
  return origin.original === undefined ? [own, origin] : [own, origin, origin.original];
}

function originOf(evidence: unknown): CopyOrigin | null {
  if (typeof evidence !== 'object' || evidence === null || !('copiedFrom' in evidence)) return null;
  const parsed = originSchema.safeParse(evidence.copiedFrom);
  return parsed.success ? parsed.data : null;
}

/** A disk on its way, with what it is built on. */
interface DiskPlan {
  key: string;
  /** In the source. */
  rootHash: string;
  disk: PointDisk;
  hasBase: boolean;
  /** What differs from the base; all data without one. */
  extents: Extent[];
  writer: DiskWriter;
}

/** Facts of a checkpoint: pieces delivered of each disk. */
interface CopyFacts {
  pieces: Record<string, number>;
}

async function copyPoint(
  options: CopyOptions,
  manifest: PointManifest,
  copies: ReadonlyMap<string, string>,
): Promise<{ targetPointId: string; readBytes: number; storedBytes: number }> {
  const { source, target } = options;
  const point = await source.openPoint(manifest.pointId);
  const former = await openFormer(options, manifest, copies);
  const session = await target.startWrite({ sessionId: `copy-${source.id.slice(0, 16)}-${manifest.pointId}` });
  let doneBytes = 0;
  try {
    const plans: DiskPlan[] = [];
    for (const { key, rootHash } of manifest.disks) {
      plans.push(await planDisk(session, { disk: await point.openDisk(key), rootHash, former }));
    }
    const totalsBytes = plans.reduce((sum, { extents }) => sum + totalBytes(extents), 0);
    const counter = {
      read: (bytes: number): void => {
        doneBytes += bytes;
        options.progress({ doneBytes, totalBytes: totalsBytes });
      },
    };
    const storedBytes = await deliver(session, plans, { ...options, ...counter });
    const committed = await commit(session, { point, manifest, sourceId: source.id, former });
    return { targetPointId: committed.pointId, readBytes: doneBytes, storedBytes };
  } catch (error) {
    await session.abort();
    throw error;
  }
}

interface Former {
  /** In the source and in the target. */
  point: Point;
  copy: Point;
}

/** The version before of the same machine, if it was copied: only the difference to it is read. */
async function openFormer(
  { source, target }: CopyOptions,
  manifest: PointManifest,
  copies: ReadonlyMap<string, string>,
): Promise<Former | null> {
  const { previousPointId } = manifest;
  const copyId = previousPointId === null ? undefined : copies.get(previousPointId);
  if (previousPointId === null || copyId === undefined) return null;
  try {
    return { point: await source.openPoint(previousPointId), copy: await target.openPoint(copyId) };
  } catch (error) {
    // Deleted meanwhile, or damaged: everything is read, and found by its hash.
    if (!isAppError(error)) throw error;
    return null;
  }
}

/** On the copy of the version before, where both can be read; else with nothing to stand on. */
async function planDisk(
  session: WriteSession,
  { disk, rootHash, former }: { disk: PointDisk; rootHash: string; former: Former | null },
): Promise<DiskPlan> {
  const { key, sizeBytes } = disk;
  const known = former?.point.manifest.disks.find((one) => one.key === key);
  const copied = former?.copy.manifest.disks.find((one) => one.key === key);
  if (former !== null && known?.sizeBytes === sizeBytes && copied !== undefined) {
    try {
      const extents: Extent[] = [];
      for await (const extent of disk.differentExtents(await former.point.openDisk(key))) extents.push(extent);
      const base = await former.copy.openDisk(key);
      return { key, rootHash, disk, hasBase: true, extents, writer: await session.openDisk({ key, sizeBytes, base }) };
    } catch (error) {
      if (!isAppError(error) || !error.code.startsWith('REPOSITORY_CHUNK')) throw error;
      // Damaged in either repository: all is sent, so that what the target lacks is there again.
    }
  }
  const extents: Extent[] = [];
  for await (const extent of disk.dataExtents()) extents.push(extent);
  const writer = await session.openDisk({ key, sizeBytes, base: null });
  return { key, rootHash, disk, hasBase: false, extents, writer };
}

/**
 * Every disk into the session, compared. Equal roots prove equal content where both repositories name chunks alike;
 * elsewhere each piece is read back from the target.
 * @returns bytes that the target stored
 * @throws DISK_VERIFY_FAILED
 */
async function deliver(
  session: WriteSession,
  plans: readonly DiskPlan[],
  options: Pick<CopyOptions, 'source' | 'target' | 'signal'> & { read(bytes: number): void },
): Promise<number> {
  const { signal } = options;
  const isProvenByRoot = options.source.namesChunksAs(options.target);
  const facts: CopyFacts = { pieces: { ...(session.checkpointFacts as CopyFacts | null)?.pieces } };
  let storedBytes = 0;
  for (const { key, rootHash, disk, hasBase, extents, writer } of plans) {
    // A checkpoint on another base does not count.
    const delivered = writer.resumed ? (facts.pieces[key] ?? 0) : 0;
    for (const [number, piece] of cutIntoPieces(extents).entries()) {
      if (number < delivered) {
        options.read(totalBytes(piece));
        continue;
      }
      // Where the base has data and this version has none, nothing comes.
      if (hasBase) for (const { offsetBytes, lengthBytes } of piece) await writer.zero(offsetBytes, lengthBytes);
      const hashes = new Map<number, string>();
      for await (const { offsetBytes, data } of disk.stream({ extents: piece, signal })) {
        signal.throwIfAborted();
        if (!isProvenByRoot) hashUnits(offsetBytes, data, hashes);
        const { length } = data;
        await writer.write(offsetBytes, data);
        releaseMemory(data);
        options.read(length);
      }
      if (!isProvenByRoot) await compare(key, writer, { extents: piece, hashes, signal });
      facts.pieces = { ...facts.pieces, [key]: number + 1 };
      await session.checkpoint(facts);
    }
    const finished = await writer.finish();
    if (isProvenByRoot && finished.rootHash !== rootHash) throw differs(key, null);
    storedBytes += finished.stats.storedBytes;
  }
  return storedBytes;
}

/** Reads a piece back from the target. What the source did not give is zero. */
async function compare(
  key: string,
  writer: DiskWriter,
  { extents, hashes, signal }: { extents: readonly Extent[]; hashes: ReadonlyMap<number, string>; signal: AbortSignal },
): Promise<void> {
  for (const extent of extents) {
    for (let done = 0; done < extent.lengthBytes; done += READ_BYTES) {
      signal.throwIfAborted();
      const offsetBytes = extent.offsetBytes + done;
      const found = new Map<number, string>();
      const data = await writer.read(offsetBytes, Math.min(READ_BYTES, extent.lengthBytes - done));
      hashUnits(offsetBytes, data, found);
      for (let at = offsetBytes; at < offsetBytes + data.length; at += UNIT_BYTES) {
        if (found.get(at) !== hashes.get(at)) throw differs(key, at);
      }
    }
  }
}

/** Hashes of the units that are not all zero, by offset. */
function hashUnits(offsetBytes: number, data: Buffer, into: Map<number, string>): void {
  for (let at = 0; at < data.length; at += UNIT_BYTES) {
    const unit = data.subarray(at, at + UNIT_BYTES);
    if (!unit.equals(ZEROS.subarray(0, unit.length)))
      into.set(offsetBytes + at, createHash('sha256').update(unit).digest('base64'));
  }
}

function differs(diskKey: string, offsetBytes: number | null): AppError {
  const where = offsetBytes === null ? '' : ` at byte ${offsetBytes}`;
  return new AppError('DISK_VERIFY_FAILED', `The copy of disk ${diskKey} differs from the source${where}.`, {
    hint: 'Check the disks and the memory of the NAS, then copy again. Nothing wrong was kept.',
    details: { diskKey, offsetBytes },
  });
}

async function commit(
  session: WriteSession,
  {
    point,
    manifest,
    sourceId,
    former,
  }: { point: Point; manifest: PointManifest; sourceId: string; former: Former | null },
): Promise<PointManifest> {
  const files: { name: string; kind: string; content: Buffer }[] = [];
  for (const { name, kind } of point.listFiles()) files.push({ name, kind, content: await point.readFile(name) });
  const { machineId, machineName, createdAtMs, state, stateReasons, machine, evidence } = manifest;
  const copiedFrom: CopyOrigin = { repositoryId: sourceId, pointId: manifest.pointId, rootHash: manifest.rootHash };
  const origin = originOf(evidence);
  if (origin !== null) {
    const { repositoryId, pointId } = origin.original ?? origin;
    copiedFrom.original = { repositoryId, pointId };
  }
  return session.commit({
    machineId,
    machineName,
    createdAtMs,
    state,
    stateReasons,
    previousPointId: former?.copy.manifest.pointId ?? null,
    disks: manifest.disks.map(({ key, changeToken, facts }) => ({ key, changeToken, facts })),
    files,
    machine,
    evidence: { ...(typeof evidence === 'object' ? evidence : { evidence }), copiedFrom },
  });
}

/** The same pieces for the same extents: a checkpoint counts them. */
function cutIntoPieces(extents: readonly Extent[]): Extent[][] {
  const pieces: Extent[][] = [];
  let piece: Extent[] = [];
  let roomBytes = PIECE_BYTES;
  for (const extent of normalizeExtents(extents)) {
    for (let done = 0; done < extent.lengthBytes;) {
      const lengthBytes = Math.min(roomBytes, extent.lengthBytes - done);
      piece.push({ offsetBytes: extent.offsetBytes + done, lengthBytes });
      done += lengthBytes;
      roomBytes -= lengthBytes;
      if (roomBytes > 0) continue;
      pieces.push(piece);
      piece = [];
      roomBytes = PIECE_BYTES;
    }
  }
  if (piece.length > 0) pieces.push(piece);
  return pieces;
}
