/** Of the wizard for a task, in their order, as its catalogue and its address name them. */
export const TASK_STEPS = [
  'machines',
  'name',
  'destination',
  'storing',
  'options',
  'check',
  'schedule',
  'retention',
  'people',
  'summary',
] as const;
export type TaskStep = (typeof TASK_STEPS)[number];
