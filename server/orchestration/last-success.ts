import type { JobRecord, RunRecord, Tables } from '../database/index.ts';

/** Runs by hand of some machines only that are looked past. */
const RUNS_LOOKED_AT = 50;

/** Newest run of a job that left good versions. One that somebody started of some machines only is none of the job. */
export async function findLastSuccess(
  tables: Tables,
  job: Pick<JobRecord, 'id' | 'machineIds'>,
  states: readonly RunRecord['state'][] = ['success', 'warning'],
): Promise<RunRecord | null> {
  const good: RunRecord[] = [];
  for (const state of states) {
    good.push(...(await tables.runs.list({ jobId: job.id, kind: 'backup', state, limit: RUNS_LOOKED_AT })));
  }
  for (const run of good.sort((a, b) => b.number - a.number)) {
    const isWhole =
      run.startedBy !== 'request' || (await tables.parts.listByRun(run.id)).length >= job.machineIds.length;
    if (isWhole) return run;
  }
  return null;
}
