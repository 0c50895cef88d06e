import { createHmac } from 'node:crypto';
import type { Command } from 'commander';
import type { JobHooksView, NewTrigger } from '../../contract/api/hook.schema.ts';
import type { JobView } from '../../contract/api/job.schema.ts';
import { systemClock } from '../../runtime/index.ts';
import { askSecret } from '../ask.ts';
import { doneOutput, showOutput, type CommandContext, type Output } from '../command-context.ts';
import { callApi } from '../connection.ts';
import { findNamed } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { parseInteger } from '../parse-options.ts';
import { cleanText } from '../table.ts';

export function addHookCommands(program: Command, context: CommandContext): void {
  const hooks = program.command('hooks').description('scripts around runs of a task, and addresses that start it');
  context.handle(context.leaf(hooks, 'show <job>', 'of one task'), async ({ api, args }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    return describe(await api.get<JobHooksView>(`/jobs/${job.id}/hooks`));
  });
  const scripts = context
    .leaf(hooks, 'scripts <job>', 'run files of the folder of scripts; what is not named is none')
    .option('--before <file>', 'before anything is done; when it fails, nothing is backed up')
    .option('--after <file>', 'after every end')
    .option('--timeout <minutes>', 'how long each may take', parseInteger(1, 720), 10);
  context.handle<{ before?: string; after?: string; timeout: number }>(scripts, async ({ api, args, options }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    const { before = null, after = null, timeout } = options;
    return describe(await api.put<JobHooksView>(`/jobs/${job.id}/scripts`, { before, after, timeoutMinutes: timeout }));
  });
  const trigger = context.leaf(
    hooks,
    'trigger <job>',
    'make an address that starts the task; shows its secret, this once',
  );
  context.handle(trigger, async ({ api, args }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    const made = await api.post<NewTrigger>(`/jobs/${job.id}/trigger`, {});
    return showOutput(made, [
      ['path', made.path],
      ['secret', made.secret],
    ]);
  });
  context.handle(context.leaf(hooks, 'remove-trigger <job>', 'end that address'), async ({ api, args }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    await api.delete(`/jobs/${job.id}/trigger`);
    return doneOutput({ removed: job.id }, `${cleanText(job.name)} cannot be started by an address any more.`);
  });
  const call = context.leaf(hooks, 'call <id>', 'start a task by its address, with the secret in DOZO_TRIGGER_SECRET');
  context.handle(call, async ({ connection, args }) => {
    const secret = await askSecret(context.terminal, {
      question: 'Secret: ',
      fromInput: false,
      environment: 'DOZO_TRIGGER_SECRET',
      variables: context.environment,
    });
    const seconds = Math.floor(systemClock.nowMs() / 1000);
    const signature = createHmac('sha256', secret).update(`${seconds}.{}`).digest('hex');
    const answer = await callApi(connection, {
      method: 'POST',
      path: `/triggers/${args[0] ?? ''}`,
      body: {},
      headers: { 'x-dozo-timestamp': String(seconds), 'x-dozo-signature': `v1=${signature}` },
    });
    return doneOutput(answer, `Started the run ${(answer as { runId: string }).runId}.`);
  });
}

function describe(hooks: JobHooksView): Output {
  const { scripts, trigger, scriptsAllowed, availableScripts } = hooks;
  return showOutput(hooks, [
    ['scripts', scriptsAllowed ? `allowed: ${availableScripts.join(', ')}` : 'switched off'],
    ['before', scripts.before ?? '-'],
    ['after', scripts.after ?? '-'],
    ['timeout', `${scripts.timeoutMinutes} minutes`],
    ['trigger', trigger === null ? 'none' : trigger.path],
    ['last used', formatTime(trigger?.usedAtMs ?? null)],
  ]);
}
