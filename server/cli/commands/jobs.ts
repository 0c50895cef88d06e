import type { Command } from 'commander';
import type { JobOptions, JobRemoved, JobView } from '../../contract/api/job.schema.ts';
import type { RunView } from '../../contract/api/run.schema.ts';
import type { SelectionPreview } from '../../contract/api/selection.schema.ts';
import { AppError } from '../../errors/index.ts';
import {
  doneOutput,
  EXIT_WARNINGS,
  listOutput,
  showOutput,
  type Api,
  type CommandContext,
  type Output,
} from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { collect, oneOf, parseShare } from '../parse-options.ts';
import {
  collectDiskRules,
  collectMachineRules,
  describeSelection,
  toMachineRule,
  type RuleText,
} from '../parse-selection.ts';
import { collectThrottle, describeThrottle, toThrottle, type ThrottleInput } from '../parse-throttle.ts';
import { addWaitOptions, followRun, type WaitOptions } from '../run-output.ts';
import { cleanText } from '../table.ts';

interface ChangeOptions {
  name?: string;
  vm: string[];
  repository?: string;
  quiesce?: JobOptions['quiesce'];
  fullRead?: boolean;
  skipFreeSpace?: boolean;
  skipSwap?: boolean;
  verifySample?: number;
  excludeDisk: string[];
  nfs?: string;
  priority?: JobOptions['priority'];
  throttle?: ThrottleInput;
  throttleZone?: string;
  include: RuleText[];
  exclude: RuleText[];
  excludeVm: string[];
  excludeDisks: RuleText[];
}

export function addJobCommands(program: Command, context: CommandContext): void {
  const jobs = program.command('jobs').description('what is backed up where');
  context.handle(context.leaf(jobs, 'list', 'all jobs'), async ({ api }) =>
    listOutput(await api.get<JobView[]>('/jobs'), ['ID', 'NAME', 'VMS', 'LAST RUN', 'ENDED'], (job) => [
      job.id,
      job.name,
      String(job.machineIds.length),
      job.lastRun?.state ?? '-',
      formatTime(job.lastRun?.finishedAtMs ?? null),
    ]),
  );
  context.handle(context.leaf(jobs, 'show <job>', 'one job, by id or name'), async ({ api, args }) =>
    describe(api, await findNamed<JobView>(api, 'jobs', args[0] ?? '')),
  );
  const add = addChangeOptions(context.leaf(jobs, 'add <name>', 'make a job'));
  context.handle<ChangeOptions>(add, async ({ api, args, options }) => {
    if (options.repository === undefined || (options.vm.length === 0 && options.include.length === 0)) {
      throw new AppError('INPUT_INVALID', 'A job needs --repository and at least one --vm or --include.');
    }
    const machineIds = await findMachines(api, options.vm);
    const selection = await readSelection(api, options);
    const repository = await findNamed<Named>(api, 'repositories', options.repository);
    const job = await api.post<JobView>('/jobs', {
      name: args[0],
      machineIds,
      selection,
      repositoryId: repository.id,
      options: await readOptions(api, options, {}),
    });
    return describe(api, job);
  });
  const change = addChangeOptions(context.leaf(jobs, 'change <job>', 'change a job; what is not named stays')).option(
    '--name <name>',
    'new name',
  );
  context.handle<ChangeOptions>(change, async ({ api, args, options }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    const repository =
      options.repository === undefined ? null : await findNamed<Named>(api, 'repositories', options.repository);
    const changed = await api.put<JobView>(`/jobs/${job.id}`, {
      name: options.name ?? job.name,
      machineIds: options.vm.length === 0 ? job.machineIds : await findMachines(api, options.vm),
      selection: options.vm.length === 0 ? ((await readSelection(api, options)) ?? job.selection) : null,
      repositoryId: repository?.id ?? job.repositoryId,
      options: await readOptions(api, options, job.options),
      revision: job.revision,
    });
    return describe(api, changed);
  });
  const preview = addSelectionOptions(context.leaf(jobs, 'preview', 'VMs that rules of a job would select'));
  context.handle<ChangeOptions>(preview, async ({ api, options }) => {
    const selection = await readSelection(api, options);
    if (selection === null) throw new AppError('INPUT_INVALID', 'A preview needs at least one --include.');
    const view = await api.post<SelectionPreview>('/selections/preview', { selection });
    const { text = '' } = listOutput(view.machines, ['ID', 'NAME', 'SELECTED', 'DISKS LEFT OUT'], (machine) => [
      machine.machineId,
      machine.name,
      machine.selected ? 'yes' : 'no',
      machine.excludedDisks.join(', '),
    ]);
    return { document: view, text };
  });
  const remove = context
    .leaf(jobs, 'remove <job>', 'delete a job; its versions stay')
    .option('--versions <what>', 'keep them, or move them to the trash', oneOf(['keep', 'trash']), 'keep');
  context.handle<{ versions: 'keep' | 'trash' }>(remove, async ({ api, args, options: { versions } }) => {
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    const { trashed, failed } = await api.delete<JobRemoved>(`/jobs/${job.id}?versions=${versions}`);
    const fate = versions === 'keep' ? 'its versions stay' : `versions in the trash: ${trashed}`;
    const lines = failed.map(({ pointId, error }) => `${pointId} stays: ${error.message} ${error.hint ?? ''}`);
    return {
      ...doneOutput(
        { removed: job.id, versions, trashed, failed },
        [`Deleted ${cleanText(job.name)}; ${fate}.`, ...lines].join('\n'),
      ),
      ...(failed.length === 0 ? {} : { exitStatus: EXIT_WARNINGS }),
    };
  });
  const run = addWaitOptions(
    context
      .leaf(jobs, 'run <job>', 'back up now')
      .option('--full-read', 'read everything although a change map is there')
      .option('--vm <vm>', 'only this VM of the job (several times)', collect, []),
  );
  context.handle<WaitOptions & { fullRead?: boolean; vm: string[] }>(run, async (call) => {
    const { api, args, options } = call;
    const job = await findNamed<JobView>(api, 'jobs', args[0] ?? '');
    const started = await api.post<RunView>(`/jobs/${job.id}/run`, {
      fullRead: options.fullRead,
      ...(options.vm.length === 0 ? {} : { machineIds: await findMachines(api, options.vm) }),
    });
    return followRun(context, call, started);
  });
}

function addSelectionOptions(command: Command): Command {
  return command
    .option(
      '--include <rule>',
      'VMs by what they are like: "name=web-*", "path=[ds1] prod/*", "note=backup: daily", "host=esx1", ' +
        'joined by " & " (several times); new ones join',
      collectMachineRules,
      [],
    )
    .option('--exclude <rule>', 'but not these (several times)', collectMachineRules, [])
    .option('--exclude-vm <vm>', 'but not this VM (several times)', collect, [])
    .option(
      '--exclude-disks <rule>',
      'leave disks out: "datastore=swap", "key=scsi0:1 & machine=db*", "label=Hard disk 2" (several times)',
      collectDiskRules,
      [],
    );
}

async function readSelection(api: Api, options: ChangeOptions): Promise<object | null> {
  const rest = [options.exclude, options.excludeVm, options.excludeDisks];
  if (options.include.length === 0) {
    if (rest.every((one) => one.length === 0)) return null;
    throw new AppError('INPUT_INVALID', '--exclude, --exclude-vm and --exclude-disks need an --include.');
  }
  if (options.vm?.length > 0) throw new AppError('INPUT_INVALID', '--vm and --include do not go together.');
  const findHost = async (text: string): Promise<string> => (await findNamed<Named>(api, 'hosts', text)).id;
  return {
    include: await Promise.all(options.include.map((rule) => toMachineRule(rule, findHost))),
    exclude: await Promise.all(options.exclude.map((rule) => toMachineRule(rule, findHost))),
    excludeMachineIds: await findMachines(api, options.excludeVm),
    excludeDisks: options.excludeDisks,
  };
}

function addChangeOptions(command: Command): Command {
  return addSelectionOptions(command)
    .option('--vm <vm>', 'VM by id or name (several times)', collect, [])
    .option('--repository <repository>', 'where to store, by id or name')
    .option('--quiesce <mode>', 'try, require or off', oneOf(['try', 'require', 'off']))
    .option('--full-read', 'read everything although a change map is there')
    .option('--no-full-read', 'trust change maps')
    .option('--skip-free-space', 'leave out what the file systems of guests call free; it comes back as zeros')
    .option('--no-skip-free-space', 'keep free space as it is')
    .option('--skip-swap', 'leave out what swap areas and page files hold')
    .option('--no-skip-swap', 'keep swap areas and page files as they are')
    .option('--verify-sample <share>', 'share of unchanged areas to compare, 0 to 1', parseShare)
    .option('--exclude-disk <vm:key>', 'leave a disk out, like web:scsi0:1 (several times)', collect, [])
    .option('--nfs <server:share=path>', 'NFS folder of the NAS for staging, and its path here; "off": none')
    .option('--priority <priority>', 'high, normal or low', oneOf(['high', 'normal', 'low']))
    .option(
      '--throttle <limit>',
      'MB/s, like "mon-fri 08:00-18:00 10", "50" for all other times, or "off" (several times)',
      collectThrottle,
    )
    .option('--throttle-zone <zone>', 'time zone of these times like Europe/Berlin; else that of this machine');
}

async function findMachines(api: Api, texts: readonly string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const text of texts) ids.push((await findNamed<Named>(api, 'machines', text)).id);
  return ids;
}

async function readOptions(
  api: Api,
  options: ChangeOptions,
  before: Partial<JobOptions>,
): Promise<Partial<JobOptions>> {
  const excluded: Record<string, string[]> = { ...before.excludedDisks };
  for (const text of options.excludeDisk) {
    const [, vm, key] = /^(.+?):([a-z]+\d+:\d+)$/.exec(text) ?? [];
    if (vm === undefined || key === undefined) {
      throw new AppError('INPUT_INVALID', '--exclude-disk looks like VM:scsi0:1.');
    }
    const { id } = await findNamed<Named>(api, 'machines', vm);
    excluded[id] = [...new Set([...(excluded[id] ?? []), key])];
  }
  return {
    ...before,
    ...(options.quiesce === undefined ? {} : { quiesce: options.quiesce }),
    ...(options.fullRead === undefined ? {} : { fullRead: options.fullRead }),
    ...(options.skipFreeSpace === undefined ? {} : { skipFreeSpace: options.skipFreeSpace }),
    ...(options.skipSwap === undefined ? {} : { skipSwap: options.skipSwap }),
    ...(options.verifySample === undefined ? {} : { verifySample: options.verifySample }),
    ...(options.nfs === undefined ? {} : { nfsStaging: parseNfs(options.nfs) }),
    ...(options.priority === undefined ? {} : { priority: options.priority }),
    ...(options.throttle === undefined ? {} : { throttle: toThrottle(options.throttle, options.throttleZone) ?? null }),
    excludedDisks: excluded,
  };
}

function parseNfs(text: string): JobOptions['nfsStaging'] {
  if (text === 'off') return null;
  const [, server, share, localPath] = /^([^:]+):(\/[^=]+)=(\/.+)$/.exec(text) ?? [];
  if (server === undefined || share === undefined || localPath === undefined) {
    throw new AppError('INPUT_INVALID', '--nfs looks like nas.example:/volume1/staging=/volume1/staging.');
  }
  return { server, share, localPath };
}

function describeLeftOut({ skipFreeSpace, skipSwap }: JobOptions): string {
  const parts = [...(skipFreeSpace === true ? ['free space'] : []), ...(skipSwap === true ? ['swap'] : [])];
  return parts.length === 0 ? '-' : parts.join(', ');
}

async function describe(api: Api, job: JobView): Promise<Output> {
  const machines = await api.get<Named[]>('/machines');
  const names = job.machineIds.map((id) => machines.find((machine) => machine.id === id)?.name ?? id);
  return showOutput(job, [
    ['id', job.id],
    ['name', job.name],
    ['VMs', names.join(', ')],
    ['rules', job.selection === null ? '-' : cleanText(describeSelection(job.selection))],
    ['repository', job.repositoryId],
    ['priority', job.options.priority],
    ['throttle', describeThrottle(job.options.throttle)],
    ['quiesce', job.options.quiesce],
    ['full read', job.options.fullRead ? 'always' : 'when needed'],
    ['left out', describeLeftOut(job.options)],
    ['last run', job.lastRun === null ? '-' : `${job.lastRun.runId} ${job.lastRun.state}`],
  ]);
}
