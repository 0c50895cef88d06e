import { ProgressMeter, runBackup } from '../../backup/index.ts';
import type { WorkerResults } from '../../contract/task-result.ts';
import type { WorkerTask } from '../../contract/task.ts';
import { TASK_BYTES, type Processors, type Sealer, type TaskContext } from '../../queue/index.ts';
import { runExport, runRestore } from '../../restore/index.ts';
import type { RecallFolder } from '../../recall/index.ts';
import type { Clock, Logger } from '../../runtime/index.ts';
import type { IscsiAccess } from '../../source/index.ts';
import { placeRestoreTool } from '../place-restore-tool.ts';
import { SharedRepositories } from '../shared-repositories.ts';
import { changePoints } from './change-points.ts';
import { checkFolder } from './check-folder.ts';
import { probeHost, withHost } from './connect-host.ts';
import { copyVersions } from './copy-versions.ts';
import { listPoints } from './list-points.ts';
import { maintainFolder } from './maintain-folder.ts';
import { createWithKeys, manageKeys } from './repository-keys.ts';

interface Parts {
  sealer: Sealer;
  clock: Clock;
  logger: Logger;
  /** Null: hosts do not clone onto disks of this process. */
  iscsi: IscsiAccess | null;
  /** Null: all that is read of a disk is hashed. */
  recall: RecallFolder | null;
}

type TypedProcessors = {
  [Kind in WorkerTask['kind']]: (
    task: Extract<WorkerTask, { kind: Kind }>,
    context: TaskContext,
  ) => Promise<WorkerResults[Kind]>;
};

/** What a worker does for each kind of task: opens what is sealed, connects, and lets the engine work. */
export function createProcessors(parts: Parts): Processors {
  const { clock, logger, recall } = parts;
  const repositories = new SharedRepositories(parts);
  const processors: TypedProcessors = {
    probe: (task, context) => probeHost(parts, task, context),

    inventory: (task, context) =>
      withHost(parts, task, context, async (source) => ({
        machines: await source.listMachines(context.signal),
        datastores: await source.listDatastores(context.signal),
        networks: await source.listNetworks(context.signal),
        // Last: listing may have found out more.
        facts: source.facts,
      })),

    backup: ({ kind: _kind, address, facts, ...task }, context) =>
      repositories.use(task.repository, (repository) =>
        withHostOfRun(parts, { address, facts }, context, async (source) => {
          const hooks = { ...hooksOf(context), budget: context.budget, disksAtOnce: decideDisksAtOnce() };
          const result = await runBackup({ repository, source, clock, logger, recall }, task, hooks);
          // Of this version, which may be newer than the repository.
          await placeRestoreTool(task.repository.path, parts);
          return { ...result, facts: source.facts };
        }),
      ),

    restore: ({ kind: _kind, address, facts, ...task }, context) =>
      repositories.use(task.repository, (repository) =>
        withHostOfRun(parts, { address, facts }, context, async (source) => {
          const hooks = { ...hooksOf(context), budget: context.budget };
          const result = await runRestore({ repository, source, clock, logger }, task, hooks);
          return { ...result, facts: source.facts };
        }),
      ),

    export: ({ kind: _kind, ...task }, context) =>
      repositories.use(task.repository, (repository) =>
        runExport({ repository, clock, logger }, task, hooksOf(context)),
      ),

    // A sweep goes on to its end: what it removes must not be left half removed.
    sweep: (task, context) => withHost(parts, task, context, (source) => source.sweep(task.holds)),

    check: (task, context) =>
      repositories.use(task.repository, (repository) => checkFolder(repository, task.depth, context, clock)),

    maintenance: (task, context) =>
      repositories.use(task.repository, (repository) => maintainFolder(repository, task, context, clock)),

    'change-points': (task) =>
      repositories.use(task.repository, (repository) => changePoints(repository, task.pointIds, task.change)),

    copy: (task, context) =>
      repositories.use(task.repository, (source) =>
        repositories.use(task.target, async (target) => {
          const result = await copyVersions({ source, target }, task, context, clock);
          await placeRestoreTool(task.target.path, parts);
          return result;
        }),
      ),

    points: (task) => repositories.use(task.repository, listPoints),

    'create-repository': (task) => createWithKeys(parts, task),

    keys: (task) => manageKeys(parts, task),
  };
  return processors;
}

/** As `withHost`, and tells that the host is being connected to, and since when nothing comes of it. */
async function withHostOfRun<T>(...[parts, task, context, work]: Parameters<typeof withHost<T>>): Promise<T> {
  const meter = new ProgressMeter({ clock: parts.clock, emit: hooksOf(context).progress });
  try {
    meter.enter('connecting');
    return await withHost(parts, task, context, (source) => {
      meter.stop();
      return work(source);
    });
  } finally {
    meter.stop();
  }
}

/** Two disks hide each other's latency; where memory is short one at a time has to do. */
function decideDisksAtOnce(): number {
  return process.availableMemory() < 2 * TASK_BYTES ? 1 : 2;
}

function hooksOf(context: TaskContext): Parameters<typeof runBackup>[2] & Parameters<typeof runRestore>[2] {
  return {
    progress: (progress) => context.report({ kind: 'progress', progress }),
    log: (line) => context.report({ kind: 'log', line }),
    signal: context.signal,
  };
}
