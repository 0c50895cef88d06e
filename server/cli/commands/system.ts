import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { HealthDetails } from '../../contract/api/health.schema.ts';
import type { SystemView } from '../../contract/api/system.schema.ts';
import { EXIT_FAILED, EXIT_WARNINGS, showOutput, type CommandContext } from '../command-context.ts';
import { openAnswer } from '../connection.ts';
import { readEvents } from '../event-reader.ts';
import { formatTime } from '../format.ts';
import { cleanText, formatTable } from '../table.ts';

export function addSystemCommands(program: Command, context: CommandContext): void {
  const system = program.command('system').description('the server itself');
  context.handle(context.leaf(system, 'health', 'whether the server is well'), async ({ api }) => {
    const health = await api.get<{ status: string }>('/health');
    return {
      document: health,
      text: `${health.status}\n`,
      exitStatus: health.status === 'ok' ? 0 : 3,
    };
  });
  context.handle(context.leaf(system, 'checks', 'what is well and what is not'), async ({ api }) => {
    const health = await api.get<HealthDetails>('/health/details');
    const rows = health.checks.map(({ name, status, text }) => [name, status, cleanText(text)]);
    return {
      document: health,
      text: formatTable(['CHECK', 'STATUS', ''], rows),
      exitStatus: { ok: 0, warning: EXIT_WARNINGS, critical: EXIT_FAILED }[health.status],
    };
  });
  context.handle(context.leaf(system, 'show', 'version, queue, workers'), async ({ api }) => {
    const view = await api.get<SystemView>('/system');
    return showOutput(view, [
      ['version', view.version],
      ['since', formatTime(view.startedAtMs)],
      ['queue', view.queue],
      ['workers', String(view.workers.length)],
      ['runs', String(view.activeRuns)],
      ['open holds', String(view.openHolds)],
      ['certificate', view.certificate?.fingerprint ?? '-'],
      ['it holds until', formatTime(view.certificate?.validUntilMs ?? null)],
    ]);
  });
  context.handle(context.leaf(system, 'metrics', 'numbers for a monitor, as OpenMetrics text'), async (call) => {
    const answer = await openAnswer(call.connection, { method: 'GET', path: '/metrics' });
    answer.setEncoding('utf8');
    for await (const piece of answer) context.terminal.output.write(piece as string);
    return null;
  });
  const openapi = context
    .leaf(system, 'openapi', 'the description of the API')
    .option('--output <file>', 'write it there');
  context.handle<{ output?: string }>(openapi, async ({ api, options }) => {
    const text = `${JSON.stringify(await api.get('/openapi.json'), null, 2)}\n`;
    if (options.output === undefined) context.terminal.output.write(text);
    else await writeFile(options.output, text);
    return null;
  });

  const events = context
    .leaf(program, 'events', 'what happens, one JSON line an event, until interrupted')
    .option('--run <id>', 'of one run only');
  context.handle<{ run?: string }>(events, async ({ connection, options }) => {
    for await (const event of readEvents(connection, options.run ?? null)) {
      context.terminal.output.write(`${JSON.stringify(event)}\n`);
    }
    return null;
  });
}
