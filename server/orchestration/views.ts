import type { HostView } from '../contract/api/host.schema.ts';
import type { JobView } from '../contract/api/job.schema.ts';
import type { MachineView } from '../contract/api/machine.schema.ts';
import type { RepositoryView } from '../contract/api/repository.schema.ts';
import type { RunPartView, RunView } from '../contract/api/run.schema.ts';
import type { MachineProgress } from '../contract/run.ts';
import type {
  HostRecord,
  JobRecord,
  RepositoryRecord,
  RunPartRecord,
  RunRecord,
  ScheduleRecord,
  Tables,
} from '../database/index.ts';
import { isOver, nextStarts } from '../policy/index.ts';
import { isEncrypted } from './repository-keys.ts';

/** Records as the API shows them: nothing sealed, nothing internal. */
export function viewRun(run: RunRecord): RunView {
  const { id, kind, jobId, repositoryId, title, state, cancelRequested, stoppedBy } = run;
  const { createdAtMs, startedAtMs, finishedAtMs, error, startedBy, dueAtMs, attempt } = run;
  return {
    id,
    kind,
    jobId,
    repositoryId,
    title,
    state,
    cancelRequested,
    stoppedBy,
    createdAtMs,
    startedAtMs,
    finishedAtMs,
    error,
    startedBy,
    dueAtMs,
    attempt,
  };
}

/** @param openHolds names of parts whose hold may still be on the host */
export function viewPart(part: RunPartRecord, openHolds: ReadonlySet<string>): RunPartView {
  const { id, machineId, name, hostId, state, attempts, startedAtMs, finishedAtMs, error, progress, result } = part;
  return {
    id,
    machineId,
    name,
    hostId,
    state,
    attempts,
    startedAtMs,
    finishedAtMs,
    error,
    progress,
    result,
    holdReleased: !openHolds.has(id),
  };
}

export async function viewRunParts(
  tables: Tables,
  runId: string,
  progressOf: (partId: string) => MachineProgress | null,
): Promise<RunPartView[]> {
  const open = new Set(
    (await tables.holds.listByRun(runId)).filter((hold) => hold.releasedAtMs === null).map((hold) => hold.partId),
  );
  return (await tables.parts.listByRun(runId)).map((part) => ({
    ...viewPart(part, open),
    progress: progressOf(part.id) ?? part.progress,
  }));
}

export async function listHostViews(tables: Tables): Promise<HostView[]> {
  const machines = await tables.machines.list();
  const holds = await tables.holds.listOpen();
  return (await tables.hosts.list()).map((host) => ({
    ...viewHost(host),
    machineCount: machines.filter((machine) => machine.hostId === host.id && machine.present).length,
    openHolds: holds.filter((hold) => hold.hostId === host.id).length,
  }));
}

function viewHost(host: HostRecord): Omit<HostView, 'machineCount' | 'openHolds'> {
  const { secret: _secret, ...shown } = host;
  return shown;
}

export async function listMachineViews(
  tables: Tables,
  filter: { hostId?: string; search?: string; ids?: readonly string[] } = {},
): Promise<MachineView[]> {
  const jobs = await tables.jobs.list();
  const points = await tables.points.countByMachine();
  const runs = new Map((await tables.parts.listLastOfMachines()).map((run) => [run.machineId, run]));
  const jobIds = new Map<string, string[]>();
  for (const job of jobs) {
    for (const machineId of job.machineIds) jobIds.set(machineId, [...(jobIds.get(machineId) ?? []), job.id]);
  }
  return (await tables.machines.list(filter)).map((machine) => {
    const run = runs.get(machine.id);
    return {
      ...machine,
      jobIds: jobIds.get(machine.id) ?? [],
      pointCount: points.get(machine.id)?.count ?? 0,
      lastPointAtMs: points.get(machine.id)?.lastAtMs ?? null,
      lastRun: run === undefined ? null : { runId: run.runId, state: run.state, finishedAtMs: run.finishedAtMs },
    };
  });
}

export async function listRepositoryViews(tables: Tables): Promise<RepositoryView[]> {
  const checks = new Map((await tables.runs.listLastChecks()).map((run) => [run.repositoryId, run]));
  const views: RepositoryView[] = [];
  for (const repository of await tables.repositories.list()) {
    const encrypted = await isEncrypted(tables, repository.id);
    views.push(viewRepository(repository, { encrypted, check: checks.get(repository.id) ?? null }));
  }
  return views;
}

function viewRepository(
  repository: RepositoryRecord,
  { encrypted, check }: { encrypted: boolean; check: RunRecord | null },
): RepositoryView {
  return {
    ...repository,
    encrypted,
    lastCheck: check === null ? null : { runId: check.id, state: check.state, finishedAtMs: check.finishedAtMs },
  };
}

export async function listJobViews(tables: Tables, nowMs: number): Promise<JobView[]> {
  const runs = new Map((await tables.runs.listLastOfJobs()).map((run) => [run.jobId, run]));
  const schedules = new Map((await tables.schedules.list()).map((record) => [record.jobId, record]));
  return (await tables.jobs.list()).map((job) =>
    viewJob(job, { run: runs.get(job.id) ?? null, schedule: schedules.get(job.id) ?? null, nowMs }),
  );
}

export function viewJob(
  job: JobRecord,
  known: { run: RunRecord | null; schedule: ScheduleRecord | null; nowMs: number },
): JobView {
  const { run, nowMs } = known;
  const isActive = run !== null && (run.state === 'waiting' || run.state === 'running');
  const schedule = known.schedule?.schedule ?? null;
  return {
    ...job,
    activeRunId: isActive ? run.id : null,
    lastRun: run === null ? null : { runId: run.id, state: run.state, finishedAtMs: run.finishedAtMs },
    schedule,
    nextRunAtMs: schedule?.enabled === true ? (nextStarts(schedule, nowMs, 1)[0] ?? null) : null,
    isOver: known.schedule !== null && isOver(known.schedule.schedule, known.schedule.doneUntilMs),
    missedAtMs: known.schedule?.missedAtMs ?? null,
  };
}
