import type { z } from 'zod';
import type { MonthlyReport, reportPageQuerySchema } from '../contract/api/report.schema.ts';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import type { RunRecord, Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { renderReport } from '../notification/index.ts';
import { nextStarts } from '../policy/index.ts';
import type { OrchestrationContext } from './context.ts';
import { listMachineViews } from './views.ts';

const DAY_MS = 86_400_000;
const RUNS_MAX = 50_000;
const FAILED_SHOWN = 200;
const TESTED_SHOWN = 200;

/** The monthly report, as data and as a page to print. */
export class ReportService {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  /**
   * @param month `2027-01`
   * @throws NOT_FOUND for a month that has not begun
   */
  async compile(month: string, timeZone: string): Promise<MonthlyReport> {
    const { catalogue, clock } = this.#context;
    const { fromMs, toMs } = spanOf(month, timeZone);
    if (fromMs > clock.nowMs()) {
      throw new AppError('NOT_FOUND', `The month ${month} has not begun yet.`, { details: { month } });
    }
    const runs = await catalogue.runs.listFinished({ fromMs, toMs, limit: RUNS_MAX });
    const backups = runs.filter(({ kind }) => kind === 'backup');
    return {
      month,
      fromMs,
      toMs,
      madeAtMs: clock.nowMs(),
      runs: {
        success: count(backups, ['success']),
        warning: count(backups, ['warning']),
        failure: count(backups, ['failed', 'incomplete']),
        cancelled: count(backups, ['cancelled']),
      },
      ...(await listMachines(catalogue)),
      tested: runs
        .filter(({ kind }) => kind === 'restore' || kind === 'check')
        .slice(0, TESTED_SHOWN)
        .map(({ id, kind, title, state, finishedAtMs }) => ({
          ...{ runId: id, kind, title, state },
          finishedAtMs: finishedAtMs ?? fromMs,
        })),
      failed: backups
        .filter(({ state }) => state === 'failed' || state === 'incomplete')
        .slice(0, FAILED_SHOWN)
        .map(({ id, title, state, finishedAtMs, error }) => ({
          ...{ runId: id, title, state, error },
          finishedAtMs: finishedAtMs ?? fromMs,
        })),
      storage: await listStorage(catalogue, { fromMs, toMs }),
    };
  }

  /** A page of HTML that prints well. @throws NOT_FOUND */
  async renderPage(month: string, { timeZone, language }: z.infer<typeof reportPageQuerySchema>): Promise<string> {
    return renderReport(await this.compile(month, timeZone), { language, timeZone });
  }
}

/** From the first instant of a month to that of the next, in a time zone. */
function spanOf(month: string, timeZone: string): { fromMs: number; toMs: number } {
  const schedule = scheduleSchema.parse({
    timeZone,
    rules: [{ rule: { kind: 'monthly', on: { kind: 'day', day: 1 }, time: '00:00' } }],
  });
  // No time zone is further away from UTC than two days.
  const [fromMs = 0, toMs = 0] = nextStarts(schedule, Date.parse(`${month}-01T00:00Z`) - 2 * DAY_MS, 2);
  return { fromMs, toMs };
}

function count(runs: readonly RunRecord[], states: readonly RunRecord['state'][]): number {
  return runs.filter(({ state }) => states.includes(state)).length;
}

async function listMachines(tables: Tables): Promise<Pick<MonthlyReport, 'protected' | 'unprotected'>> {
  const jobs = new Map((await tables.jobs.list()).map(({ id, name }) => [id, name]));
  const hosts = new Map((await tables.hosts.list()).map(({ id, name }) => [id, name]));
  const all = (await listMachineViews(tables)).map((machine) => ({
    id: machine.id,
    name: machine.name,
    host: machine.hostId === null ? null : (hosts.get(machine.hostId) ?? null),
    present: machine.present,
    tasks: machine.jobIds.map((id) => jobs.get(id) ?? id),
    versionCount: machine.pointCount,
    lastVersionAtMs: machine.lastPointAtMs,
  }));
  const isProtected = (machine: (typeof all)[number]): boolean => machine.tasks.length > 0 && machine.versionCount > 0;
  return {
    protected: all.filter(isProtected),
    // One that is gone from its host and in no task is nobody's worry any more; its versions stay.
    unprotected: all.filter((machine) => !isProtected(machine) && (machine.present || machine.tasks.length > 0)),
  };
}

async function listStorage(tables: Tables, span: { fromMs: number; toMs: number }): Promise<MonthlyReport['storage']> {
  const sizes = await tables.repositorySizes.list(span);
  return (await tables.repositories.list()).map(({ id, name }) => ({
    repositoryId: id,
    name,
    days: sizes
      .filter(({ repositoryId }) => repositoryId === id)
      .map(({ dayMs, storedBytes, nominalBytes, points }) => ({ dayMs, storedBytes, nominalBytes, points })),
  }));
}
