import type { ServerEvent } from '../contract/api/event.schema.ts';
import type { Tables, UserRecord } from '../database/index.ts';
import { AppError } from '../errors/index.ts';

/**
 * How far a caller with the permissions `browse` and `restore` reaches: the jobs delegated to the account, what
 * they protect, and where those machines are. What lies outside answers as if it were not there.
 */
export class Reach {
  readonly jobIds: ReadonlySet<string>;
  readonly machineIds: ReadonlySet<string>;
  readonly hostIds: ReadonlySet<string>;
  readonly #versions: ReadonlySet<string>;

  constructor(
    rows: readonly { jobId: string; repositoryId: string; machineId: string | null }[],
    hostOf: ReadonlyMap<string, string | null>,
  ) {
    this.jobIds = new Set(rows.map(({ jobId }) => jobId));
    this.machineIds = new Set(rows.flatMap(({ machineId }) => machineId ?? []));
    this.hostIds = new Set([...this.machineIds].flatMap((id) => hostOf.get(id) ?? []));
    this.#versions = new Set(rows.map(({ repositoryId, machineId }) => `${repositoryId} ${machineId ?? ''}`));
  }

  equals(other: Reach): boolean {
    const pairs: [ReadonlySet<string>, ReadonlySet<string>][] = [
      [this.jobIds, other.jobIds],
      [this.hostIds, other.hostIds],
      [this.#versions, other.#versions],
    ];
    return pairs.every(([own, others]) => own.size === others.size && [...own].every((id) => others.has(id)));
  }

  /** Whether versions of the machine in the repository may be seen and restored. */
  coversPoint(point: { repositoryId: string; machineId: string }): boolean {
    return this.#versions.has(`${point.repositoryId} ${point.machineId}`);
  }

  /** Of a run all machines must be covered, and there must be some: checks and exports are not. */
  async coversRun(tables: Tables, run: { id: string; kind: string }): Promise<boolean> {
    if (run.kind !== 'backup' && run.kind !== 'restore') return false;
    const parts = await tables.parts.listByRun(run.id);
    for (const { machineId, task } of parts) {
      // A machine that is restored as a new one is none yet: the version tells whose it is.
      const point = task.kind === 'restore' ? await tables.points.load(task.pointId) : null;
      const isCovered = point === null ? machineId !== null && this.machineIds.has(machineId) : this.coversPoint(point);
      if (!isCovered) return false;
    }
    return parts.length > 0;
  }

  /** Which events are shown, from now on. */
  async watch(tables: Tables): Promise<(event: ServerEvent) => boolean> {
    const runIds = new Set<string>();
    for (const run of await tables.runs.list({ active: true, limit: ACTIVE_RUNS_MAX })) {
      if (await this.coversRun(tables, run)) runIds.add(run.id);
    }
    return (event) => {
      switch (event.type) {
        case 'reset':
          return true;
        case 'run':
          if (event.run.jobId !== null && this.jobIds.has(event.run.jobId)) runIds.add(event.run.id);
          else this.#learn(tables, event.run, runIds);
          return runIds.has(event.run.id);
        case 'part':
        case 'progress':
        case 'log':
          return runIds.has(event.runId);
        case 'probe':
          return false;
        case 'changed':
          return (
            event.id === null || [this.jobIds, this.machineIds, this.hostIds].some((ids) => ids.has(event.id ?? ''))
          );
      }
    };
  }

  /** Restores, and runs of other jobs over the same machines, that begin later: shown from their next event on. */
  #learn(tables: Tables, run: { id: string; kind: string }, runIds: Set<string>): void {
    if (runIds.has(run.id)) return;
    this.coversRun(tables, run).then(
      (isCovered) => {
        if (isCovered) runIds.add(run.id);
      },
      // The run is not shown; whoever asks for it hears why.
      () => undefined,
    );
  }
}

const ACTIVE_RUNS_MAX = 1_000;

/** Null: everything. Only accounts of the role `restore` are limited. */
export async function loadReach(tables: Tables, user: UserRecord): Promise<Reach | null> {
  if (user.role !== 'restore') return null;
  const rows = await tables.users.listReach(user.name);
  const machines = await tables.machines.list();
  return new Reach(rows, new Map(machines.map(({ id, hostId }) => [id, hostId])));
}

/** @throws NOT_FOUND when there is a limit and it does not cover the thing */
export function assertReached(isCovered: boolean, what: string, id: string): void {
  if (isCovered) return;
  throw new AppError('NOT_FOUND', `There is no ${what} ${id}.`, {
    hint: 'It may have been deleted meanwhile; load the list again.',
    details: { what, id },
  });
}
