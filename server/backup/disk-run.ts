import type { LogLine } from '../contract/run.ts';
import { normalizeExtents, subtractExtents, totalBytes, type DiskReader, type Extent } from '../disk/index.ts';
import { AppError, assert, isAbort, toAppError } from '../errors/index.ts';
import type { DiskRecall } from '../recall/index.ts';
import type { DiskWriter, WriteStats } from '../repository/index.ts';
import { formatBytes, type Clock } from '../runtime/index.ts';
import type { Budget, FrozenDisk, MachineDisk, Note, ReadPlan, TransferReport } from '../source/index.ts';

import { ArrivalSink } from './arrival-sink.ts';
import type { Base } from './base-selection.ts';
import { deliverExtents } from './deliver-extents.ts';
import { ExtentSet } from './extent-set.ts';
import type { RunLog } from './run-log.ts';
import {
  explainFailure,
  findReadAgain,
  findSkippedSpace,
  partSkipped,
  transferReader,
  type SkipChoice,
  type SkippedSpace,
} from './skipped-space.ts';
import { ComparingSink, grownReader, pickSample, zeroReader } from './sample-verification.ts';
import { BottleneckMeter, type ProgressMeter } from './transfer-meter.ts';

/** What the parts of a run share. */
export interface RunContext {
  clock: Clock;
  log: RunLog;
  progress: ProgressMeter;
  signal: AbortSignal;
  budget: Budget | undefined;
  /** What of the guests' disks the version may do without, in whole chunks of the repository. */
  skip: SkipChoice & { chunkSizeBytes: number };
  /** Called after every delivery that the repository took. */
  delivered(bytes: number): Promise<void>;
  /** Makes durable at once what the run has learned. */
  remember(): Promise<void>;
  /** A step is done; tests cut here. */
  arrow(name: BackupArrow): Promise<void>;
}

/** The steps after which a run can be cut, in their order; the disk's repeat for each disk. */
export const BACKUP_ARROWS = [
  'opened',
  'swept',
  'frozen',
  'planned',
  'transferred',
  'verified',
  'disk-finished',
  'committed',
  'thawed',
] as const;
export type BackupArrow = (typeof BACKUP_ARROWS)[number];

/** One disk on its way into the point. */
export interface DiskRun {
  readonly frozen: FrozenDisk;
  readonly plan: ReadPlan;
  /** What outside of `extents` the writer holds: bytes of this version, or zeros. */
  readonly base: Base | null;
  kind: 'changed' | 'allocated' | 'everything';
  extents: Extent[];
  why: LogLine;
  /** Null where the host's change tracking has just been found wrong. */
  changeToken: string | null;
  writer: DiskWriter | null;
  /** The last version, where chunks may be recognised that stand as they did there. */
  former: Base | null;
  /** Tags of its chunks, where the next run will have to read all of it again. */
  recall: DiskRecall | null;
  arrived: ExtentSet;
  /** What need not be read; null until it was looked for, and where nothing was chosen. */
  skipped: SkippedSpace | null;
  /** Bytes that were to be read and became zeros instead. */
  skippedBytes: number;
  /** The base has zeros where its disk had bytes that nobody needed then; later, that some of them stay. */
  inheritsSkipped: boolean;
  /** The change map was found wrong in this run. */
  distrusted: boolean;
  verifiedBytes: number;
  report: TransferReport;
  bottleneck: BottleneckMeter;
  stats: WriteStats | null;
  failure: AppError | null;
}

/**
 * Whether an error concerns one disk, so that the others are still worth having. The rest (the host
 * is gone, the repository is full) ends the run.
 */
export function isDiskFault(error: AppError): boolean {
  return (
    error.code.startsWith('DISK_') ||
    error.code.startsWith('REPOSITORY_CHUNK_') ||
    ['CHANGE_MAP_INVALID', 'REPOSITORY_PACK_DAMAGED', 'HOST_COMMAND_FAILED', 'HOST_ANSWER_UNREADABLE'].includes(
      error.code,
    ) ||
    ['SOAP_FAULT', 'DATASTORE_FULL'].includes(error.code)
  );
}

/**
 * Asks the source what to read of a disk.
 *
 * @param base the earlier version to ask changes from; null reads all that is allocated
 * @param why given as the reason where there is no base, for the run's explanation
 */
export async function planDisk(
  frozen: FrozenDisk,
  base: Base | null,
  context: RunContext,
): Promise<Omit<DiskRun, 'arrived' | 'writer'>> {
  const { disk } = frozen;
  const shrunk = base !== null && base.manifest.sizeBytes > disk.sizeBytes;
  const since =
    base === null || shrunk || base.manifest.changeToken === null
      ? null
      : { changeToken: base.manifest.changeToken, sizeBytes: base.manifest.sizeBytes };
  let plan: ReadPlan;
  let distrusted: AppError | null = null;
  try {
    plan = await frozen.plan(since, context.signal);
  } catch (error) {
    const failure = toAppError(error);
    if (failure.code !== 'CHANGE_MAP_INVALID' || since === null) throw error;
    distrusted = failure;
    plan = await frozen.plan(null, context.signal);
  }
  let { kind } = plan;
  let extents = plan.extents;
  let note: Note = plan.why;
  if (!areSound(extents, disk.sizeBytes) || (kind === 'changed' && since === null)) {
    distrusted = new AppError('CHANGE_MAP_INVALID', `The host's map of ${disk.label} does not fit the disk.`);
    kind = 'everything';
    extents = wholeDisk(disk.sizeBytes);
  }
  if (kind === 'changed' && since !== null && since.sizeBytes < disk.sizeBytes) {
    // No change map speaks of what lies past the size that the disk had.
    const grown = { offsetBytes: since.sizeBytes, lengthBytes: disk.sizeBytes - since.sizeBytes };
    extents = normalizeExtents([...extents, grown]);
  }
  if (distrusted !== null) {
    context.log.outcomes.add('change-map-wrong');
    note = {
      level: 'warning',
      code: 'CHANGE_MAP_INVALID',
      text: `${disk.label}: ${distrusted.message} The disk is read in full instead.`,
      details: { disk: disk.key },
    };
  } else if (shrunk) {
    note = {
      level: 'info',
      code: 'DISK_SHRUNK_FULL',
      text: `${disk.label} is smaller than in the last version, so it is read in full.`,
      details: { disk: disk.key },
    };
  }
  return {
    frozen,
    plan,
    base: kind === 'changed' ? base : null,
    kind,
    extents,
    why: explainPlan(note, disk, context),
    changeToken: frozen.changeToken,
    former: null,
    recall: null,
    skipped: null,
    skippedBytes: 0,
    inheritsSkipped: false,
    distrusted: false,
    verifiedBytes: 0,
    report: { readBytes: 0, wireBytes: 0 },
    bottleneck: new BottleneckMeter(context.clock),
    stats: null,
    failure: null,
  };
}

/** Says in the log why a disk is read as it is, there with the disk's name: every disk has such a line. */
function explainPlan(note: Note, disk: MachineDisk, context: RunContext): LogLine {
  const details = { ...note.details, disk: disk.key, label: disk.label };
  const text = note.text.startsWith(disk.label) ? note.text : `${disk.label}: ${note.text}`;
  return { ...context.log.add({ ...note, text, details }), text: note.text };
}

/** Brings one disk into its writer, checks a sample, finishes it. Throws what ends the run. */
export async function copyDisk(run: DiskRun, verifyShare: number, context: RunContext): Promise<void> {
  const writer = openedWriter(run);
  run.bottleneck.start();
  try {
    await lookForSkipped(run, context);
    await planSkippedAgain(run, context);
    await deliver(run, run.extents, context);
    await context.arrow('transferred');
    const distrust = await findWrongMap(run, verifyShare, context);
    if (distrust !== null) await readTheRest(run, distrust, context);
    await context.arrow('verified');
    run.stats = (await writer.finish()).stats;
  } catch (error) {
    const failure = toAppError(error);
    if (run.base === null || run.kind !== 'changed' || !isStoreDamage(failure)) throw error;
    // Chunks that were delivered in part need the damaged version; delivered whole, they do not. All of
    // them once more, since what was taken for known may lie in the damaged file as well.
    await readAllAnew(run, failure, context);
    run.stats = (await writer.finish()).stats;
  } finally {
    run.bottleneck.stop();
  }
  await context.arrow('disk-finished');
}

function openedWriter(run: DiskRun): DiskWriter {
  assert(run.writer !== null, 'a disk is copied into an open writer');
  return run.writer;
}

/**
 * Reads a sample of what the map called unchanged (or unallocated) and compares it with the store.
 * Gives the reason not to trust the map, or null.
 * @throws REPOSITORY_CHUNK_* when the earlier version is damaged where it is looked at
 */
async function findWrongMap(run: DiskRun, share: number, context: RunContext): Promise<string | null> {
  const { disk } = run.frozen;
  const unchanged = run.arrived.missingFrom(wholeDisk(disk.sizeBytes));
  const sample = pickSample(subtractExtents(unchanged, run.skipped?.extents ?? []), share);
  if (sample.length === 0) return null;
  const comparing = new ComparingSink(storedReader(run));
  const sink = new ArrivalSink({ inner: comparing });
  count(run, await deliverExtents({ plan: run.plan, sink, extents: sample, ...pick(run, context) }));
  if (comparing.differsAtBytes !== null) {
    return `At ${formatBytes(comparing.differsAtBytes)} it changed although the host's map says it did not.`;
  }
  run.verifiedBytes = totalBytes(sample);
  return null;
}

function storedReader(run: DiskRun): DiskReader {
  const { sizeBytes } = run.frozen.disk;
  return run.base === null ? zeroReader(sizeBytes) : grownReader(run.base.disk, sizeBytes);
}

/**
 * Falls back to a full read within the run: all that has not arrived is delivered over the base, and
 * the token is dropped, so that the next run does not build on a tracking that was wrong.
 */
async function readTheRest(run: DiskRun, reason: string, context: RunContext): Promise<void> {
  const { disk } = run.frozen;
  context.log.outcomes.add('change-map-wrong');
  const text = `${disk.label}: ${reason} The disk is read in full now, and in full again next time.`;
  run.why = context.log.warning('CHANGE_MAP_INVALID', text, { disk: disk.key });
  const rest = run.arrived.missingFrom(wholeDisk(disk.sizeBytes));
  context.progress.widen(disk.key, totalBytes(rest));
  run.kind = 'everything';
  run.changeToken = null;
  run.distrusted = true;
  // A run that is cut now must not forget what it found out.
  await context.remember();
  await deliver(run, rest, context);
}

/** Brings a disk in without any help of its earlier version, which turned out to be damaged. */
async function readAllAnew(run: DiskRun, damage: AppError, context: RunContext): Promise<void> {
  const { disk } = run.frozen;
  context.log.outcomes.add('base-unreadable');
  const text = `${disk.label}: the last version is damaged, so the disk is read in full: ${damage.message}`;
  run.why = context.log.warning('BASE_UNREADABLE', text, { disk: disk.key, cause: damage.code });
  const extents = wholeDisk(disk.sizeBytes);
  context.progress.widen(disk.key, totalBytes(extents));
  run.kind = 'everything';
  run.arrived = new ExtentSet();
  openedWriter(run).beginAnew();
  run.skippedBytes = 0;
  run.inheritsSkipped = false;
  await deliver(run, extents, context);
}

function isStoreDamage(error: AppError): boolean {
  return error.code.startsWith('REPOSITORY_CHUNK_') || error.code === 'REPOSITORY_PACK_DAMAGED';
}

/** Routes that read any place of a disk at little cost; others bring all of it, or make a copy first. */
const SPARING_ROUTES = new Set(['ssh-raw', 'https-folder']);

/** Finds out what of the disk can be left out. Whatever goes wrong with that costs the saving, not the version. */
async function lookForSkipped(run: DiskRun, context: RunContext): Promise<void> {
  const { freeSpace, swap, chunkSizeBytes } = context.skip;
  if (!freeSpace && !swap) return;
  const { disk } = run.frozen;
  if (!SPARING_ROUTES.has(run.plan.route)) {
    const text = `${disk.label} (${disk.key}): its way of reading brings the whole disk, so free space is not left out.`;
    context.log.info('SKIP_NOT_BY_ROUTE', text, { disk: disk.key, label: disk.label, route: run.plan.route });
    return;
  }
  const reader = transferReader(disk.sizeBytes, async (inner, extents) => {
    count(
      run,
      await deliverExtents({ plan: run.plan, sink: new ArrivalSink({ inner }), extents, ...pick(run, context) }),
    );
  });
  try {
    run.skipped = await findSkippedSpace(reader, { freeSpace, swap }, chunkSizeBytes, context.signal);
  } catch (error) {
    const text = `${disk.label} (${disk.key}) is read in full, since its file systems could not be: ${explainFailure(error)}`;
    context.log.warning('SKIP_FAILED', text, { disk: disk.key, label: disk.label });
    return;
  }
  for (const { number, reason } of run.skipped.volumes) {
    if (reason === null) continue;
    const text = `${disk.label} (${disk.key}), volume ${String(number)} is read in full: ${reason}.`;
    context.log.info('SKIP_NOT_SURE', text, { disk: disk.key, label: disk.label, volume: number, reason });
  }
}

/**
 * Reads as well what the base may have left out and what is not known to be free now, changed or not: that it was not
 * needed then says nothing of today.
 */
async function planSkippedAgain(run: DiskRun, context: RunContext): Promise<void> {
  const { freeSpace, swap } = context.skip;
  const { disk } = run.frozen;
  if (run.inheritsSkipped && run.base !== null) {
    const again = await findReadAgain(run.base.disk, disk.sizeBytes, run.skipped?.extents ?? []);
    run.inheritsSkipped = again.isInherited;
    const more = subtractExtents(again.extents, run.extents);
    if (more.length > 0) {
      const readBytes = totalBytes(more);
      context.progress.widen(disk.key, readBytes);
      run.extents = normalizeExtents([...run.extents, ...more]);
      const text = `${disk.label} (${disk.key}): ${formatBytes(readBytes)} that the last version may have left out are read as well.`;
      context.log.info('SKIPPED_READ_AGAIN', text, { disk: disk.key, label: disk.label, readBytes });
    }
  }
  // An attempt that was cut may have left out what this one could not look for.
  if ((freeSpace || swap) && run.skipped === null && run.arrived.totalBytes > 0) run.inheritsSkipped = true;
}

async function deliver(run: DiskRun, wanted: readonly Extent[], context: RunContext): Promise<void> {
  const { disk } = run.frozen;
  const chunk = { sizeBytes: context.skip.chunkSizeBytes, diskSizeBytes: disk.sizeBytes };
  const { read: extents, zero } = partSkipped(wanted, run.skipped?.extents ?? [], chunk);
  // Chunks become zeros as a whole, also where only a part of them was to be read.
  context.progress.widen(disk.key, totalBytes(subtractExtents(zero, wanted)));
  const sink = new ArrivalSink({
    inner: openedWriter(run),
    arrived: run.arrived,
    beginWrite: () => {
      run.bottleneck.beginWrite();
    },
    endWrite: () => {
      run.bottleneck.endWrite();
    },
    taken: async (newBytes) => {
      context.progress.arrived(disk.key, newBytes);
      await context.delivered(newBytes);
    },
  });
  for (const { offsetBytes, lengthBytes } of zero) {
    context.signal.throwIfAborted();
    await sink.zero(offsetBytes, lengthBytes);
    run.skippedBytes += lengthBytes;
  }
  const report = await deliverExtents({
    plan: run.plan,
    sink,
    extents,
    ...pick(run, context),
    retrying: (error, missingBytes) => {
      const text = `${disk.label}: ${error.message} Going on with the ${formatBytes(missingBytes)} that are missing.`;
      context.log.info('TRANSFER_RESUMED', text, { disk: disk.key, cause: error.code, missingBytes });
    },
  });
  count(run, report);
}

function count(run: DiskRun, report: TransferReport): void {
  run.report.readBytes += report.readBytes;
  run.report.wireBytes += report.wireBytes;
}

function pick(run: DiskRun, { clock, signal, budget }: RunContext): Pick<RunContext, 'clock' | 'signal' | 'budget'> {
  return { clock, signal, budget: budget === undefined ? undefined : run.bottleneck.watch(budget) };
}

/**
 * Keeps a failure to its disk where that is possible, and says so in the log; else throws it on.
 */
export function settleDiskFailure(disk: MachineDisk, error: unknown, log: RunLog): { failure: AppError; why: LogLine } {
  const failure = toAppError(error);
  if (isAbort(error) || !isDiskFault(failure)) throw error;
  log.outcomes.add('disk-failed');
  const text = `${disk.label} (${disk.key}) could not be backed up: ${failure.message}`;
  return { failure, why: log.error(failure.code, text, { ...failure.details, disk: disk.key }) };
}

export function wholeDisk(sizeBytes: number): Extent[] {
  return sizeBytes > 0 ? [{ offsetBytes: 0, lengthBytes: sizeBytes }] : [];
}

/** Whether extents are whole numbers, ascending, apart and within the disk. */
function areSound(extents: readonly Extent[], sizeBytes: number): boolean {
  let endBytes = 0;
  for (const { offsetBytes, lengthBytes } of extents) {
    if (!Number.isSafeInteger(offsetBytes) || !Number.isSafeInteger(lengthBytes)) return false;
    if (offsetBytes < endBytes || lengthBytes <= 0 || offsetBytes + lengthBytes > sizeBytes) return false;
    endBytes = offsetBytes + lengthBytes;
  }
  return true;
}
