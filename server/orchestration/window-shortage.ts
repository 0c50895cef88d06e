import type { LogLine, MachineProgress } from '../contract/run.ts';
import type { RunPartRecord, RunRecord, Tables } from '../database/index.ts';

/** So often in a row a machine is cut short by the end of its window before it is said that it will go on so. */
const TOLD_AFTER = 3;
/** Parts that are looked through: failures and runs in which it never had its turn may lie in between. */
const PARTS_LOOKED_AT = 50;

/**
 * What to say of a machine that the end of the window cuts short now, and was cut short by it before. Null: not
 * often enough. A VM snapshot is never kept for the next window, since it grows, slows its machine down and can fill
 * its datastore; so each window begins to read anew, and one that is too short stays too short. What had arrived is
 * found by its hash and not stored again.
 */
export async function explainShortage(
  tables: Tables,
  ended: { run: RunRecord; part: RunPartRecord; progress: MachineProgress | null; nowMs: number },
): Promise<Omit<LogLine, 'atMs'> | null> {
  const { run, part, nowMs } = ended;
  if (run.jobId === null || part.machineId === null) return null;
  const { jobId } = run;
  const before = await tables.parts.listOfMachine({ jobId, machineId: part.machineId, limit: PARTS_LOOKED_AT });
  const times = 1 + countCutShort(before.filter(({ id }) => id !== part.id));
  if (times < TOLD_AFTER) return null;
  const neededMinutes = estimateMinutes({ ...ended, progress: ended.progress ?? part.progress }, nowMs);
  const need = neededMinutes === null ? '' : ` At the speed of this run it needs about ${neededMinutes} minutes.`;
  return {
    level: 'warning',
    code: 'SCHEDULE_WINDOW_TOO_SHORT',
    text: `The end of the window has cut "${part.name}" short ${times} times in a row.${need} Make the window longer, or let runs finish after it.`,
    details: neededMinutes === null ? { machine: part.name, times } : { machine: part.name, times, neededMinutes },
  };
}

/** @param parts of one machine, newest first */
function countCutShort(parts: readonly RunPartRecord[]): number {
  let count = 0;
  for (const { state, error, startedAtMs } of parts) {
    if (state === 'success' || state === 'warning' || state === 'incomplete') return count;
    if (error?.code === 'RUN_STOPPED_BY_WINDOW' && startedAtMs !== null) count += 1;
  }
  return count;
}

function estimateMinutes(
  { part, progress }: { part: RunPartRecord; progress: MachineProgress | null },
  nowMs: number,
): number | null {
  if (part.startedAtMs === null || progress === null || progress.doneBytes === 0) return null;
  const takenMs = Math.max(0, nowMs - part.startedAtMs);
  return Math.ceil((takenMs * progress.totalBytes) / progress.doneBytes / 60_000);
}
