import type { LogLine, MachineProgress, RestoreResult } from '../contract/run.ts';
import type { WorkerTask } from '../contract/task.ts';
import { AppError, cancelled, toAppError } from '../errors/index.ts';
import type { Point, Repository } from '../repository/index.ts';
import { formatBytes, type Clock, type Logger } from '../runtime/index.ts';
import type {
  Budget,
  MachineIdentity,
  MachineSummary,
  MachineTarget,
  Note,
  SourceHost,
  TargetRequest,
} from '../source/index.ts';

import { labelDisk, readPointMachine, type PointMachine } from './point-machine.ts';
import { RestoreProgress } from './restore-progress.ts';
import { countDataBytes, verifyDisk, writeDisk } from './write-disk.ts';

export interface RestoreDeps {
  repository: Repository;
  source: SourceHost;
  clock: Clock;
  logger: Logger;
}

export type RestoreTask = Omit<Extract<WorkerTask, { kind: 'restore' }>, 'address' | 'kind'>;

export interface RestoreHooks {
  progress(progress: MachineProgress): void;
  log(line: LogLine): void;
  /** Cancels: what was written is removed, the original is as it was. No effect once `finish` began. */
  signal: AbortSignal;
  /** Waited for before so much is written to the host. */
  budget?: Budget;
  /** Called after each step; what it throws cuts the restore there. For tests. */
  arrow?(name: RestoreArrow): void | Promise<void>;
}

/** The steps after which a restore can be cut, in their order. */
export const RESTORE_ARROWS = ['opened', 'prepared', 'written', 'verified', 'finished'] as const;
export type RestoreArrow = (typeof RESTORE_ARROWS)[number];

/**
 * Brings a machine of a restore point back: written beside, read back and compared, then swapped.
 * Never rejects: whatever happens is in the result. Until `finish` nothing that the user can see is
 * changed; a failure or cancel before it removes what was written. When it resolves with
 * `holdReleased` false, the hold must be swept later.
 *
 * Codes of its own: POINT_NOT_FOUND, POINT_INCOMPLETE, REPOSITORY_*, DISK_VERIFY_FAILED; the rest is
 * the source's (RESTORE_*, DATASTORE_FULL, DISK_WRITE_FAILED).
 */
export async function runRestore(deps: RestoreDeps, task: RestoreTask, hooks: RestoreHooks): Promise<RestoreResult> {
  return new RestoreRun(deps, task, hooks).run();
}

class RestoreRun {
  readonly #deps: RestoreDeps;
  readonly #task: RestoreTask;
  readonly #hooks: RestoreHooks;
  readonly #logger: Logger;
  readonly #progress: RestoreProgress;
  readonly #result: RestoreResult;
  #warned = false;
  #target: MachineTarget | null = null;

  constructor(deps: RestoreDeps, task: RestoreTask, hooks: RestoreHooks) {
    this.#deps = deps;
    this.#task = task;
    this.#hooks = hooks;
    this.#logger = deps.logger.child({ runId: task.runId, pointId: task.pointId });
    this.#progress = new RestoreProgress({ clock: deps.clock, emit: hooks.progress.bind(hooks) });
    this.#result = {
      state: 'success',
      error: null,
      machine: null,
      writtenBytes: 0,
      verifiedBytes: 0,
      holdReleased: true,
      startedAtMs: deps.clock.nowMs(),
      finishedAtMs: 0,
    };
  }

  async run(): Promise<RestoreResult> {
    const result = this.#result;
    try {
      result.machine = await this.#bringBack();
      if (this.#warned) result.state = 'warning';
    } catch (error) {
      await this.#giveUp(error);
    }
    this.#progress.enter('done');
    result.finishedAtMs = this.#deps.clock.nowMs();
    return result;
  }

  async #bringBack(): Promise<MachineSummary> {
    const { repository } = this.#deps;
    const { signal } = this.#hooks;
    this.#progress.enter('connecting');
    signal.throwIfAborted();
    const point = await repository.openPoint(this.#task.pointId);
    this.#judgePoint(point);
    const machine = await readPointMachine(point);
    await this.#hooks.arrow?.('opened');
    const request = await this.#clear(machine);
    const finished = await this.#deps.source.findRestored(request);
    if (finished !== null) return this.#takeUp(finished);
    this.#target = await this.#deps.source.createTarget(request);
    const target = this.#target;
    await this.#hooks.arrow?.('prepared');
    await this.#write(point, target);
    // From here on the host's own order of steps keeps the original safe, also against a cancel.
    signal.throwIfAborted();
    this.#progress.enter('finishing');
    const summary = await this.#finish(target);
    await this.#hooks.arrow?.('finished');
    return summary;
  }

  #judgePoint(point: Point): void {
    const { state, stateReasons, pointId } = point.manifest;
    if (state === 'complete') return;
    const reasons = stateReasons.join(' ');
    if (this.#task.target.acceptIncomplete !== true) {
      throw new AppError('POINT_INCOMPLETE', `Version ${pointId} does not hold the whole machine. ${reasons}`, {
        hint: 'Choose a complete version, or ask for the disks that this one holds.',
        details: { pointId },
      });
    }
    this.#note({
      level: 'warning',
      code: 'RESTORE_INCOMPLETE_POINT',
      text: `The machine comes back without what the version does not hold. ${reasons}`,
    });
  }

  /** An earlier attempt was cut after its machine stood and before that was known here. */
  #takeUp(finished: MachineSummary): MachineSummary {
    const text = `"${finished.identity.name}" was finished, compared with the version, before the restore was interrupted.`;
    this.#note({ level: 'info', code: 'RESTORE_FINISHED_BEFORE', text });
    return finished;
  }

  /** Clears what an interrupted attempt of this restore left; gives what to ask of the host. */
  async #clear(machine: PointMachine): Promise<TargetRequest> {
    const { source } = this.#deps;
    const { signal } = this.#hooks;
    this.#progress.enter('preparing');
    const swept = await source.sweep([this.#task.hold], signal);
    for (const left of swept.failed) {
      throw new AppError('CONFLICT', `${left.what} of an earlier attempt is in the way: ${left.message}`, {
        hint: 'Remove it in the host client, then start the restore again.',
        details: { hold: left.hold },
      });
    }
    const { target } = this.#task;
    const mode: TargetRequest['mode'] =
      target.mode.kind === 'new'
        ? target.mode
        : { kind: 'replace', machine: (target.mode.identity ?? machine.identity) as MachineIdentity };
    return {
      hold: this.#task.hold,
      configuration: machine.configuration,
      mode,
      datastore: target.datastore,
      provisioning: target.provisioning,
      networks: target.networks,
      identity: target.identity,
      powerOn: target.powerOn,
      note: (note) => {
        this.#note(note);
      },
      signal,
    };
  }

  async #write(point: Point, target: MachineTarget): Promise<void> {
    const { signal, budget } = this.#hooks;
    const disks = [];
    for (const { key } of target.disks) disks.push({ key, disk: await point.openDisk(key) });
    for (const { key, disk } of disks) {
      this.#progress.addDisk(key, labelDisk(point, key), await countDataBytes(disk));
    }
    const written = [];
    this.#progress.enter('writing');
    for (const { key, disk } of disks) {
      const targetDisk = target.disks.find((candidate) => candidate.key === key);
      if (targetDisk === undefined) continue;
      if (targetDisk.sizeBytes !== disk.sizeBytes) {
        throw new AppError('DISK_WRITE_FAILED', `The host made ${key} with another size than the version's.`, {
          details: { disk: key, wantedBytes: disk.sizeBytes, madeBytes: targetDisk.sizeBytes },
        });
      }
      const wrote = (bytes: number): void => {
        this.#progress.done(key, bytes);
        this.#result.writtenBytes += bytes;
      };
      written.push({ key, targetDisk, pieces: await writeDisk({ disk, target: targetDisk, signal, budget, wrote }) });
    }
    await this.#hooks.arrow?.('written');
    this.#progress.enter('verifying');
    for (const { key, targetDisk, pieces } of written) {
      const verified = (bytes: number): void => {
        this.#progress.done(key, bytes);
        this.#result.verifiedBytes += bytes;
      };
      await verifyDisk({ target: targetDisk, written: pieces, label: key, signal, verified });
    }
    const bytes = formatBytes(this.#result.verifiedBytes);
    this.#note({
      level: 'info',
      code: 'RESTORE_VERIFIED',
      text: `Read back and found equal to the version: ${bytes}.`,
    });
    await this.#hooks.arrow?.('verified');
  }

  async #finish(target: MachineTarget): Promise<MachineSummary> {
    return target.finish(new AbortController().signal);
  }

  /** Undoes what was begun; the result says whether the host is proven clean. */
  async #giveUp(error: unknown): Promise<void> {
    const result = this.#result;
    const isCancel = this.#hooks.signal.aborted;
    const failure = isCancel ? cancelled(error) : toAppError(error);
    result.state = isCancel ? 'cancelled' : 'failed';
    result.error = failure.toBody();
    this.#note({
      level: isCancel ? 'info' : 'error',
      code: failure.code,
      text: failure.message,
      details: failure.details,
    });
    result.holdReleased = await this.#release();
  }

  async #release(): Promise<boolean> {
    try {
      await this.#target?.abort();
    } catch (error) {
      this.#note({ level: 'info', code: 'RESTORE_ABORT_FAILED', text: toAppError(error).message });
    }
    try {
      const report = await this.#deps.source.sweep([this.#task.hold]);
      const unseen = report.unseen.map((datastore) => `the datastore ${datastore} does not answer`);
      const left = [...report.failed.map(({ what, message }) => `${what}: ${message}`), ...unseen].join('; ');
      if (left === '') return true;
      this.#note({
        level: 'warning',
        code: 'RESTORE_LEFT',
        text: `Something of this restore ${report.failed.length > 0 ? 'is' : 'may be'} still on the host: ${left}`,
      });
    } catch (error) {
      const text = `Something of this restore may still be on the host: ${toAppError(error).message}`;
      this.#note({ level: 'warning', code: 'RESTORE_LEFT', text });
    }
    return false;
  }

  #note(note: Note): void {
    if (note.level !== 'info') this.#warned = true;
    this.#logger[note.level === 'warning' ? 'warn' : note.level]({ code: note.code, details: note.details }, note.text);
    this.#hooks.log({ atMs: this.#deps.clock.nowMs(), ...note });
  }
}
