import type { JobListQuery, JobRow, MachineListQuery, MachineRow } from '../contract/api/list.schema.ts';
import type { History, Overview } from '../contract/api/overview.schema.ts';
import type { Schedule } from '../contract/api/schedule.schema.ts';
import { HISTORY_SLOT_MS, type ListedMachine, type Tables } from '../database/index.ts';
import { nextStarts } from '../policy/index.ts';
import { viewJob } from './views.ts';

const NAMES_SHOWN = 5;
const FAILING_SHOWN = 5;
const NEXT_SHOWN = 5;
const PAUSED_SHOWN = 5;
const DAY_MS = 86_400_000;

/** One page of the machines. @param ids only of these; null: of all */
export async function listMachineRows(
  tables: Tables,
  query: MachineListQuery,
  known: { ids: readonly string[] | null; nowMs: number },
): Promise<{ rows: MachineRow[]; total: number }> {
  const { rows, total } = await tables.listings.pageMachines(query, known.ids);
  return { rows: await completeRows(tables, rows, known.nowMs), total };
}

/** One page of the jobs. @param ids only of these; null: of all */
export async function listJobRows(
  tables: Tables,
  query: JobListQuery,
  known: { ids: readonly string[] | null; nowMs: number },
): Promise<{ rows: JobRow[]; total: number }> {
  const { ids, total } = await tables.listings.pageJobIds(query, known.ids);
  const rows: JobRow[] = [];
  for (const id of ids) {
    const job = await tables.jobs.load(id);
    // Deleted since the page was cut.
    if (job === null) continue;
    const [run] = await tables.runs.list({ jobId: id, limit: 1 });
    const schedule = await tables.schedules.load(id);
    rows.push({
      ...viewJob(job, { run: run ?? null, schedule, nowMs: known.nowMs }),
      machineNames: await tables.listings.machineNamesOf(id, NAMES_SHOWN),
      repositoryName: (await tables.repositories.load(job.repositoryId))?.name ?? '',
    });
  }
  return { rows, total };
}

/** @param ids of machines that may be told of; null: of all */
export async function loadOverview(
  tables: Tables,
  known: { ids: readonly string[] | null; nowMs: number },
): Promise<Overview> {
  const { listings } = tables;
  const failing = await listings.pageMachines(
    { sort: 'name', descending: false, offset: 0, limit: FAILING_SHOWN, protection: 'failing', present: true },
    known.ids,
  );
  const schedules = known.ids === null ? await tables.schedules.list() : [];
  const nextRuns = listNextRuns(schedules, known.nowMs);
  const paused = schedules.filter(({ schedule }) => !schedule.enabled).slice(0, PAUSED_SHOWN);
  const names = await listings.jobNames([...nextRuns, ...paused].map(({ jobId }) => jobId));
  const [restore] = known.ids === null ? await tables.runs.list({ kind: 'restore', state: 'success', limit: 1 }) : [];
  return {
    machines: await listings.countMachines(known.ids),
    failing: await completeRows(tables, failing.rows, known.nowMs),
    jobs: await listings.countJobs(),
    nextRuns: nextRuns.map((next) => ({ ...next, name: names.get(next.jobId) ?? '' })),
    pausedJobs: paused.map(({ jobId }) => ({ jobId, name: names.get(jobId) ?? '' })),
    lastRestore:
      restore === undefined || restore.finishedAtMs === null
        ? null
        : { runId: restore.id, title: restore.title, finishedAtMs: restore.finishedAtMs },
    leastProven: await listings.leastProvenMachine(known.ids),
  };
}

/** What ran, what was transferred and how the repositories grew, day by day of a time zone, today last. */
export async function loadHistory(
  tables: Tables,
  span: { days: number; timeZone: string; nowMs: number },
): Promise<History> {
  const dateOf = dateReader(span.timeZone);
  const dates = listDates(span.days, dateOf(span.nowMs));
  const days = new Map(
    dates.map((date) => [
      date,
      { date, readBytes: 0, storedBytes: 0, runs: new Map<string, History['days'][number]['runs'][number]>() },
    ]),
  );
  // A day may have 25 hours: what is too much falls into days that are not asked for.
  const fromMs = span.nowMs - (span.days + 1) * DAY_MS;
  for (const { slot, readBytes, storedBytes } of await tables.listings.sumTransfers(fromMs)) {
    const day = days.get(dateOf(slot * HISTORY_SLOT_MS));
    if (day === undefined) continue;
    day.readBytes += readBytes;
    day.storedBytes += storedBytes;
  }
  for (const { slot, kind, state, count } of await tables.listings.countRuns(fromMs)) {
    const runs = days.get(dateOf(slot * HISTORY_SLOT_MS))?.runs;
    const known = runs?.get(`${kind} ${state}`);
    if (known !== undefined) known.count += count;
    else runs?.set(`${kind} ${state}`, { kind, state, count });
  }
  return {
    days: [...days.values()].map((day) => ({ ...day, runs: [...day.runs.values()] })),
    sizes: await listSizes(tables, { fromMs, toMs: span.nowMs }),
  };
}

async function listSizes(tables: Tables, span: { fromMs: number; toMs: number }): Promise<History['sizes']> {
  const byRepository = new Map<string, History['sizes'][number]['points']>();
  // These days are kept as days of UTC.
  const dateOf = dateReader('UTC');
  for (const { repositoryId, dayMs, storedBytes } of await tables.repositorySizes.list(span)) {
    const points = byRepository.get(repositoryId) ?? [];
    points.push({ date: dateOf(dayMs), storedBytes });
    byRepository.set(repositoryId, points);
  }
  return [...byRepository].map(([repositoryId, points]) => ({ repositoryId, points }));
}

async function completeRows(tables: Tables, rows: readonly ListedMachine[], nowMs: number): Promise<MachineRow[]> {
  const jobIds = [...new Set(rows.flatMap((row) => row.jobIds))];
  const names = await tables.listings.jobNames(jobIds);
  const next = new Map<string, number>();
  const start = startReader(nowMs);
  for (const id of jobIds) {
    const record = await tables.schedules.load(id);
    const atMs = record === null ? null : start(record.schedule);
    if (atMs !== null) next.set(id, atMs);
  }
  return rows.map(({ jobIds: ids, ...row }) => {
    const dueMs = ids.flatMap((id) => next.get(id) ?? []);
    return {
      ...row,
      jobs: ids.map((id) => ({ id, name: names.get(id) ?? '' })),
      nextRunAtMs: dueMs.length === 0 ? null : Math.min(...dueMs),
    };
  });
}

function listNextRuns(
  schedules: readonly { jobId: string; schedule: Schedule }[],
  nowMs: number,
): { jobId: string; atMs: number }[] {
  const start = startReader(nowMs);
  const due: { jobId: string; atMs: number }[] = [];
  for (const { jobId, schedule } of schedules) {
    const atMs = start(schedule);
    if (atMs !== null) due.push({ jobId, atMs });
  }
  return due.sort((a, b) => a.atMs - b.atMs).slice(0, NEXT_SHOWN);
}

/** Many jobs share a schedule: each is worked out once. */
function startReader(nowMs: number): (schedule: Schedule) => number | null {
  const known = new Map<string, number | null>();
  return (schedule) => {
    if (!schedule.enabled) return null;
    const key = JSON.stringify(schedule);
    const found = known.get(key);
    if (found !== undefined) return found;
    const atMs = nextStarts(schedule, nowMs, 1)[0] ?? null;
    known.set(key, atMs);
    return atMs;
  };
}

function dateReader(timeZone: string): (atMs: number) => string {
  // The English of Canada writes dates as ISO 8601 does.
  const format = new Intl.DateTimeFormat('en-CA', { timeZone, year: 'numeric', month: '2-digit', day: '2-digit' });
  return (atMs) => format.format(atMs);
}

function listDates(count: number, today: string): string[] {
  const lastMs = Date.parse(`${today}T00:00:00Z`);
  return Array.from({ length: count }, (_, index) =>
    new Date(lastMs - (count - 1 - index) * DAY_MS).toISOString().slice(0, 10),
  );
}
