export { findDueRun, retryAtMs } from './due-run.ts';
export { assertSchedule, isWindowOpen, nextStarts, opensAt } from './occurrences.ts';
