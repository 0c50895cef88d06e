import type { RunRecord, Tables } from '../database/index.ts';

/** Newest run of a job that left good versions. */
export async function findLastSuccess(tables: Tables, jobId: string): Promise<RunRecord | null> {
  const [success] = await tables.runs.list({ jobId, kind: 'backup', state: 'success', limit: 1 });
  const [warning] = await tables.runs.list({ jobId, kind: 'backup', state: 'warning', limit: 1 });
  return (success?.number ?? 0) > (warning?.number ?? 0) ? (success ?? null) : (warning ?? null);
}
