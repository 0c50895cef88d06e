import type { Command } from 'commander';
import type { z } from 'zod';
import type { runDetailSchema, RunView } from '../contract/api/run.schema.ts';
import type { RunState } from '../contract/run.ts';
import { formatBytes } from '../runtime/index.ts';
import {
  EXIT_DONE,
  EXIT_FAILED,
  EXIT_WARNINGS,
  type CommandContext,
  type Invocation,
  type Output,
} from './command-context.ts';
import { formatSeconds, formatTime } from './format.ts';
import { cleanText, formatTable } from './table.ts';
import { watchRun } from './watch-run.ts';

export type RunDetail = z.infer<typeof runDetailSchema>;

export interface WaitOptions {
  wait?: boolean;
}

export function addWaitOptions(command: Command): Command {
  return command.option('--wait', 'follow the run to its end; the exit status follows its state');
}

/** Tells that a run was started, or follows it to its end when asked to. */
export async function followRun(
  context: CommandContext,
  call: Invocation<WaitOptions>,
  run: RunView,
): Promise<Output | null> {
  if (call.options.wait !== true) return { document: run, text: `Started run ${run.id}.\n` };
  return watchToEnd(context, call, run.id);
}

/** Follows a run; under --json its events and end are lines that were written already. */
export async function watchToEnd(
  context: CommandContext,
  call: Invocation<unknown>,
  runId: string,
): Promise<Output | null> {
  const run = await watchRun(call.connection, runId, { json: context.isJson, terminal: context.terminal });
  if (!context.isJson) return { ...describeRun(run), exitStatus: exitStatusOf(run.state) };
  context.exitStatus = exitStatusOf(run.state);
  return null;
}

export function exitStatusOf(state: RunState): number {
  switch (state) {
    case 'success':
    case 'waiting':
    case 'running':
      return EXIT_DONE;
    case 'warning':
    case 'incomplete':
      return EXIT_WARNINGS;
    case 'failed':
    case 'cancelled':
      return EXIT_FAILED;
  }
}

export function describeRun(run: RunDetail): Output {
  const head = formatTable(
    ['RUN', 'KIND', 'TITLE', 'STATE', 'STARTED', 'TOOK'],
    [
      [
        run.id,
        run.kind,
        run.title,
        run.state,
        formatTime(run.startedAtMs),
        formatSeconds(run.startedAtMs, run.finishedAtMs),
      ],
    ],
  );
  const parts = formatTable(
    ['NAME', 'STATE', 'SIZE', 'READ', 'SENT', 'STORED', 'ERROR'],
    run.parts.map((part) => {
      const stats = part.result !== null && 'stats' in part.result ? part.result.stats : null;
      const size = (bytes: number | undefined): string => (bytes === undefined ? '-' : formatBytes(bytes));
      return [
        part.name,
        part.state + (part.holdReleased ? '' : ' (host not clean yet)'),
        size(stats?.nominalBytes),
        size(stats?.readBytes),
        size(stats?.sentBytes),
        size(stats?.storedBytes),
        part.error?.code ?? '',
      ];
    }),
  );
  const errors = run.parts.flatMap(({ name, error }) =>
    error === null ? [] : [`${cleanText(`${name}: ${error.message} ${error.hint ?? ''}`)}\n`],
  );
  return { document: run, text: `${head}\n${parts}${errors.join('')}` };
}
