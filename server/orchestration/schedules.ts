import type { z } from 'zod';
import type {
  JobScheduleView,
  Schedule,
  SchedulePreview,
  schedulePreviewInputSchema,
} from '../contract/api/schedule.schema.ts';
import type { Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { assertSchedule, isOver, listPassed, nextStarts } from '../policy/index.ts';
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
    const followers = await listFollowers(catalogue, jobId);
    const record = await catalogue.schedules.load(jobId);
    if (record === null) {
      return { schedule: null, nextRunsAtMs: [], isOver: false, follows: null, followers, missedAtMs: null };
    }
    const { schedule, doneUntilMs, missedAtMs } = record;
    const nextRunsAtMs = schedule.enabled ? nextStarts(schedule, clock.nowMs(), SHOWN_RUNS) : [];
    const follows = await describeFollowed(catalogue, schedule, clock.nowMs());
    return { schedule, nextRunsAtMs, isOver: isOver(schedule, doneUntilMs), follows, followers, missedAtMs };
  }

  /**
   * Nothing that was due before is caught up.
   * @param options.maybePassed it was saved elsewhere, when what it names may still have been to come
   * @throws NOT_FOUND, INPUT_INVALID, SCHEDULE_CIRCLE
   */
  async set(jobId: string, schedule: Schedule, options: { maybePassed?: boolean } = {}): Promise<void> {
    const { catalogue, clock } = this.#context;
    assertSchedule(schedule);
    await catalogue.transaction(async (tables) => {
      found(await tables.jobs.load(jobId), 'job', jobId);
      await assertNoCircle(tables, jobId, schedule);
      if (options.maybePassed !== true) {
        assertToCome(schedule, clock.nowMs(), (await tables.schedules.load(jobId))?.schedule ?? null);
      }
      const followed = schedule.after?.jobId;
      const [last] = followed === undefined ? [] : await tables.runs.list({ jobId: followed, limit: 1 });
      // One that is at work now will have its end.
      const doneUntilRun = last === undefined ? 0 : last.finishedAtMs === null ? last.number - 1 : last.number;
      await tables.schedules.save({ jobId, schedule, doneUntilMs: clock.nowMs(), doneUntilRun, missedAtMs: null });
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

  /** @throws INPUT_INVALID, NOT_FOUND (the followed job), SCHEDULE_CIRCLE */
  async preview(input: z.infer<typeof schedulePreviewInputSchema>): Promise<SchedulePreview> {
    const { catalogue, clock } = this.#context;
    const { schedule, jobId = null, fromMs = clock.nowMs(), count } = input;
    assertSchedule(schedule);
    await assertNoCircle(catalogue, jobId, schedule);
    const before = jobId === null ? null : await catalogue.schedules.load(jobId);
    assertToCome(schedule, clock.nowMs(), before?.schedule ?? null);
    return {
      runsAtMs: nextStarts(schedule, fromMs, count),
      follows: await describeFollowed(catalogue, schedule, fromMs),
    };
  }

  #announce(jobId: string): void {
    this.#context.events.emit({ type: 'changed', what: 'job', id: jobId });
    this.#onChange();
  }
}

/** What has passed since it was saved may stay, so that the rest can be changed. */
function assertToCome(schedule: Schedule, nowMs: number, before: Schedule | null): void {
  const [index] = listPassed(schedule, nowMs, before);
  const passed = index === undefined ? undefined : schedule.rules[index];
  if (index === undefined || passed?.rule.kind !== 'once') return;
  const timeZone = passed.timeZone ?? schedule.timeZone;
  throw new AppError('INPUT_INVALID', `${passed.rule.at} (${timeZone}) has passed: no run would ever begin.`, {
    hint: 'Name a time that is still to come, or start the run by hand.',
    details: { passedRule: index, at: passed.rule.at, timeZone },
  });
}

/** Jobs whose schedule follows a job. */
export async function listFollowers(tables: Tables, jobId: string): Promise<JobScheduleView['followers']> {
  const followers: JobScheduleView['followers'] = [];
  for (const { jobId: followerId, schedule } of await tables.schedules.list()) {
    if (schedule.after?.jobId !== jobId) continue;
    const follower = await tables.jobs.load(followerId);
    if (follower !== null) followers.push({ jobId: followerId, name: follower.name, on: schedule.after.on });
  }
  return followers;
}

async function describeFollowed(
  tables: Tables,
  schedule: Schedule,
  fromMs: number,
): Promise<JobScheduleView['follows']> {
  if (schedule.after === null) return null;
  const { jobId, on } = schedule.after;
  const job = found(await tables.jobs.load(jobId), 'job', jobId);
  const followed = (await tables.schedules.load(jobId))?.schedule;
  const nextRunsAtMs = followed?.enabled === true ? nextStarts(followed, fromMs, SHOWN_RUNS) : [];
  return { jobId, name: job.name, on, nextRunsAtMs };
}

/** A job that runs after itself, be it by way of others, would never come to rest. */
async function assertNoCircle(tables: Tables, jobId: string | null, schedule: Schedule): Promise<void> {
  const names: string[] = [];
  const seen = new Set<string>();
  for (let after = schedule.after; after !== null && !seen.has(after.jobId);) {
    seen.add(after.jobId);
    names.push(found(await tables.jobs.load(after.jobId), 'job', after.jobId).name);
    if (after.jobId === jobId) {
      throw new AppError('SCHEDULE_CIRCLE', `The job would run after itself: ${names.join(' runs after ')}.`, {
        hint: 'Let one of these jobs run at a time of its own.',
        details: { jobId },
      });
    }
    after = (await tables.schedules.load(after.jobId))?.schedule.after ?? null;
  }
}
