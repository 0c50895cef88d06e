import type { Command } from 'commander';
import type { z } from 'zod';
import type { runLogSchema, runPageSchema, RunView } from '../../contract/api/run.schema.ts';
import { doneOutput, listOutput, type Api, type CommandContext } from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { formatSeconds, formatTime } from '../format.ts';
import { oneOf, parseInteger } from '../parse-options.ts';
import { describeRun, watchToEnd, type RunDetail } from '../run-output.ts';
import { cleanText } from '../table.ts';

type Page = z.infer<typeof runPageSchema>;
type Log = z.infer<typeof runLogSchema>;

interface ListOptions {
  job?: string;
  vm?: string;
  kind?: string;
  state?: string;
  active?: boolean;
  limit: number;
}

const PAGE_MAX = 500;

export function addRunCommands(program: Command, context: CommandContext): void {
  const runs = program.command('runs').description('what ran and what runs');
  const list = context
    .leaf(runs, 'list', 'runs, newest first')
    .option('--job <job>', 'of one job')
    .option('--vm <vm>', 'of one VM')
    .option(
      '--kind <kind>',
      'backup, restore, export, check, maintenance or copy',
      oneOf(['backup', 'restore', 'export', 'check', 'maintenance', 'copy']),
    )
    .option('--state <state>', 'in this state')
    .option('--active', 'that have not ended')
    .option('--limit <number>', 'at most so many', parseInteger(1, 100_000), 50);
  context.handle<ListOptions>(list, async ({ api, options }) =>
    listOutput(await listRuns(api, options), ['ID', 'KIND', 'TITLE', 'STATE', 'STARTED', 'TOOK'], (run) => [
      run.id,
      run.kind,
      run.title,
      run.state,
      formatTime(run.startedAtMs),
      formatSeconds(run.startedAtMs, run.finishedAtMs),
    ]),
  );
  context.handle(context.leaf(runs, 'show <run>', 'one run with its VMs'), async ({ api, args }) =>
    describeRun(await api.get<RunDetail>(`/runs/${encodeURIComponent(args[0] ?? '')}`)),
  );
  const log = context
    .leaf(runs, 'log <run>', 'its lines')
    .option('--level <level>', 'info, warning or error', oneOf(['info', 'warning', 'error']));
  context.handle<{ level?: string }>(log, async ({ api, args, options }) => {
    const lines: Log['lines'] = [];
    for (let after = 0; ;) {
      const path = `/runs/${encodeURIComponent(args[0] ?? '')}/log`;
      const page = await api.get<Log>(path, { after, limit: 5000, level: options.level });
      lines.push(...page.lines);
      if (page.lines.length < 5000) break;
      after = page.next;
    }
    return {
      document: lines,
      text: lines.map((line) => `${formatTime(line.atMs)} ${line.level.padEnd(7)} ${cleanText(line.text)}\n`).join(''),
    };
  });
  context.handle(
    context.leaf(runs, 'watch <run>', 'follow it to its end; the exit status follows its state'),
    async (call) => watchToEnd(context, call, call.args[0] ?? ''),
  );
  context.handle(context.leaf(runs, 'cancel <run>', 'cancel it'), async ({ api, args }) =>
    doneOutput(
      await api.post<RunView>(`/runs/${encodeURIComponent(args[0] ?? '')}/cancel`, {}),
      'It will end when the hosts are as they were.',
    ),
  );
}

async function listRuns(api: Api, options: ListOptions): Promise<RunView[]> {
  const jobId = options.job === undefined ? undefined : (await findNamed<Named>(api, 'jobs', options.job)).id;
  const machineId = options.vm === undefined ? undefined : (await findNamed<Named>(api, 'machines', options.vm)).id;
  const runs: RunView[] = [];
  let before: string | undefined;
  while (runs.length < options.limit) {
    const page = await api.get<Page>('/runs', {
      jobId,
      machineId,
      kind: options.kind,
      state: options.state,
      active: options.active,
      limit: Math.min(PAGE_MAX, options.limit - runs.length),
      before,
    });
    runs.push(...page.runs);
    if (page.next === null) break;
    before = page.next;
  }
  return runs;
}
