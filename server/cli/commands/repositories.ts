import type { Command } from 'commander';
import type {
  RepositoryMaintenanceView,
  RepositorySpace,
  RepositoryUsage,
  RepositoryView,
} from '../../contract/api/repository.schema.ts';
import type { RunView } from '../../contract/api/run.schema.ts';
import { CHECK_DEPTHS } from '../../contract/run.ts';
import { formatBytes } from '../../runtime/index.ts';
import { doneOutput, listOutput, showOutput, type CommandContext, type Output } from '../command-context.ts';
import { findNamed } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { oneOf, parseInteger, parseSize } from '../parse-options.ts';
import { addWaitOptions, followRun, type WaitOptions } from '../run-output.ts';
import { cleanText } from '../table.ts';
import {
  addKeyInput,
  addRepositoryKeyCommands,
  askKey,
  askNewPassphrase,
  describeRecoveryKey,
  type KeyInputOptions,
} from './repository-keys.ts';

export function addRepositoryCommands(program: Command, context: CommandContext): void {
  const repositories = program.command('repositories').alias('repos').description('where versions are stored');
  context.handle(context.leaf(repositories, 'list', 'all repositories'), async ({ api }) =>
    listOutput(
      await api.get<RepositoryView[]>('/repositories'),
      ['ID', 'NAME', 'PATH', 'VERSIONS', 'STORED', 'STATE'],
      (repository) => [
        repository.id,
        repository.name,
        repository.path,
        String(repository.stats?.points ?? '-'),
        repository.stats === null ? '-' : formatBytes(repository.stats.storedBytes),
        repository.error?.code ?? 'ok',
      ],
    ),
  );
  const one = (usage: string, description: string, act: (id: string) => [string, string] | null): void => {
    context.handle(context.leaf(repositories, `${usage} <repository>`, description), async ({ api, args }) => {
      const repository = await findNamed<RepositoryView>(api, 'repositories', args[0] ?? '');
      const action = act(repository.id);
      return describe(action === null ? repository : await api.post<RepositoryView>(action[1], {}));
    });
  };
  one('show', 'one repository, by id or name', () => null);
  one('refresh', 'look what it holds now', (id) => ['post', `/repositories/${id}/refresh`]);

  context.handle(
    context.leaf(repositories, 'space <repository>', 'how much room is left where it lies'),
    async ({ api, args }) => {
      const repository = await findNamed<RepositoryView>(api, 'repositories', args[0] ?? '');
      return describeSpace(await api.get(`/repositories/${repository.id}/space`));
    },
  );

  const usage = context
    .leaf(repositories, 'usage <repository>', 'what the versions of each machine have added to it, most first')
    .option('--limit <number>', 'at most so many', parseInteger(1, 1000), 100);
  context.handle<{ limit: number }>(usage, async ({ api, args, options }) => {
    const repository = await findNamed<RepositoryView>(api, 'repositories', args[0] ?? '');
    return describeUsage(await api.get(`/repositories/${repository.id}/usage`, { limit: options.limit }));
  });

  const create = addKeyInput(
    context
      .leaf(repositories, 'create <name> <path>', 'make one in an empty or new folder of the NAS')
      .option('--chunk-size <bytes>', '64K to 1M, a power of two (256K)', parseSize)
      .option('--encrypted', 'encrypt everything in it with a passphrase'),
  );
  context.handle<KeyInputOptions & { chunkSize?: number; encrypted?: boolean }>(
    create,
    async ({ api, args, options }) => {
      const made = await api.post<RepositoryView & { recoveryKey: string | null }>('/repositories', {
        name: args[0],
        path: args[1],
        chunkSizeBytes: options.chunkSize,
        passphrase: options.encrypted === true ? await askNewPassphrase(context, options) : undefined,
      });
      const output = describe(made);
      return { ...output, text: [output.text, ...describeRecoveryKey(made.recoveryKey)].join('\n') };
    },
  );
  const adopt = addKeyInput(
    context
      .leaf(repositories, 'adopt <name> <path>', 'take up one that is there, with its versions')
      .option('--encrypted', 'ask for its passphrase or recovery key'),
  );
  context.handle<KeyInputOptions & { encrypted?: boolean }>(adopt, async ({ api, args, options }) => {
    const question = 'Passphrase, or the 24 words of the recovery key: ';
    const key = options.encrypted === true ? await askKey(context, options, question) : undefined;
    return describe(await api.post<RepositoryView>('/repositories/adopt', { name: args[0], path: args[1], key }));
  });
  addRepositoryKeyCommands(repositories, context);
  const change = context
    .leaf(repositories, 'change <repository>', 'change name or path')
    .option('--name <name>', 'new name')
    .option('--path <path>', 'where its files were moved to');
  context.handle<{ name?: string; path?: string }>(change, async ({ api, args, options: { name, path } }) => {
    const repository = await findNamed<RepositoryView>(api, 'repositories', args[0] ?? '');
    return describe(await api.patch<RepositoryView>(`/repositories/${repository.id}`, { name, path }));
  });
  context.handle(
    context.leaf(repositories, 'remove <repository>', 'forget one; its files stay'),
    async ({ api, args }) => {
      const repository = await findNamed<RepositoryView>(api, 'repositories', args[0] ?? '');
      await api.delete(`/repositories/${repository.id}`);
      return doneOutput({ removed: repository.id }, `Forgot ${cleanText(repository.name)}; its files stay.`);
    },
  );
  context.handle(
    context.leaf(repositories, 'maintenance <repository>', 'when it was and will be maintained, what is in its trash'),
    async ({ api, args }) => {
      const repository = await findNamed<RepositoryView>(api, 'repositories', args[0] ?? '');
      return describeMaintenance(await api.get(`/repositories/${repository.id}/maintenance`));
    },
  );
  const maintain = addWaitOptions(
    context.leaf(repositories, 'maintain <repository>', 'apply retention, empty the trash of what is over, free room'),
  );
  context.handle<WaitOptions>(maintain, async (call) => {
    const repository = await findNamed<RepositoryView>(call.api, 'repositories', call.args[0] ?? '');
    return followRun(context, call, await call.api.post<RunView>(`/repositories/${repository.id}/maintenance`, {}));
  });
  const copy = addWaitOptions(
    context
      .leaf(repositories, 'copy <repository> <target>', 'copy versions into another one: only what is missing there')
      .option('--point <id...>', 'only these versions'),
  );
  context.handle<WaitOptions & { point?: string[] }>(copy, async (call) => {
    const { api, args, options } = call;
    const source = await findNamed<RepositoryView>(api, 'repositories', args[0] ?? '');
    const target = await findNamed<RepositoryView>(api, 'repositories', args[1] ?? '');
    const run = await api.post<RunView>(`/repositories/${source.id}/copies`, {
      targetId: target.id,
      pointIds: options.point,
    });
    return followRun(context, call, run);
  });
  const check = addWaitOptions(
    context
      .leaf(repositories, 'check <repository>', 'start a check')
      .option('--depth <depth>', 'structure, checksums or hashes', oneOf(CHECK_DEPTHS), 'structure'),
  );
  context.handle<WaitOptions & { depth: string }>(check, async (call) => {
    const repository = await findNamed<RepositoryView>(call.api, 'repositories', call.args[0] ?? '');
    const run = await call.api.post<RunView>(`/repositories/${repository.id}/check`, { depth: call.options.depth });
    return followRun(context, call, run);
  });
}

function describeMaintenance(maintenance: RepositoryMaintenanceView): Output {
  const { activeRunId, lastRun, nextAtMs, isWaiting, trash, verification } = maintenance;
  return showOutput(maintenance, [
    ['at work', activeRunId ?? 'no'],
    ['last', lastRun === null ? '-' : `${lastRun.state}, ${formatTime(lastRun.finishedAtMs)}`],
    ['next', formatTime(nextAtMs)],
    ['waits for runs', isWaiting ? 'yes' : 'no'],
    ['in the trash', String(trash.points)],
    ['first gone after', formatTime(trash.nextPurgeAtMs)],
    [
      'read again',
      verification === null
        ? '-'
        : `${formatBytes(verification.verifiedBytes)} of ${formatBytes(verification.totalBytes)}`,
    ],
    ['whole store read by', formatTime(verification?.lastRoundEndedAtMs ?? null)],
  ]);
}

function describeSpace(space: RepositorySpace): Output {
  const size = (bytes: number | null): string => (bytes === null ? '-' : formatBytes(bytes));
  return showOutput(space, [
    ['free', size(space.freeBytes)],
    ['of', size(space.totalBytes)],
  ]);
}

function describeUsage(usage: RepositoryUsage): Output {
  const { text } = listOutput(
    usage.machines,
    ['MACHINE', 'NAME', 'VERSIONS', 'IN THE TRASH', 'DISKS', 'ADDED', 'LAST'],
    (machine) => [
      machine.machineId,
      machine.name,
      String(machine.versions),
      String(machine.trashed),
      formatBytes(machine.sizeBytes),
      formatBytes(machine.addedBytes),
      formatTime(machine.lastAtMs),
    ],
  );
  return { document: usage, text };
}

function describe(repository: RepositoryView): Output {
  const { stats } = repository;
  const size = (bytes: number | undefined): string => (bytes === undefined ? '-' : formatBytes(bytes));
  return showOutput(repository, [
    ['id', repository.id],
    ['name', repository.name],
    ['path', repository.path],
    ['encrypted', repository.encrypted ? 'yes' : 'no'],
    ['versions', String(stats?.points ?? '-')],
    ['disks of all versions', stats === null ? '-' : formatBytes(stats.nominalBytes)],
    ['stored', stats === null ? '-' : formatBytes(stats.storedBytes)],
    ['not read', size(stats?.reduction?.unreadBytes)],
    ['left out', size(stats?.reduction?.skippedBytes)],
    ['zeros', size(stats?.reduction?.zeroBytes)],
    ['known already', size(stats?.reduction?.duplicateBytes)],
    ['saved by compression', size(stats?.reduction?.compressedBytes)],
    ['last check', repository.lastCheck === null ? '-' : repository.lastCheck.state],
    ['seen', formatTime(repository.seenAtMs)],
    ['state', repository.error === null ? 'ok' : `${repository.error.code}: ${repository.error.message}`],
  ]);
}
