import type { Command } from 'commander';
import type { Retention, RetentionPreview, RetentionSimulation } from '../../contract/api/retention.schema.ts';
import type { ScheduleRule } from '../../contract/api/schedule.schema.ts';
import { AppError } from '../../errors/index.ts';
import { formatBytes } from '../../runtime/index.ts';
import { doneOutput, type CommandContext } from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { collect, parseInteger } from '../parse-options.ts';
import { collectRules } from '../parse-schedule.ts';
import { cleanText, formatTable } from '../table.ts';

type RetentionOptions = Partial<Omit<Retention, 'timeZone'>> & { zone?: string };

export function addRetentionCommands(program: Command, context: CommandContext): void {
  const retention = program.command('retention').description('which versions stay');
  const set = addRetentionOptions(
    context.leaf(retention, 'set <job>', 'after each run of a job; the others go to the trash'),
  );
  context.handle<RetentionOptions>(set, async ({ api, args, options }) => {
    const job = await findNamed<Named>(api, 'jobs', args[0] ?? '');
    const answer = await api.put(`/jobs/${job.id}/retention`, { retention: readRetention(options) });
    return doneOutput(answer, `${cleanText(job.name)} keeps what these rules name.`);
  });
  context.handle(context.leaf(retention, 'clear <job>', 'keep all versions of a job'), async ({ api, args }) => {
    const job = await findNamed<Named>(api, 'jobs', args[0] ?? '');
    const answer = await api.put(`/jobs/${job.id}/retention`, { retention: null });
    return doneOutput(answer, `${cleanText(job.name)} keeps all its versions.`);
  });
  const setCopies = addRetentionOptions(
    context.leaf(
      retention,
      'set-copies <repository>',
      'of the versions that are copied into a repository; the others go to the trash, and are not copied again',
    ),
  );
  context.handle<RetentionOptions>(setCopies, async ({ api, args, options }) => {
    const repository = await findNamed<Named>(api, 'repositories', args[0] ?? '');
    const answer = await api.patch(`/repositories/${repository.id}`, { retention: readRetention(options) });
    return doneOutput(answer, `${cleanText(repository.name)} keeps of copies what these rules name.`);
  });
  context.handle(
    context.leaf(retention, 'clear-copies <repository>', 'keep all versions that are copied into a repository'),
    async ({ api, args }) => {
      const repository = await findNamed<Named>(api, 'repositories', args[0] ?? '');
      const answer = await api.patch(`/repositories/${repository.id}`, { retention: null });
      return doneOutput(answer, `${cleanText(repository.name)} keeps all copies.`);
    },
  );
  const preview = addRetentionOptions(
    context
      .leaf(retention, 'preview', 'of the versions that are there')
      .option('--repository <repository>', 'by id or name')
      .option('--vm <vm>', 'only of this VM (several times)', collect, []),
  );
  context.handle<RetentionOptions & { repository?: string; vm: string[] }>(preview, async ({ api, options }) => {
    if (options.repository === undefined) throw new AppError('INPUT_INVALID', 'Name the --repository.');
    const repository = await findNamed<Named>(api, 'repositories', options.repository);
    const machineIds: string[] = [];
    for (const vm of options.vm) machineIds.push((await findNamed<Named>(api, 'machines', vm)).id);
    const answer = await api.post<RetentionPreview>('/retention/preview', {
      retention: readRetention(options),
      repositoryId: repository.id,
      ...(machineIds.length === 0 ? {} : { machineIds }),
    });
    const rows = answer.machines.flatMap(({ machineName, points }) =>
      points.map((point) => [
        cleanText(machineName),
        formatTime(point.createdAtMs),
        point.state,
        formatBytes(point.storedBytes),
        point.reasons.length === 0 ? 'would go' : `stays: ${point.reasons.join(', ')}`,
      ]),
    );
    const sum = `${answer.keptCount} stay, ${answer.removedCount} would go (at most ${formatBytes(answer.removedStoredBytes)}).`;
    const table = rows.length === 0 ? '' : formatTable(['VM', 'VERSION', 'STATE', 'STORED', ''], rows);
    return doneOutput(answer, `${table}${sum}`);
  });
  const simulate = addRetentionOptions(
    context
      .leaf(retention, 'simulate', 'of the versions that a schedule would make')
      .option('--rule <rule>', 'as for `dozo schedules set` (several times)', collectRules, [])
      .option('--for <days>', 'how long', parseInteger(1, 3660), 365),
  );
  context.handle<RetentionOptions & { rule: ScheduleRule[]; for: number }>(simulate, async ({ api, options }) => {
    if (options.rule.length === 0) throw new AppError('INPUT_INVALID', 'A simulation needs at least one --rule.');
    const rules = readRetention(options);
    const answer = await api.post<RetentionSimulation>('/retention/simulate', {
      retention: rules,
      schedule: { timeZone: rules.timeZone, rules: options.rule.map((rule) => ({ rule })) },
      days: options.for,
    });
    const rows = answer.kept.map(({ createdAtMs, reasons }) => [formatTime(createdAtMs), reasons.join(', ')]);
    const sum = `${answer.runCount} runs, at most ${answer.peakCount} versions at a time, ${rows.length} in the end.`;
    return doneOutput(answer, `${rows.length === 0 ? '' : formatTable(['VERSION', 'STAYS FOR'], rows)}${sum}`);
  });
}

function addRetentionOptions(command: Command): Command {
  const count = parseInteger(1, 10_000);
  return command
    .option('--last <number>', 'the newest so many', count)
    .option('--within-days <number>', 'those of the last so many days', count)
    .option('--days <number>', 'the newest of each of so many days', count)
    .option('--weeks <number>', 'of each of so many weeks', count)
    .option('--months <number>', 'of each of so many months', count)
    .option('--years <number>', 'of each of so many years', count)
    .option('--zone <zone>', 'time zone like Europe/Berlin; else that of this machine');
}

function readRetention(options: RetentionOptions): Partial<Retention> {
  const { last, withinDays, days, weeks, months, years } = options;
  const timeZone = options.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  return { last, withinDays, days, weeks, months, years, timeZone } as Partial<Retention>;
}
