import type { z } from 'zod';
import type { jobRunSchema } from '../contract/api/job.schema.ts';
import type { repositoryCopySchema } from '../contract/api/repository.schema.ts';
import type { ExportInput, RestoreInput } from '../contract/api/restore.schema.ts';
import type { RunKind, RunStarter as RunStartedBy } from '../contract/api/run.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { RepositoryAddress, WorkerTask } from '../contract/task.ts';
import type { CheckDepth, LogLine } from '../contract/run.ts';
import type {
  HostRecord,
  JobRecord,
  MachineRecord,
  PointRecord,
  RepositoryRecord,
  ScheduleProgress,
  Tables,
} from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { randomHex } from '../runtime/index.ts';
import { found, type OrchestrationContext } from './context.ts';
import { sealHostAddress } from './host-addresses.ts';
import { addressOf } from './repository-keys.ts';
import { findLastSelection, resolveMachines, type ResolvedMachines } from './selections.ts';

/** What the schedule says about a run that it starts. */
export interface RunOrigin {
  startedBy: Exclude<RunStartedBy, 'request'>;
  dueAtMs: number | null;
  attempt: number;
  /** What is dealt with by this run; null for a repetition. Written with the run, or neither is. */
  done: ScheduleProgress | null;
  /** Machines that come before the others. */
  first?: readonly string[];
}

/** Versions of the repository in a folder that this process reads itself: downloads, single files. */
export type ReadPoints = (repositoryPath: string) => string[];

interface NewPart {
  machineId: string | null;
  hostId: string | null;
  name: string;
  /** Null for work that leaves nothing on a host. */
  hold: string | null;
  task(runId: string): WorkerTask;
}

interface NewRun {
  kind: RunKind;
  jobId: string | null;
  repositoryId: string;
  title: string;
  parts: NewPart[];
  origin?: RunOrigin | undefined;
  /** Why it could not begin: it is over at once. */
  failure?: ErrorBody;
  /** What is to be said of it before it begins. */
  lines?: readonly LogLine[];
}

/**
 * Makes runs: the run, its parts and the journal of what they may leave on hosts, in one transaction.
 * Nothing is handed to a worker here.
 */
export class RunStarter {
  readonly #context: OrchestrationContext;
  readonly #readPoints: ReadPoints;

  constructor(context: OrchestrationContext, readPoints: ReadPoints = () => []) {
    this.#context = context;
    this.#readPoints = readPoints;
  }

  /**
   * @param origin absent for a request
   * @throws NOT_FOUND, RUN_ALREADY_ACTIVE, MACHINE_NOT_FOUND, SELECTION_EMPTY; CONFLICT when the schedule
   *   changed meanwhile
   */
  async startJob(jobId: string, input: z.infer<typeof jobRunSchema>, origin?: RunOrigin): Promise<string> {
    return this.#start(async (tables) => {
      const job = found(await tables.jobs.load(jobId), 'job', jobId);
      await assertIdle(tables, jobId, job.name);
      const repository = found(await tables.repositories.load(job.repositoryId), 'repository', job.repositoryId);
      const repositoryAddress = await addressOf(tables, repository);
      const selected = await resolveMachines(tables, job);
      const machineIds = input.machineIds ?? putFirst(selected.machineIds, origin?.first ?? []);
      const foreign = machineIds.find((id) => !selected.machineIds.includes(id));
      if (foreign !== undefined) {
        throw new AppError('INPUT_INVALID', `The machine ${foreign} does not belong to this job.`, {
          hint: 'Name machines of the job only.',
          details: { machineId: foreign },
        });
      }
      const parts: NewPart[] = [];
      for (const machineId of machineIds) {
        const machine = found(await tables.machines.load(machineId), 'machine', machineId);
        const host = await loadHostOf(tables, machine);
        const hold = newHold();
        parts.push({
          machineId,
          hostId: host.id,
          name: machine.name,
          hold,
          task: (runId) => ({
            kind: 'backup',
            runId,
            hold,
            address: sealHostAddress(this.#context.sealer, host),
            facts: host.facts,
            machineId,
            identity: machine.identity,
            repository: repositoryAddress,
            options: {
              quiesce: job.options.quiesce,
              fullRead: input.fullRead ?? job.options.fullRead,
              verifySample: job.options.verifySample,
              nfsStaging: job.options.nfsStaging,
              excludedDisks: [...(job.options.excludedDisks[machineId] ?? []), ...selected.excludedDisks(machineId)],
              skipFreeSpace: job.options.skipFreeSpace ?? false,
              skipSwap: job.options.skipSwap ?? false,
            },
          }),
        });
      }
      // Of what a selection gives, not of the part of it that someone asked for.
      const lines = input.machineIds === undefined ? await this.#explainSelection(tables, job, selected) : [];
      return { kind: 'backup', jobId, repositoryId: repository.id, title: job.name, parts, origin, lines };
    });
  }

  /**
   * Records a run that the schedule wanted and that could not even begin.
   * @throws NOT_FOUND, CONFLICT, RUN_ALREADY_ACTIVE
   */
  async recordFailedStart(jobId: string, origin: RunOrigin, error: ErrorBody): Promise<string> {
    return this.#start(async (tables) => {
      const job = found(await tables.jobs.load(jobId), 'job', jobId);
      await assertIdle(tables, jobId, job.name);
      const { name: title, repositoryId } = job;
      return { kind: 'backup', jobId, repositoryId, title, parts: [], origin, failure: error };
    });
  }

  /** @throws NOT_FOUND, POINT_NOT_FOUND, POINT_INCOMPLETE, RUN_ALREADY_ACTIVE */
  async startRestore(input: RestoreInput): Promise<string> {
    return this.#start(async (tables) => {
      const { point, repository } = await loadPoint(tables, input.pointId);
      const repositoryAddress = await addressOf(tables, repository);
      if (point.state !== 'complete' && !(point.state === 'incomplete' && input.acceptIncomplete)) {
        throw new AppError('POINT_INCOMPLETE', `This version is ${point.state}: ${point.stateReasons.join(' ')}`, {
          hint: 'Choose another version, or restore what this one holds by accepting that it is incomplete.',
          details: { pointId: point.id },
        });
      }
      const host = found(await tables.hosts.load(input.hostId), 'host', input.hostId);
      const replaced = await loadReplaced(tables, input);
      const hold = newHold();
      const name = input.mode.kind === 'new' ? input.mode.name : (replaced?.name ?? point.machineName);
      return {
        kind: 'restore',
        jobId: null,
        repositoryId: repository.id,
        title: name,
        parts: [
          {
            machineId: replaced?.id ?? null,
            hostId: host.id,
            name,
            hold,
            task: (runId) => ({
              kind: 'restore',
              runId,
              hold,
              address: sealHostAddress(this.#context.sealer, host),
              facts: host.facts,
              repository: repositoryAddress,
              pointId: point.id,
              target: {
                mode:
                  input.mode.kind === 'new'
                    ? { kind: 'new', name: input.mode.name }
                    : { kind: 'replace', identity: replaced?.identity ?? null },
                datastore: input.datastore,
                provisioning: input.provisioning,
                networks: input.networks,
                identity: input.identity,
                powerOn: input.powerOn,
                acceptIncomplete: input.acceptIncomplete,
              },
            }),
          },
        ],
      };
    });
  }

  /** @throws NOT_FOUND, POINT_NOT_FOUND */
  async startExport(input: ExportInput): Promise<string> {
    return this.#start(async (tables) => {
      const { point, repository } = await loadPoint(tables, input.pointId);
      const repositoryAddress = await addressOf(tables, repository);
      if (!point.disks.some((disk) => disk.key === input.diskKey)) {
        throw new AppError('NOT_FOUND', `This version has no disk ${input.diskKey}.`, {
          hint: `Its disks are: ${point.disks.map((disk) => disk.key).join(', ')}.`,
          details: { pointId: point.id, diskKey: input.diskKey },
        });
      }
      return {
        kind: 'export',
        jobId: null,
        repositoryId: repository.id,
        title: `${point.machineName} ${input.diskKey}`,
        parts: [
          {
            machineId: null,
            hostId: null,
            name: input.diskKey,
            hold: null,
            task: (runId) => ({
              kind: 'export',
              runId,
              repository: repositoryAddress,
              pointId: point.id,
              diskKey: input.diskKey,
              format: input.format,
              path: input.path,
            }),
          },
        ],
      };
    });
  }

  /**
   * Copies versions into another repository. The run belongs to the target, which it changes.
   * @throws NOT_FOUND, CONFLICT when both are the same, RUN_ALREADY_ACTIVE
   */
  async startCopy(sourceId: string, input: z.infer<typeof repositoryCopySchema>): Promise<string> {
    return this.#start(async (tables) => {
      const source = found(await tables.repositories.load(sourceId), 'repository', sourceId);
      const target = found(await tables.repositories.load(input.targetId), 'repository', input.targetId);
      if (source.id === target.id) {
        throw new AppError('CONFLICT', `"${source.name}" cannot be copied into itself.`, {
          hint: 'Choose another repository as the target.',
          details: { repositoryId: source.id },
        });
      }
      const title = `${source.name} → ${target.name}`;
      const active = await tables.runs.list({ kind: 'copy', active: true, limit: 100 });
      if (active.some((run) => run.repositoryId === target.id && run.title === title)) throw alreadyActive(title);
      const [from, to] = [await addressOf(tables, source), await addressOf(tables, target)];
      return {
        kind: 'copy',
        jobId: null,
        repositoryId: target.id,
        title,
        parts: [
          {
            machineId: null,
            hostId: null,
            name: title,
            hold: null,
            task: (runId) => ({ kind: 'copy', runId, repository: from, target: to, pointIds: input.pointIds ?? null }),
          },
        ],
      };
    });
  }

  /** @throws NOT_FOUND, RUN_ALREADY_ACTIVE */
  async startCheck(repositoryId: string, depth: CheckDepth): Promise<string> {
    return this.#start(async (tables) => {
      const repository = found(await tables.repositories.load(repositoryId), 'repository', repositoryId);
      const repositoryAddress = await addressOf(tables, repository);
      const active = await tables.runs.list({ kind: 'check', active: true, limit: 100 });
      if (active.some((run) => run.repositoryId === repositoryId)) throw alreadyActive(repository.name);
      return {
        kind: 'check',
        jobId: null,
        repositoryId,
        title: repository.name,
        parts: [
          {
            machineId: null,
            hostId: null,
            name: repository.name,
            hold: null,
            task: (runId) => ({ kind: 'check', runId, repository: repositoryAddress, depth }),
          },
        ],
      };
    });
  }

  /** @throws NOT_FOUND, RUN_ALREADY_ACTIVE */
  async startMaintenance(
    repositoryId: string,
    work: Pick<Extract<WorkerTask, { kind: 'maintenance' }>, 'patienceMs' | 'verify' | 'clockDoubt'>,
    origin?: RunOrigin,
  ): Promise<string> {
    return this.#start(async (tables) => {
      const repository = found(await tables.repositories.load(repositoryId), 'repository', repositoryId);
      const active = await tables.runs.list({ kind: 'maintenance', active: true, limit: 100 });
      if (active.some((run) => run.repositoryId === repositoryId)) throw alreadyActive(repository.name);
      const address = await addressOf(tables, repository);
      const readPoints = [...(await findReadPoints(tables, address)), ...this.#readPoints(address.path)];
      return {
        kind: 'maintenance',
        jobId: null,
        repositoryId,
        title: repository.name,
        parts: [
          {
            machineId: null,
            hostId: null,
            name: repository.name,
            hold: null,
            task: (runId) => ({ kind: 'maintenance', runId, repository: address, readPoints, ...work }),
          },
        ],
        origin,
      };
    });
  }

  /** Machines that joined and left since the last run of all: an empty list is not to go unseen. */
  async #explainSelection(tables: Tables, job: JobRecord, selected: ResolvedMachines): Promise<LogLine[]> {
    if (job.selection === null) return [];
    const before = await findLastSelection(tables, job.id);
    if (before === null) return [];
    const atMs = this.#context.clock.nowMs();
    const joined = selected.machineIds.filter((id) => !before.has(id));
    const left = [...before].filter(([id]) => !selected.machineIds.includes(id));
    const lines: LogLine[] = [];
    for (const id of joined) {
      const name = (await tables.machines.load(id))?.name ?? id;
      const text = `The machine "${name}" is new in this job: a rule fits it now.`;
      lines.push({ atMs, level: 'info', code: 'SELECTION_JOINED', text, details: { machineId: id, name } });
    }
    for (const [id, name] of left) {
      const text = `The machine "${name}" is not backed up by this job any more: it is gone, or no rule fits it now.`;
      lines.push({ atMs, level: 'warning', code: 'SELECTION_LEFT', text, details: { machineId: id, name } });
    }
    return lines;
  }

  async #start(plan: (tables: Tables) => Promise<NewRun>): Promise<string> {
    const { catalogue, clock } = this.#context;
    const runId = randomHex(8);
    await catalogue.transaction(async (tables) => {
      const run = await plan(tables);
      const nowMs = clock.nowMs();
      await tables.runs.add({
        id: runId,
        kind: run.kind,
        jobId: run.jobId,
        repositoryId: run.repositoryId,
        title: run.title,
        state: 'waiting',
        cancelRequested: false,
        createdAtMs: nowMs,
        startedAtMs: null,
        finishedAtMs: null,
        error: null,
        ...(run.origin === undefined ? {} : pickOrigin(run.origin)),
      });
      for (const [sequence, line] of (run.lines ?? []).entries()) {
        await tables.log.add({ runId, partId: null, source: 'server', sequence, line });
      }
      const done = run.origin?.done ?? null;
      if (done !== null && run.jobId !== null) await assertDealtWith(tables, run.jobId, done);
      if (run.failure !== undefined) {
        await tables.runs.finish(runId, { state: 'failed', error: run.failure, atMs: nowMs });
      }
      for (const [position, part] of run.parts.entries()) {
        const partId = randomHex(8);
        await tables.parts.add({ id: partId, runId, ...part, task: part.task(runId) }, position);
        if (part.hold === null || part.hostId === null) continue;
        await tables.holds.add({
          name: part.hold,
          hostId: part.hostId,
          partId,
          runId,
          machineId: part.machineId,
          createdAtMs: nowMs,
        });
      }
    });
    return runId;
  }
}

function pickOrigin({ startedBy, dueAtMs, attempt }: RunOrigin): Pick<RunOrigin, 'startedBy' | 'dueAtMs' | 'attempt'> {
  return { startedBy, dueAtMs, attempt };
}

async function assertDealtWith(tables: Tables, jobId: string, done: NonNullable<RunOrigin['done']>): Promise<void> {
  if (await tables.schedules.markDone(jobId, done)) return;
  throw new AppError('CONFLICT', 'The schedule of the job was changed meanwhile.', { details: { jobId } });
}

/** The given ones in front, in their own order, as far as they are in the list. */
function putFirst(ids: readonly string[], first: readonly string[]): string[] {
  return [...first.filter((id) => ids.includes(id)), ...ids.filter((id) => !first.includes(id))];
}

function newHold(): string {
  return `dozo-${randomHex(8)}`;
}

async function assertIdle(tables: Tables, jobId: string, name: string): Promise<void> {
  if ((await tables.runs.list({ jobId, active: true, limit: 1 })).length > 0) throw alreadyActive(name);
}

function alreadyActive(name: string): AppError {
  return new AppError('RUN_ALREADY_ACTIVE', `"${name}" runs already.`, {
    hint: 'Wait for the end of that run, or cancel it.',
    details: { name },
  });
}

async function loadHostOf(tables: Tables, machine: MachineRecord): Promise<HostRecord> {
  const host = machine.hostId === null ? null : await tables.hosts.load(machine.hostId);
  if (host !== null) return host;
  throw new AppError('MACHINE_NOT_FOUND', `No host is known for the machine "${machine.name}".`, {
    hint: 'Add the host that it runs on, or take the machine out of the job.',
    details: { machineId: machine.id },
  });
}

/** Versions of a repository that runs at work read. None that is in the trash already can be chosen for another. */
async function findReadPoints(tables: Tables, { path }: RepositoryAddress): Promise<string[]> {
  const read = new Set<string>();
  for (const { task } of await tables.parts.listActive()) {
    if (task.kind === 'restore' || task.kind === 'export') {
      if (task.repository.path === path) read.add(task.pointId);
    } else if (task.kind === 'copy' && task.repository.path === path) {
      for (const pointId of task.pointIds ?? []) read.add(pointId);
    }
  }
  return [...read];
}

async function loadPoint(
  tables: Tables,
  pointId: string,
): Promise<{ point: PointRecord; repository: RepositoryRecord }> {
  const point = await tables.points.load(pointId);
  if (point === null || point.trash !== null) {
    const what = point === null ? `There is no version ${pointId}.` : `Version ${pointId} is in the trash.`;
    throw new AppError('POINT_NOT_FOUND', what, {
      hint: point === null ? 'Load the list of versions again.' : 'Bring it back from the trash first.',
      details: { pointId },
    });
  }
  const repository = found(await tables.repositories.load(point.repositoryId), 'repository', point.repositoryId);
  return { point, repository };
}

/** Machine that a restore takes the place of; no backup or other restore of it may run beside. */
async function loadReplaced(tables: Tables, input: RestoreInput): Promise<MachineRecord | null> {
  if (input.mode.kind === 'new') return null;
  const machine = found(await tables.machines.load(input.mode.machineId), 'machine', input.mode.machineId);
  if (machine.hostId !== input.hostId) {
    throw new AppError('INPUT_INVALID', `The machine "${machine.name}" is not on this host.`, {
      hint: 'Replace a machine on the host that it is on, or restore it as a new one.',
      details: { machineId: machine.id },
    });
  }
  const active = (await tables.parts.listActive()).find((part) => part.machineId === machine.id);
  if (active !== undefined) throw alreadyActive(machine.name);
  return machine;
}
