import type { BackupResult, DiskResult, LogLine, MachineProgress } from '../contract/run.ts';
import type { WorkerTask } from '../contract/task.ts';
import { totalBytes } from '../disk/index.ts';
import { AppError, cancelled, toAppError } from '../errors/index.ts';
import type { RecallFolder } from '../recall/index.ts';
import type { PointManifest, Repository, WriteSession } from '../repository/index.ts';
import { MIB, type Clock, type Logger } from '../runtime/index.ts';
import type { Budget, FreezeRequest, FrozenMachine, MachineIdentity, SourceHost } from '../source/index.ts';

import { openBase, type Base } from './base-selection.ts';
import {
  flattenExtents,
  isSameSnapshot,
  parseCheckpointFacts,
  takeSnapshotPrint,
  unflattenExtents,
  type CheckpointDisk,
  type CheckpointFacts,
} from './checkpoint-facts.ts';
import { Checkpointer } from './checkpointer.ts';
import {
  copyDisk,
  planDisk,
  settleDiskFailure,
  wholeDisk,
  type BackupArrow,
  type DiskRun,
  type RunContext,
} from './disk-run.ts';
import {
  absentDisk,
  describeDisk,
  describeSkipped,
  diskResultsOfPoint,
  explainDisk,
  isGap,
  sumStats,
} from './disk-results.ts';
import { ExtentSet } from './extent-set.ts';
import { moveToFreshSession, openSession } from './open-session.ts';
import { describeMachine, holdOfPoint, parseEvidence, type PointEvidence } from './point-record.ts';
import { compareAmounts, compareMachines } from './run-comparison.ts';
import { openRecall, publishRecalls } from './run-recall.ts';
import { RunLog } from './run-log.ts';
import { decidePointState, decideRunState } from './run-state.ts';
import { ProgressMeter } from './transfer-meter.ts';

/** Makes durable what arrived after so much of it, or after so long: what a crash may cost. */
const CHECKPOINT_EVERY_BYTES = 256 * MIB;
const CHECKPOINT_EVERY_MS = 60_000;
/** Disks of one machine that are read at a time: two hide each other's latency; more cost memory. */
const DISKS_AT_ONCE = 2;
/** Removing a snapshot can mean merging hours of writes. After this the run reports it as left. */
const THAW_LIMIT_MS = 2 * 60 * 60 * 1000;

export interface BackupDeps {
  repository: Repository;
  source: SourceHost;
  clock: Clock;
  logger: Logger;
  /** Where chunks of disks without change tracking are remembered; absent: all that is read is hashed. */
  recall?: RecallFolder | null;
}

export type BackupTask = Omit<Extract<WorkerTask, { kind: 'backup' }>, 'address' | 'kind'>;

export interface BackupHooks {
  progress(progress: MachineProgress): void;
  log(line: LogLine): void;
  /** Cancels the run: nothing is committed, the host is thawed, what arrived stays for the next run. */
  signal: AbortSignal;
  /** Waited for before so much is read from the host. */
  budget?: Budget;
  /** Disks that are read at a time; two when absent. */
  disksAtOnce?: number;
  checkpointEveryBytes?: number;
  checkpointEveryMs?: number;
  /** Called after each step; what it throws cuts the run there. For tests. */
  arrow?(name: BackupArrow): void | Promise<void>;
}

/**
 * Backs up one machine: freeze, plan, transfer, verify a sample, commit, thaw. Called again with the
 * same hold it takes up an interrupted run: from its checkpoint while the snapshot is still whole;
 * when the point is committed already, only thaw is left to do.
 *
 * Never rejects: whatever happens is in the result, and the worst step decides its state (the table
 * is in the README of this room). When it resolves, the host is thawed, or `holdReleased` is false and
 * the hold must be swept later.
 */
export async function runBackup(deps: BackupDeps, task: BackupTask, hooks: BackupHooks): Promise<BackupResult> {
  const progress = new ProgressMeter({ clock: deps.clock, emit: hooks.progress.bind(hooks) });
  try {
    return await new BackupRun(deps, task, hooks, progress).run();
  } finally {
    progress.stop();
  }
}

/** What of a run has come about so far; `run` reads it in whatever state it ended. */
class BackupRun {
  readonly #deps: BackupDeps;
  readonly #task: BackupTask;
  readonly #hooks: BackupHooks;
  readonly #progress: ProgressMeter;
  readonly #log: RunLog;
  readonly #startedAtMs: number;
  /** Ends the other disks when one fails the run. */
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #session: WriteSession | null = null;
  #facts: CheckpointFacts | null = null;
  #recordedBases = new Map<string, Base>();
  #checkpointer: Checkpointer | null = null;
  #frozen: FrozenMachine | null = null;
  #createdAtMs = 0;
  #history: PointManifest[] = [];
  #disks: DiskRun[] = [];
  /** Disks that are not in the point, in the words of the result. */
  #absent: DiskResult[] = [];
  #point: PointManifest | null = null;

  constructor(deps: BackupDeps, task: BackupTask, hooks: BackupHooks, progress: ProgressMeter) {
    this.#deps = deps;
    this.#task = task;
    this.#hooks = hooks;
    this.#progress = progress;
    this.#startedAtMs = deps.clock.nowMs();
    this.#signal = AbortSignal.any([hooks.signal, this.#stop.signal]);
    this.#log = new RunLog({
      clock: deps.clock,
      logger: deps.logger.child({ runId: task.runId, machineId: task.machineId }),
      emit: hooks.log.bind(hooks),
    });
  }

  async run(): Promise<BackupResult> {
    let failure: AppError | null = null;
    try {
      await this.#bringIn();
    } catch (error) {
      failure = this.#describeFailure(error);
    }
    for (const { recall } of this.#disks) recall?.close();
    const released = await this.#release();
    await this.#closeSession(released);
    this.#progress.enter('done');
    return this.#describeResult(failure, released);
  }

  /** Everything up to the commit. */
  async #bringIn(): Promise<void> {
    this.#progress.enter('connecting');
    this.#signal.throwIfAborted();
    await this.#readHistory();
    if (this.#point !== null) return;
    await this.#openSession();
    await this.#arrow('opened');
    const frozen = await this.#freeze();
    await this.#arrow('frozen');
    await this.#plan(frozen);
    await this.#openWriters();
    await this.#arrow('planned');
    await this.#transfer();
    await this.#commit(frozen);
    await this.#arrow('committed');
  }

  /** Earlier points of this machine, newest first; among them perhaps the one of this very hold. */
  async #readHistory(): Promise<void> {
    for (const listing of await this.#deps.repository.listPoints()) {
      if (listing.manifest === null) {
        const text = `Version ${listing.pointId} cannot be read: ${listing.damage ?? 'unknown damage'}.`;
        this.#log.warning('REPOSITORY_MANIFEST_DAMAGED', text, { pointId: listing.pointId });
      } else if (listing.manifest.machineId === this.#task.machineId) {
        this.#history.unshift(listing.manifest);
      }
    }
    const own = this.#history.find((point) => holdOfPoint(point.evidence) === this.#task.hold);
    if (own === undefined) return;
    this.#point = own;
    for (const reason of own.stateReasons) this.#log.error('DISK_MISSING_IN_POINT', reason);
    if (own.state === 'incomplete') this.#log.outcomes.add('disk-failed');
    this.#log.info('RUN_COMMITTED_BEFORE', 'The version of this run was committed before it was interrupted.', {
      pointId: own.pointId,
    });
  }

  async #openSession(): Promise<void> {
    this.#session = await openSession(this.#deps.repository, this.#task.hold);
    this.#facts = parseCheckpointFacts(this.#session.checkpointFacts, this.#task.hold);
  }

  /** Takes up the snapshot that the checkpoint speaks of, or begins with a new one. */
  async #freeze(): Promise<FrozenMachine> {
    this.#progress.enter('freezing');
    const { source, clock } = this.#deps;
    const request = this.#freezeRequest();
    if (this.#facts !== null) {
      const resumed = await source.resume(request);
      if (resumed !== null && isSameSnapshot(this.#facts.snapshot, takeSnapshotPrint(resumed))) {
        this.#frozen = resumed;
        this.#createdAtMs = this.#facts.createdAtMs;
        this.#judgeConsistency(resumed);
        this.#log.info('RUN_RESUMED', 'Going on with what an interrupted run had read from this VM snapshot.');
        return resumed;
      }
      this.#log.info('RUN_STARTED_ANEW', 'The VM snapshot of the interrupted run is gone; starting with a new one.');
    }
    await this.#discardCheckpoint();
    const swept = await source.sweep([this.#task.hold], this.#signal);
    for (const left of swept.failed) {
      throw new AppError(
        'SNAPSHOT_REMOVE_FAILED',
        `${left.what} of an earlier attempt is in the way: ${left.message}`,
        {
          hint: 'Remove it in the host client, then start the run again.',
          details: { hold: left.hold, what: left.what },
        },
      );
    }
    await this.#arrow('swept');
    this.#createdAtMs = clock.nowMs();
    this.#log.info('SNAPSHOT_STARTED', 'Asking the host for a VM snapshot.');
    this.#frozen = await source.freeze(request);
    this.#log.info('SNAPSHOT_TAKEN', 'The VM snapshot is taken; nothing changes for the machine.');
    this.#judgeConsistency(this.#frozen);
    return this.#frozen;
  }

  #freezeRequest(): FreezeRequest {
    const { hold, identity, options } = this.#task;
    return {
      machine: identity as MachineIdentity,
      hold,
      quiesce: options.quiesce,
      nfsStaging: options.nfsStaging,
      note: (note) => {
        this.#log.add(note);
      },
      signal: this.#signal,
    };
  }

  /** Data of two snapshots must not meet in one point: a checkpoint of another one is left behind. */
  async #discardCheckpoint(): Promise<void> {
    const session = this.#openedSession();
    if (session.checkpointFacts === null) return;
    this.#facts = null;
    this.#recordedBases.clear();
    this.#session = await moveToFreshSession(this.#deps.repository, session, this.#task.hold);
  }

  #judgeConsistency(frozen: FrozenMachine): void {
    const { level, requested, evidence } = frozen.consistency;
    if (level !== 'crash' || requested === 'off') return;
    if (requested === 'require') {
      throw new AppError('SNAPSHOT_QUIESCE_REFUSED', `The guest was not made quiet: ${evidence}`, {
        hint: 'Check VMware Tools in the guest, or set the task to try instead of require.',
      });
    }
    this.#log.outcomes.add('quiesce-fell-back');
    // The source may have said it with the guest's own words.
    if (this.#log.codes.has('QUIESCE_FAILED')) return;
    const text = `The guest was not made quiet, so the version is as after a power cut: ${evidence}`;
    this.#log.warning('QUIESCE_FAILED', text);
  }

  async #plan(frozen: FrozenMachine): Promise<void> {
    this.#progress.enter('planning');
    const [previous] = this.#history;
    if (previous !== undefined) for (const note of compareMachines(previous, frozen)) this.#log.add(note);
    this.#leaveOut(frozen);
    await this.#reopenRecordedBases();
    for (const disk of frozen.disks) {
      if (this.#isLeftOut(disk.disk.key)) continue;
      this.#signal.throwIfAborted();
      try {
        this.#disks.push(await this.#planDisk(disk));
      } catch (error) {
        const { failure, why } = settleDiskFailure(disk.disk, error, this.#log);
        this.#absent.push({ ...absentDisk(disk.disk, why), kind: 'failed' });
        this.#stopWithoutDisks(frozen, failure);
      }
    }
    this.#stopWithoutDisks(frozen, null);
  }

  /** Names the disks that stay out: by the user's choice, or since the host cannot freeze them. */
  #leaveOut(frozen: FrozenMachine): void {
    for (const { disk } of [...frozen.disks, ...frozen.excluded]) {
      if (!this.#isLeftOut(disk.key)) continue;
      const text = `${disk.label} (${disk.key}) is left out, as the task says.`;
      this.#absent.push(absentDisk(disk, this.#log.info('DISK_LEFT_OUT', text, { disk: disk.key })));
    }
    for (const { disk, reason } of frozen.excluded) {
      if (this.#isLeftOut(disk.key)) continue;
      this.#log.outcomes.add('disk-not-protectable');
      const text = `${disk.label} (${disk.key}) cannot be frozen by a VM snapshot: ${EXCLUSIONS[reason]}.`;
      const line = this.#log.warning('DISK_NOT_PROTECTABLE', text, { disk: disk.key, reason });
      this.#absent.push(absentDisk(disk, line));
    }
  }

  #isLeftOut(key: string): boolean {
    return this.#task.options.excludedDisks.includes(key);
  }

  /** A point without any disk of a machine that has disks is worth nothing. */
  #stopWithoutDisks(frozen: FrozenMachine, failure: AppError | null): void {
    if (this.#disks.length > 0 || this.#absent.length < frozen.disks.length + frozen.excluded.length) return;
    if (this.#absent.length === 0) return;
    if (failure !== null) throw failure;
    throw new AppError('MACHINE_NOT_PROTECTABLE', 'None of the disks of this machine can be backed up.', {
      hint: 'Change the disks to dependent mode, or include them in the task.',
    });
  }

  async #planDisk(frozen: FrozenMachine['disks'][number]): Promise<DiskRun> {
    const { disk } = frozen;
    const recorded = this.#facts?.disks.find((candidate) => candidate.key === disk.key) ?? null;
    const base = recorded === null ? await this.#findBase(disk) : (this.#recordedBases.get(disk.key) ?? null);
    const former = this.#task.options.fullRead ? null : base;
    const planned = await planDisk(frozen, former, this.#context());
    const run =
      recorded === null ? { ...planned, writer: null, arrived: new ExtentSet() } : takeUp(planned, recorded, base);
    run.former = former;
    if (run.base !== null) {
      const { pointId, manifest } = run.base;
      const basePoint = this.#history.find((point) => point.pointId === pointId);
      const told = parseEvidence(basePoint?.evidence)?.disks.find(({ key }) => key === manifest.key);
      // A version that does not say so is taken for one that left something out.
      run.inheritsSkipped = told === undefined || told.skipped !== undefined;
    }
    return run;
  }

  async #findBase(disk: FrozenMachine['disks'][number]['disk']): Promise<Base | null> {
    return openBase(this.#deps.repository, this.#history, disk, (pointId, message) => {
      this.#log.outcomes.add('base-unreadable');
      const text = `${disk.label}: version ${pointId} cannot serve as the base: ${message}`;
      this.#log.warning('BASE_UNREADABLE', text, { disk: disk.key, pointId });
    });
  }

  /**
   * The versions that the interrupted run built on. Should one be gone, its checkpoint means nothing any
   * more: the data are read again, from the same VM snapshot.
   */
  async #reopenRecordedBases(): Promise<void> {
    try {
      for (const recorded of this.#facts?.disks ?? []) {
        if (recorded.base === null) continue;
        const { pointId, key } = recorded.base;
        const point = await this.#deps.repository.openPoint(pointId);
        const manifest = point.manifest.disks.find((candidate) => candidate.key === key);
        if (manifest === undefined) throw new AppError('POINT_NOT_FOUND', `Version ${pointId} holds no disk ${key}.`);
        const disk = await point.openDisk(key);
        this.#recordedBases.set(recorded.key, { pointId, createdAtMs: point.manifest.createdAtMs, manifest, disk });
      }
    } catch (error) {
      const text = `The interrupted run cannot be taken up, reading anew: ${toAppError(error).message}`;
      this.#log.info('RUN_STARTED_ANEW', text);
      await this.#discardCheckpoint();
    }
  }

  /** All writers before the first byte, so that every checkpoint holds the state of every disk. */
  async #openWriters(): Promise<void> {
    const session = this.#openedSession();
    const recall = this.#recallContext();
    for (const run of this.#disks) {
      const { key, label, sizeBytes } = run.frozen.disk;
      if (recall !== null) run.recall = openRecall(run, recall);
      run.writer = await session.openDisk({ key, sizeBytes, base: run.base?.disk ?? null, recall: run.recall });
      if (!run.writer.resumed) run.arrived = new ExtentSet();
      const missingBytes = totalBytes(run.arrived.missingFrom(run.extents));
      const plannedBytes = totalBytes(run.extents);
      const doneBytes = plannedBytes - missingBytes;
      this.#progress.addDisk({
        key,
        label,
        totalBytes: plannedBytes,
        doneBytes,
        route: run.plan.route,
        waitsFor: () => run.bottleneck.now(),
      });
    }
    this.#checkpointer = new Checkpointer({
      session,
      clock: this.#deps.clock,
      facts: () => this.#checkpointFacts(),
      everyBytes: this.#hooks.checkpointEveryBytes ?? CHECKPOINT_EVERY_BYTES,
      everyMs: this.#hooks.checkpointEveryMs ?? CHECKPOINT_EVERY_MS,
    });
  }

  #recallContext(): Parameters<typeof openRecall>[1] | null {
    const { recall: folder, repository } = this.#deps;
    return folder ? { folder, repository, machineId: this.#task.machineId } : null;
  }

  #checkpointFacts(): CheckpointFacts {
    const frozen = this.#frozen;
    if (frozen === null)
      throw new AppError('INVARIANT_BROKEN', 'Broken invariant: data arrive only of a frozen machine.');
    return {
      version: 1,
      hold: this.#task.hold,
      snapshot: takeSnapshotPrint(frozen),
      createdAtMs: this.#createdAtMs,
      disks: this.#disks.map((run) => ({
        key: run.frozen.disk.key,
        sizeBytes: run.frozen.disk.sizeBytes,
        base: run.base === null ? null : { pointId: run.base.pointId, key: run.base.manifest.key },
        arrived: flattenExtents(run.arrived.extents()),
        distrusted: run.distrusted,
      })),
    };
  }

  async #transfer(): Promise<void> {
    this.#progress.enter('reading');
    const waiting = [...this.#disks];
    const length = Math.min(this.#hooks.disksAtOnce ?? DISKS_AT_ONCE, waiting.length);
    const lanes = Array.from({ length }, async () => {
      for (let run = waiting.shift(); run !== undefined; run = waiting.shift()) await this.#copy(run);
    });
    const settled = await Promise.allSettled(
      lanes.map((lane) =>
        lane.catch((error: unknown) => {
          this.#stop.abort(error);
          throw error;
        }),
      ),
    );
    // The lane that failed first holds the cause; the others were stopped because of it.
    const causes = settled.filter((lane) => lane.status === 'rejected').map((lane) => toAppError(lane.reason));
    const cause = causes.find((error) => error.code !== 'CANCELLED') ?? causes[0];
    if (cause !== undefined) throw cause;
    const [failed] = this.#disks.filter((run) => run.failure !== null);
    if (failed?.failure && this.#disks.every((run) => run.failure !== null)) throw failed.failure;
  }

  async #copy(run: DiskRun): Promise<void> {
    try {
      await copyDisk(run, this.#task.options.verifySample, this.#context());
      this.#log.add(explainDisk(describeDisk(run), run.verifiedBytes));
    } catch (error) {
      if (this.#signal.aborted) throw error;
      Object.assign(run, settleDiskFailure(run.frozen.disk, error, this.#log));
    }
  }

  async #commit(frozen: FrozenMachine): Promise<void> {
    this.#signal.throwIfAborted();
    this.#progress.enter('committing');
    const [previous] = this.#history;
    const whole = this.#disks.filter((run) => run.failure === null);
    const results = this.#diskResults();
    if (previous !== undefined) for (const note of compareAmounts(previous, results)) this.#log.add(note);
    this.#point = await this.#openedSession().commit({
      machineId: this.#task.machineId,
      machineName: frozen.identity.name,
      createdAtMs: this.#createdAtMs,
      state: decidePointState(this.#log.outcomes),
      stateReasons: results.filter(isGap).map((disk) => disk.why.text),
      previousPointId: previous?.pointId ?? null,
      disks: whole.map((run) => ({
        key: run.frozen.disk.key,
        changeToken: run.changeToken,
        facts: run.frozen.disk,
      })),
      files: frozen.configuration.files,
      machine: describeMachine(frozen),
      evidence: this.#evidence(frozen, results),
    });
    const recall = this.#recallContext();
    if (recall !== null) await publishRecalls(whole, this.#point, recall);
    this.#log.info('VERSION_MADE', 'The version is in the storage.');
  }

  #evidence(frozen: FrozenMachine, results: readonly DiskResult[]): PointEvidence {
    const everyDisk = [...frozen.disks, ...frozen.excluded].map(({ disk }) => disk);
    return {
      version: 1,
      runId: this.#task.runId,
      hold: this.#task.hold,
      frozenAtMs: frozen.frozenAtMs,
      consistency: frozen.consistency,
      disks: results.map((disk) => ({
        key: disk.key,
        kind: disk.kind,
        why: disk.why.text,
        route: disk.route,
        verifiedBytes: this.#disks.find((run) => run.frozen.disk.key === disk.key)?.verifiedBytes ?? 0,
        ...describeSkipped(this.#disks.find((run) => run.frozen.disk.key === disk.key)),
      })),
      missing: results
        .filter((disk) => disk.kind === 'excluded' || disk.kind === 'failed')
        .map(({ key, label, why }) => {
          const path = everyDisk.find((disk) => disk.key === key)?.path ?? '';
          return { key, label, path, reason: why.text };
        }),
    };
  }

  /**
   * Thaws, also after a failure or a cancel. Where that fails, sweeping the hold is the second way;
   * what neither removes is left to the server, which knows the hold from its journal. Done even when
   * this attempt came to nothing: an earlier one of the same hold may have left something.
   */
  async #release(): Promise<boolean> {
    this.#progress.enter('thawing');
    const limit = AbortSignal.timeout(THAW_LIMIT_MS);
    let refusal: AppError | null = null;
    try {
      if (this.#frozen !== null) {
        await this.#frozen.thaw(limit);
        this.#log.info('SNAPSHOT_REMOVED', 'The VM snapshot is removed from the host.');
        await this.#arrow('thawed');
        return true;
      }
    } catch (error) {
      refusal = toAppError(error);
    }
    try {
      const report = await this.#deps.source.sweep([this.#task.hold], limit);
      const [left] = report.failed;
      // A machine whose datastore does not answer shows no snapshots.
      if (left === undefined && (refusal === null || report.unseen.length === 0)) {
        if (refusal !== null) this.#log.info('SNAPSHOT_REMOVED_LATER', `Removed at the second try: ${refusal.message}`);
        return true;
      }
      refusal ??= new AppError('SNAPSHOT_REMOVE_FAILED', `${left?.what ?? ''}: ${left?.message ?? ''}`);
    } catch (error) {
      refusal ??= toAppError(error);
    }
    this.#log.outcomes.add('hold-left');
    const text = `The VM snapshot ${this.#task.hold} may still be on the host: ${refusal.message}`;
    this.#log.warning('SNAPSHOT_REMOVE_FAILED', text, { hold: this.#task.hold, cause: refusal.code });
    return false;
  }

  /**
   * Where the VM snapshot may still stand, all that arrived is made durable with its record, so that a
   * later attempt goes on from here. Else the record is worthless, and what is in packs is found by hash.
   */
  async #closeSession(released: boolean): Promise<void> {
    if (this.#session === null || this.#point !== null) return;
    try {
      if (!released && !this.#hooks.signal.aborted) await this.#checkpointer?.save();
    } catch (error) {
      this.#log.info('CHECKPOINT_FAILED', `The last of what arrived could not be kept: ${toAppError(error).message}`);
    }
    try {
      await this.#session.abort();
    } catch (error) {
      this.#log.info('CHECKPOINT_FAILED', `The repository could not be left in order: ${toAppError(error).message}`);
    }
  }

  #describeFailure(error: unknown): AppError {
    // After the commit nothing can make the point undone: whatever came then concerns the host only.
    if (this.#hooks.signal.aborted && this.#point === null) {
      this.#log.outcomes.add('cancelled');
      this.#log.info('CANCELLED', 'Cancelled on request; no version was committed.');
      return cancelled(error);
    }
    const failure = toAppError(error);
    this.#log.outcomes.add(this.#point === null ? 'run-failed' : 'warning-noted');
    this.#log.error(failure.code, failure.message, failure.details);
    return failure;
  }

  #describeResult(failure: AppError | null, holdReleased: boolean): BackupResult {
    const disks = this.#diskResults();
    const evidence = this.#point === null ? null : parseEvidence(this.#point.evidence);
    return {
      state: decideRunState(this.#log.outcomes),
      pointId: this.#point?.pointId ?? null,
      error: failure === null ? null : failure.toBody(),
      stats: sumStats(disks),
      disks,
      consistency: this.#frozen?.consistency ?? evidence?.consistency ?? null,
      holdReleased,
      identity: this.#frozen?.identity ?? null,
      startedAtMs: this.#startedAtMs,
      finishedAtMs: this.#deps.clock.nowMs(),
    };
  }

  #diskResults(): DiskResult[] {
    if (this.#frozen === null && this.#point !== null) return diskResultsOfPoint(this.#point);
    return [...this.#disks.map(describeDisk), ...this.#absent];
  }

  #openedSession(): WriteSession {
    if (this.#session === null) throw new AppError('INVARIANT_BROKEN', 'Broken invariant: the session is open.');
    return this.#session;
  }

  #context(): RunContext {
    return {
      clock: this.#deps.clock,
      log: this.#log,
      progress: this.#progress,
      signal: this.#signal,
      budget: this.#hooks.budget,
      skip: {
        freeSpace: this.#task.options.skipFreeSpace ?? false,
        swap: this.#task.options.skipSwap ?? false,
        chunkSizeBytes: this.#deps.repository.chunkSizeBytes,
      },
      delivered: async (bytes) => {
        await this.#checkpointer?.delivered(bytes);
      },
      remember: async () => {
        await this.#checkpointer?.save();
      },
      arrow: (name) => this.#arrow(name),
    };
  }

  async #arrow(name: BackupArrow): Promise<void> {
    await this.#hooks.arrow?.(name);
  }
}

/**
 * Joins a plan with what arrived before the interruption. That is of the same snapshot, so it stands
 * under any plan; but where the plan builds on another version than the writer does, or the change map
 * was found wrong, nothing is presumed of what did not arrive.
 */
function takeUp(planned: Omit<DiskRun, 'arrived' | 'writer'>, recorded: CheckpointDisk, base: Base | null): DiskRun {
  const arrived = new ExtentSet(unflattenExtents(recorded.arrived));
  const sameGround = (planned.base === null) === (recorded.base === null);
  if (sameGround && !recorded.distrusted) return { ...planned, writer: null, arrived };
  const { distrusted } = recorded;
  return {
    ...planned,
    base,
    kind: 'everything',
    extents: wholeDisk(planned.frozen.disk.sizeBytes),
    distrusted,
    changeToken: distrusted ? null : planned.changeToken,
    writer: null,
    arrived,
  };
}

const EXCLUSIONS: Record<FrozenMachine['excluded'][number]['reason'], string> = {
  independent: 'it is in independent mode, which snapshots leave out',
  'rdm-physical': 'it is a raw device in physical mode',
  shared: 'it is shared with other machines',
  encrypted: 'it is encrypted by the host',
};
