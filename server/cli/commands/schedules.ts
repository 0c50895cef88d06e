import type { Command } from 'commander';
import type { JobView } from '../../contract/api/job.schema.ts';
import type { JobScheduleView, SchedulePreview, ScheduleRule } from '../../contract/api/schedule.schema.ts';
import { AppError } from '../../errors/index.ts';
import { doneOutput, showOutput, type Api, type CommandContext, type Output } from '../command-context.ts';
import { findNamed } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { oneOf, parseInteger } from '../parse-options.ts';
import { collectRules, collectWindow } from '../parse-schedule.ts';
import { cleanText } from '../table.ts';

interface ScheduleOptions {
  rule: ScheduleRule[];
  zone?: string;
  window?: string[];
  after?: string;
  afterAny?: boolean;
  atClose?: 'finish' | 'pause' | 'cancel';
  jitter?: number;
  catchUp: boolean;
  retries?: number;
  retryPause?: number;
  disabled?: boolean;
}

export function addScheduleCommands(program: Command, context: CommandContext): void {
  const schedules = program.command('schedules').description('when jobs run by themselves');
  context.handle(context.leaf(schedules, 'show <job>', 'schedule and next runs'), async ({ api, args }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    return describe(await api.get<JobScheduleView>(`/jobs/${job.id}/schedule`));
  });
  const set = addRuleOptions(context.leaf(schedules, 'set <job>', 'let a job run by itself'));
  context.handle<ScheduleOptions>(set, async ({ api, args, options }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    return describe(await api.put<JobScheduleView>(`/jobs/${job.id}/schedule`, await readSchedule(api, options)));
  });
  context.handle(context.leaf(schedules, 'remove <job>', 'let a job run on request only'), async ({ api, args }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    await api.delete(`/jobs/${job.id}/schedule`);
    return doneOutput({ removed: job.id }, `${cleanText(job.name)} runs on request only.`);
  });
  const preview = addRuleOptions(
    context
      .leaf(schedules, 'preview', 'the next runs of a schedule that is not saved')
      .option('--count <number>', 'how many', parseInteger(1, 100), 10),
  );
  context.handle<ScheduleOptions & { count: number }>(preview, async ({ api, options }) => {
    const answer = await api.post<SchedulePreview>('/schedules/preview', {
      schedule: await readSchedule(api, options),
      count: options.count,
    });
    const lines = answer.runsAtMs.map(formatTime);
    if (answer.follows !== null) lines.push(describeFollowed(answer.follows));
    return { document: answer, text: lines.map((line) => `${line}\n`).join('') };
  });
}

function addRuleOptions(command: Command): Command {
  return command
    .option(
      '--rule <rule>',
      '"daily 22:00", "every 4h", "weekly mon,thu 22:00", "monthly last 22:00", "monthly second tue 22:00", ' +
        '"once 2027-01-31T22:30", "cron 30 22 * * 1-5" (several times)',
      collectRules,
      [],
    )
    .option('--zone <zone>', 'time zone like Europe/Berlin; else that of this machine')
    .option('--after <job>', 'when a run of that job has succeeded; instead of rules or besides')
    .option('--after-any', 'with --after: also when it has failed and is not tried again')
    .option('--window <hours>', 'only then, like "mon-fri 20-24" or "sat 0:30-8" (several times)', collectWindow)
    .option(
      '--at-close <what>',
      'what becomes of a run at work when the window closes: finish, pause (the rest when it opens), cancel',
      oneOf(['finish', 'pause', 'cancel']),
    )
    .option('--jitter <minutes>', 'begin up to so much later', parseInteger(0, 240))
    .option('--no-catch-up', 'leave out what was missed')
    .option('--retries <number>', 'repetitions after a failure', parseInteger(0, 10))
    .option('--retry-pause <minutes>', 'before the first repetition; doubles each time', parseInteger(1, 720))
    .option('--disabled', 'keep the schedule, but do not run');
}

async function readSchedule(api: Api, options: ScheduleOptions): Promise<object> {
  if (options.rule.length === 0 && options.after === undefined) {
    throw new AppError('INPUT_INVALID', 'A schedule needs at least one --rule, or --after.');
  }
  if (options.afterAny === true && options.after === undefined) {
    throw new AppError('INPUT_INVALID', '--after-any needs --after.');
  }
  if (options.atClose !== undefined && options.window === undefined) {
    throw new AppError('INPUT_INVALID', '--at-close needs a --window.');
  }
  return {
    enabled: options.disabled !== true,
    timeZone: options.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    rules: options.rule.map((rule) => ({ rule })),
    after:
      options.after === undefined
        ? null
        : {
            jobId: (await findNamed<JobView>(api, 'jobs', options.after)).id,
            on: options.afterAny === true ? 'always' : 'success',
          },
    window: options.window === undefined ? null : { hours: options.window, atClose: options.atClose },
    jitterMinutes: options.jitter,
    catchUp: options.catchUp,
    retry: { times: options.retries, pauseMinutes: options.retryPause },
  };
}

function describe(view: JobScheduleView): Output {
  const { schedule } = view;
  if (schedule === null) return doneOutput(view, 'Runs on request only.');
  return showOutput(view, [
    ['enabled', schedule.enabled ? 'yes' : 'no'],
    ['time zone', schedule.timeZone],
    ['rules', schedule.rules.map(({ rule }) => JSON.stringify(rule)).join(' ')],
    ['follows', view.follows === null ? '-' : describeFollowed(view.follows)],
    ['followed by', view.followers.map(({ name }) => cleanText(name)).join(', ')],
    ['window', schedule.window === null ? 'always' : schedule.window.hours.join(' ')],
    ['when it closes', schedule.window?.atClose ?? '-'],
    ['catch up', schedule.catchUp ? 'yes' : 'no'],
    ['retries', `${schedule.retry.times}, from ${schedule.retry.pauseMinutes} minutes on`],
    ['missed', formatTime(view.missedAtMs)],
    ['next runs', view.isOver ? 'none: all that it names has passed' : view.nextRunsAtMs.map(formatTime).join(', ')],
  ]);
}

function describeFollowed({ name, on, nextRunsAtMs }: NonNullable<JobScheduleView['follows']>): string {
  const [nextMs] = nextRunsAtMs;
  const when = nextMs === undefined ? '' : `, which begins ${formatTime(nextMs)}`;
  return `${on === 'success' ? 'after a success of' : 'after every run of'} ${cleanText(name)}${when}`;
}
