import type { z } from 'zod';
import type { JobScheduleView, Schedule, schedulePreviewInputSchema } from '../contract/api/schedule.schema.ts';
import { assertSchedule, nextStarts } from '../policy/index.ts';
import { found, type OrchestrationContext } from './context.ts';

const SHOWN_RUNS = 10;

/** When jobs run by themselves. */
export class ScheduleService {
  readonly #context: OrchestrationContext;
  readonly #onChange: () => void;

  constructor(context: OrchestrationContext, options: { onChange: () => void }) {
    this.#context = context;
    this.#onChange = options.onChange;
  }

  /** @throws NOT_FOUND */
  async describe(jobId: string): Promise<JobScheduleView> {
    const { catalogue, clock } = this.#context;
    found(await catalogue.jobs.load(jobId), 'job', jobId);
    const record = await catalogue.schedules.load(jobId);
    if (record === null) return { schedule: null, nextRunsAtMs: [], missedAtMs: null };
    const { schedule, missedAtMs } = record;
    const nextRunsAtMs = schedule.enabled ? nextStarts(schedule, clock.nowMs(), SHOWN_RUNS) : [];
    return { schedule, nextRunsAtMs, missedAtMs };
  }

  /** Nothing that was due before is caught up. @throws NOT_FOUND, INPUT_INVALID */
  async set(jobId: string, schedule: Schedule): Promise<void> {
    const { catalogue, clock } = this.#context;
    assertSchedule(schedule);
    await catalogue.transaction(async (tables) => {
      found(await tables.jobs.load(jobId), 'job', jobId);
      await tables.schedules.save({ jobId, schedule, doneUntilMs: clock.nowMs(), missedAtMs: null });
    });
    this.#announce(jobId);
  }

  /** @throws NOT_FOUND */
  async remove(jobId: string): Promise<void> {
    const { catalogue } = this.#context;
    found(await catalogue.jobs.load(jobId), 'job', jobId);
    await catalogue.schedules.remove(jobId);
    this.#announce(jobId);
  }

  /** @throws INPUT_INVALID */
  preview({ schedule, fromMs, count }: z.infer<typeof schedulePreviewInputSchema>): number[] {
    assertSchedule(schedule);
    return nextStarts(schedule, fromMs ?? this.#context.clock.nowMs(), count);
  }

  #announce(jobId: string): void {
    this.#context.events.emit({ type: 'changed', what: 'job', id: jobId });
    this.#onChange();
  }
}
