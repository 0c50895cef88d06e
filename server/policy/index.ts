export { clockDoubt, followClock, type ClockTrust } from './clock-trust.ts';
export { findDueLink, findDueRun, retryAtMs } from './due-run.ts';
export { assertSchedule, isOver, isWindowOpen, listPassed, nextStarts } from './occurrences.ts';
export { judgePoints, type RetainedPoint } from './retention.ts';
export { simulateRetention } from './retention-simulation.ts';
export { selectMachines, type SelectableMachine, type SelectedMachine } from './selection.ts';
export { allowedBytesPerSecond } from './throttle.ts';
