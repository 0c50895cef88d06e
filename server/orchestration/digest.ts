import type { RunRecord, Tables } from '../database/index.ts';
import type { DigestJob, DigestNotice } from '../notification/index.ts';
import { findLastSuccess } from './last-success.ts';
import { listJobViews, listMachineViews } from './views.ts';

const RUNS_MAX = 20_000;
const JOBS_MAX = 200;
const MACHINES_MAX = 500;

/** What a digest tells of a span of time. */
export async function compileDigest(
  tables: Tables,
  question: {
    period: DigestNotice['period'];
    span: { fromMs: number; toMs: number };
    /** Null: all, and storage and unprotected machines too. */
    jobIds: readonly string[] | null;
    nowMs: number;
  },
): Promise<DigestNotice> {
  const { period, span, jobIds, nowMs } = question;
  const all = await tables.runs.listFinished({ ...span, limit: RUNS_MAX });
  const runs = jobIds === null ? all : all.filter(({ jobId }) => jobId !== null && jobIds.includes(jobId));
  const jobs: DigestJob[] = [];
  for (const job of (await listJobViews(tables, nowMs)).slice(0, JOBS_MAX)) {
    if (jobIds !== null && !jobIds.includes(job.id)) continue;
    const own = runs.filter(({ jobId, kind }) => jobId === job.id && kind === 'backup');
    const [last] = await tables.runs.list({ jobId: job.id, kind: 'backup', active: false, limit: 1 });
    jobs.push({
      title: job.name,
      runs: own.length,
      failures: count(own, ['failed', 'incomplete']),
      lastState: last?.state ?? null,
      lastSuccessAtMs: (await findLastSuccess(tables, job))?.finishedAtMs ?? null,
      nextRunAtMs: job.nextRunAtMs,
      lastError: last?.error ?? null,
    });
  }
  const isAll = jobIds === null;
  return {
    kind: 'digest',
    period,
    ...span,
    runs: {
      success: count(runs, ['success']),
      warning: count(runs, ['warning']),
      failure: count(runs, ['failed', 'incomplete']),
      cancelled: count(runs, ['cancelled']),
    },
    jobs,
    unprotected: isAll ? await listUnprotected(tables) : [],
    repositories: isAll ? await listRepositories(tables, span) : [],
    undelivered: (await tables.outbox.countTroubled(span.fromMs)).failed,
  };
}

function count(runs: readonly RunRecord[], states: readonly RunRecord['state'][]): number {
  return runs.filter(({ state }) => states.includes(state)).length;
}

async function listUnprotected(tables: Tables): Promise<string[]> {
  const machines = await listMachineViews(tables);
  return machines
    .filter(({ present, jobIds }) => present && jobIds.length === 0)
    .slice(0, MACHINES_MAX)
    .map(({ name }) => name);
}

async function listRepositories(
  tables: Tables,
  span: { fromMs: number; toMs: number },
): Promise<DigestNotice['repositories']> {
  const sizes = await tables.repositorySizes.list(span);
  return (await tables.repositories.list()).map(({ id, name, stats, error }) => {
    const first = sizes.find(({ repositoryId }) => repositoryId === id);
    const storedBytes = stats?.storedBytes ?? null;
    return {
      name,
      storedBytes,
      growthBytes: storedBytes === null || first === undefined ? null : storedBytes - first.storedBytes,
      error,
    };
  });
}
