import { setTimeout as delay } from 'node:timers/promises';
import { HostFault } from '../hostd/fault.ts';
import type { Host } from '../hostd/host.ts';
import type { LabTask, Snapshot } from '../hostd/protocol.ts';
import type { VirtualMachine } from '../hostd/virtual-machine.ts';
import type { Command, Invocation } from './command.ts';
import { addNfs, removeDatastore } from './nfs-mounts.ts';
import {
  datastoreSummary,
  vmConfig,
  vmDevices,
  vmFileLayout,
  vmGuest,
  vmSnapshotInfo,
  vmSummary,
} from './vim-dumps.ts';
import { array, dump, object, reference, UNSET } from './vmodl-dump.ts';

type Handler = (host: Host, call: Invocation, args: string[]) => Promise<number> | number;

/** Fails with the text that vim-cmd prints. */
class CommandFailed extends Error {}

export const vimCmd: Command = async (host, call) => {
  const { vimCmdDelayMs } = host.switches;
  if (vimCmdDelayMs > 0) await delay(vimCmdDelayMs);
  while (host.switches.hang && !call.signal.aborted) await delay(50);
  if (host.switches.role !== 'administrator') {
    call.err('Permission to perform this operation was denied.\n');
    return 1;
  }
  const [name, ...args] = call.args;
  if (name === undefined || name === '-h' || name === 'help') {
    call.out(
      'Commands available under /:\nhbrsvc/       internalsvc/  solo/         vmsvc/        \nhostsvc/      proxysvc/     vimsvc/       help          \n',
    );
    return 0;
  }
  const handler = HANDLERS[name];
  if (handler === undefined) {
    call.out(`Invalid command '${name}'.\n`);
    return 1;
  }
  try {
    return await handler(host, call, args);
  } catch (error) {
    if (error instanceof CommandFailed) {
      call.out(error.message + '\n');
      return 1;
    }
    if (error instanceof HostFault) {
      call.out(describeFault(error));
      return 1;
    }
    throw error;
  }
};

function describeFault(error: HostFault): string {
  const { type, message, messages } = error.detail;
  const lines = [
    `(vim.fault.${type}) {`,
    `   faultCause = (vmodl.MethodFault) null, `,
    messages.length === 0
      ? '   faultMessage = <unset>'
      : '   faultMessage = (vmodl.LocalizableMessage) [\n' +
        messages
          .map(
            ({ key, message: text }) =>
              `      (vmodl.LocalizableMessage) {\n         key = "${key}", \n         arg = <unset>, \n         message = "${text}"\n      }`,
          )
          .join(', \n') +
        '\n   ]',
    `   msg = "${message}"`,
    '}',
  ];
  return lines.join('\n') + '\n';
}

function machine(host: Host, args: readonly string[]): VirtualMachine {
  const id = args[0];
  if (id === undefined) throw new CommandFailed('Insufficient arguments.');
  const vm = /^\d+$/.test(id) ? host.vm(Number(id)) : undefined;
  if (vm === undefined) throw new CommandFailed(`Unable to find a VM corresponding to "${id}"`);
  return vm;
}

const USAGE_SNAPSHOT_REMOVE = `Usage: snapshot.remove vmid snapshotId [removeChildren]

Remove the snapshot.
`;

const HANDLERS: Record<string, Handler> = {
  'vmsvc/getallvms': (host, call) => {
    call.out(allMachines(host));
    return 0;
  },
  'vmsvc/power.getstate': (host, call, args) => {
    const { power } = machine(host, args);
    const text = { poweredOn: 'Powered on', poweredOff: 'Powered off', suspended: 'Suspended' }[power];
    call.out(`Retrieved runtime info\n${text}\n`);
    return 0;
  },
  'vmsvc/power.on': async (host, call, args) => {
    const vm = machine(host, args);
    call.out('Powering on VM:\n');
    return power(call, () => vm.startPowerOn(), 'Power on failed');
  },
  'vmsvc/power.off': async (host, call, args) => {
    const vm = machine(host, args);
    call.out('Powering off VM:\n');
    return power(call, () => vm.startPowerOff(false), 'Power off failed');
  },
  'vmsvc/power.reset': async (host, call, args) => {
    const vm = machine(host, args);
    call.out('Reset VM:\n');
    return power(call, () => vm.startReset(), 'Reset failed');
  },
  'vmsvc/power.suspend': async (host, call, args) => {
    const vm = machine(host, args);
    call.out('Suspending VM:\n');
    return power(call, () => vm.startSuspend(), 'Suspend failed');
  },
  'vmsvc/power.shutdown': (host, _call, args) => {
    machine(host, args).startPowerOff(true);
    return 0;
  },
  'vmsvc/get.summary': (host, call, args) => {
    call.out(`Listsummary:\n\n${dump(vmSummary(machine(host, args).toState()))}\n`);
    return 0;
  },
  'vmsvc/get.config': (host, call, args) => {
    call.out(`Configuration:\n\n${dump(vmConfig(machine(host, args).toState(), host))}\n`);
    return 0;
  },
  'vmsvc/get.filelayout': (host, call, args) => {
    call.out(`File Layout:\n\n${dump(vmFileLayout(machine(host, args).toState()))}\n`);
    return 0;
  },
  'vmsvc/get.guest': (host, call, args) => {
    call.out(`Guest information:\n\n${dump(vmGuest(machine(host, args).toState()))}\n`);
    return 0;
  },
  'vmsvc/get.snapshotinfo': (host, call, args) => {
    call.out(`Get Snapshot:\n\n${dump(vmSnapshotInfo(machine(host, args).toState()))}\n`);
    return 0;
  },
  'vmsvc/device.getdevices': (host, call, args) => {
    call.out(`Devices:\n\n${dump(vmDevices(machine(host, args).toState(), host))}\n`);
    return 0;
  },
  'vmsvc/get.runtime': (host, call, args) => {
    const state = machine(host, args).toState();
    call.out(
      `Runtime information\n\n${dump(
        object('vim.vm.RuntimeInfo', {
          host: reference('vim.HostSystem', 'ha-host'),
          connectionState: 'connected',
          powerState: state.powerState,
          consolidationNeeded: state.consolidationNeeded,
          question: state.question === null ? { null: 'vim.vm.QuestionInfo' } : state.question.id,
        }),
      )}\n`,
    );
    return 0;
  },
  'vmsvc/get.tasklist': (host, call, args) => {
    const vm = machine(host, args);
    const tasks = host.tasks.list().filter((task) => task.entity.value === String(vm.id) && task.state === 'running');
    call.out(`(ManagedObjectReference) ${dumpTasks(tasks)}\n`);
    return 0;
  },
  'vimsvc/task_list': (host, call) => {
    call.out(`(ManagedObjectReference) ${dumpTasks(host.tasks.list())}\n`);
    return 0;
  },
  'vimsvc/task_info': (host, call, args) => {
    const id = (args[0] ?? '').replace(/^'?(vim\.Task:)?|'$/g, '');
    const task = host.tasks.list().find((candidate) => candidate.id === id);
    if (task === undefined) throw new CommandFailed(`Unable to find task with id "${id}".`);
    call.out(`${dump(taskInfo(task))}\n`);
    return 0;
  },
  'vmsvc/reload': (host, _call, args) => {
    machine(host, args).reload();
    return 0;
  },
  'vmsvc/unregister': (host, _call, args) => {
    host.unregister(machine(host, args));
    return 0;
  },
  'vmsvc/destroy': async (host, _call, args) => {
    const vm = machine(host, args);
    await vm.startDestroy(() => host.forget(vm)).done;
    return 0;
  },
  'solo/registervm': (host, call, args) => {
    const [path, name] = args;
    if (path === undefined) throw new CommandFailed('Insufficient arguments.');
    call.out(`${host.register(path, name, call.folder).id}\n`);
    return 0;
  },
  'vmsvc/message': (host, call, args) => {
    const vm = machine(host, args);
    const { question } = vm;
    const [, id, choice] = args;
    if (id !== undefined && choice !== undefined) {
      vm.answer(id, choice);
      return 0;
    }
    if (question === null) {
      call.out('No message.\n');
      return 0;
    }
    const choices = question.choices.map(
      ({ key, label, summary }, index) =>
        `${key}. ${label} (${summary})${index === question.defaultIndex ? ' [default]' : ''}`,
    );
    call.out(
      `Virtual machine message ${question.id}:\n${question.messageId}:${question.text}\n${choices.join('\n')}\n`,
    );
    return 0;
  },
  'vmsvc/snapshot.create': async (host, call, args) => {
    const vm = machine(host, args);
    const [, name = '', description = '', memory = '0', quiesce = '0'] = args;
    call.out('Create Snapshot:\n');
    const request = { name, description, memory: isTrue(memory), quiesce: isTrue(quiesce) };
    try {
      await untilEnd(call, vm.startCreateSnapshot(request).done);
    } catch (error) {
      if (!(error instanceof HostFault)) throw error;
      call.out('Create snapshot failed\n' + reasons(error));
      return 1;
    }
    return 0;
  },
  'vmsvc/snapshot.get': (host, call, args) => {
    const { snapshots } = machine(host, args).toState();
    call.out('Get Snapshot:\n');
    if (snapshots !== null) for (const root of snapshots.roots) call.out(snapshotText(root, 0));
    return 0;
  },
  'vmsvc/snapshot.remove': async (host, call, args) => {
    if (args.length < 2) {
      call.out('Insufficient arguments.\n' + USAGE_SNAPSHOT_REMOVE);
      return 1;
    }
    const vm = machine(host, args);
    call.out('Remove Snapshot:\n');
    const id = Number(args[1]);
    try {
      const { done } = vm.startRemoveSnapshot(id, isTrue(args[2] ?? '0'));
      if (host.switches.snapshotRemove !== 'early') await untilEnd(call, done);
    } catch (error) {
      if (!(error instanceof HostFault)) throw error;
      call.out('Remove snapshot failed\n' + reasons(error));
      return 1;
    }
    return 0;
  },
  'vmsvc/snapshot.removeall': async (host, call, args) => {
    const vm = machine(host, args);
    call.out('Remove All Snapshots:\n');
    try {
      const { done } = vm.startRemoveAllSnapshots();
      if (host.switches.snapshotRemove !== 'early') await untilEnd(call, done);
    } catch (error) {
      if (!(error instanceof HostFault)) throw error;
      call.out('Remove all snapshots failed\n' + reasons(error));
      return 1;
    }
    return 0;
  },
  'vmsvc/snapshot.revert': async (host, call, args) => {
    const vm = machine(host, args);
    call.out('Revert Snapshot:\n');
    await untilEnd(call, vm.startRevert(Number(args[1])).done);
    return 0;
  },
  'hostsvc/datastore/listsummary': (host, call) => {
    const items = host.state().datastores.map((store) => datastoreSummary(store));
    call.out(`${dump(array('vim.Datastore.Summary', items))}\n`);
    return 0;
  },
  'hostsvc/datastore/info': (host, call, args) => {
    const store = host.state().datastores.find(({ name, uuid }) => name === args[0] || uuid === args[0]);
    if (store === undefined) throw new CommandFailed(`Invalid datastore name: '${args[0] ?? ''}'.`);
    const block = store.type === 'VMFS-6' ? 1 : store.type === 'VMFS-5' ? 1 : null;
    call.out(
      `${dump(
        object('vim.host.DatastoreBrowser.Info', {
          summary: datastoreSummary(store),
          info: object(store.nfs === null ? 'vim.host.VmfsDatastoreInfo' : 'vim.host.NasDatastoreInfo', {
            name: store.name,
            url: store.url,
            freeSpace: store.freeBytes,
            maxFileSize: 70368744177664,
            ...(store.nfs === null
              ? {
                  vmfs: object('vim.host.VmfsVolume', {
                    type: 'VMFS',
                    name: store.name,
                    capacity: store.capacityBytes,
                    blockSizeMb: block ?? 1,
                    version: store.type === 'VMFS-6' ? '6.82' : '5.81',
                    uuid: store.uuid,
                  }),
                }
              : {
                  nas: object('vim.host.NasVolume', {
                    type: 'NFS',
                    name: store.name,
                    capacity: store.capacityBytes,
                    remoteHost: store.nfs.host,
                    remotePath: store.nfs.share,
                  }),
                }),
          }),
        }),
      )}\n`,
    );
    return 0;
  },
  'hostsvc/datastore/nas_create': async (host, call, args) => {
    // NAME TYPE PATH READONLY HOST on newer hosts, NAME HOST PATH READONLY on older ones.
    const [name = '', second = '', share = '', readOnly = '0', server] = args;
    const failed = await addNfs(host, { name, server: server ?? second, share, isReadOnly: isTrue(readOnly) });
    if (failed !== null) {
      call.out(`(vim.fault.PlatformConfigFault) {\n   msg = "${failed}"\n}\n`);
      return 1;
    }
    return 0;
  },
  'hostsvc/datastore/destroy': async (host, call, args) => {
    const failed = await removeDatastore(host, args[0] ?? '');
    if (failed !== null) {
      call.out(`${failed}\n`);
      return 1;
    }
    return 0;
  },
  'hostsvc/autostartmanager/get_autostartseq': (host, call) => {
    const entries = [...host.autostart].map(([id, { startOrder, startAction }]) =>
      object('vim.host.AutoStartManager.AutoPowerInfo', {
        key: reference('vim.VirtualMachine', id),
        startOrder,
        startDelay: -1,
        waitForHeartbeat: 'systemDefault',
        startAction,
        stopDelay: -1,
        stopAction: 'systemDefault',
      }),
    );
    call.out(`${dump(array('vim.host.AutoStartManager.AutoPowerInfo', entries))}\n`);
    return 0;
  },
  'hostsvc/enable_ssh': () => 0,
  'hostsvc/start_ssh': () => 0,
  'hostsvc/hostsummary': (host, call) => {
    const { about } = host;
    call.out(
      `${dump(
        object('vim.host.Summary', {
          host: reference('vim.HostSystem', 'ha-host'),
          config: object('vim.host.Summary.ConfigSummary', {
            name: host.hostName,
            product: object('vim.AboutInfo', { ...about }),
          }),
        }),
      )}\n`,
    );
    return 0;
  },
  'hostsvc/hosthardware': (host, call) => {
    call.out(
      `${dump(object('vim.host.HardwareInfo', { systemInfo: object('vim.host.SystemInfo', { vendor: 'Lab', model: 'Lab', uuid: host.uuid }) }))}\n`,
    );
    return 0;
  },
  'vimsvc/license': (host, call) => {
    const { license } = host.state();
    call.out(
      `[200] License:\n   serial: ${license.licenseKey}\n   vmodl key: ${license.editionKey}\n   name: ${license.name}\n`,
    );
    return 0;
  },
};

function isTrue(text: string): boolean {
  return text === '1' || text.toLowerCase() === 'true';
}

/** A command whose process is gone is not waited for; its task goes on. */
async function untilEnd(call: Invocation, done: Promise<unknown>): Promise<void> {
  await Promise.race([
    done,
    new Promise<void>((resolve) => {
      call.signal.addEventListener('abort', () => resolve(), { once: true });
    }),
  ]);
}

async function power(call: Invocation, start: () => { done: Promise<unknown> }, failure: string): Promise<number> {
  try {
    await untilEnd(call, start().done);
    return 0;
  } catch (error) {
    if (!(error instanceof HostFault)) throw error;
    call.out(`${failure}\n`);
    return 1;
  }
}

function reasons(error: HostFault): string {
  const { messages, message } = error.detail;
  return [message, ...messages.map(({ message: text }) => text)].map((text) => `${text}\n`).join('');
}

function allMachines(host: Host): string {
  const header = { id: 'Vmid', name: 'Name', file: 'File', guest: 'Guest OS', version: 'Version', note: 'Annotation' };
  const rows = host
    .vms()
    .filter((vm) => vm.isValid)
    .map((vm) => vm.toState())
    .sort((a, b) => (String(a.id) < String(b.id) ? -1 : 1))
    .map((vm) => ({
      id: String(vm.id),
      name: vm.name,
      file: vm.vmxPath,
      guest: vm.guestId,
      version: vm.hardwareVersion,
      note: vm.annotation,
    }));
  const width = (key: keyof typeof header, least: number) =>
    Math.max(least, ...[header, ...rows].map((row) => row[key].length));
  const widths = {
    id: width('id', 4),
    name: width('name', 4),
    file: width('file', 4),
    guest: width('guest', 8),
    version: width('version', 7),
  };
  const line = (row: typeof header) =>
    `${row.id.padEnd(widths.id)}   ${row.name.padEnd(widths.name)}   ${row.file.padEnd(widths.file)}   ` +
    `${row.guest.padEnd(widths.guest)}   ${row.version.padEnd(widths.version)}   ${row.note}`;
  const centred = {
    ...header,
    name: header.name.padStart(Math.floor((widths.name + 4) / 2)),
    file: header.file.padStart(Math.floor((widths.file + 4) / 2)),
  };
  const invalid = host.vms().filter((vm) => !vm.isValid);
  return (
    [centred, ...rows].map((row) => line(row)).join('\n') +
    '\n' +
    invalid.map((vm) => `Skipping invalid VM '${vm.id}'\n`).join('')
  );
}

function snapshotText(snapshot: Snapshot, depth: number): string {
  const dashes = '--'.repeat(depth);
  const created = new Date(snapshot.createTimeMs);
  const date = `${created.getUTCMonth() + 1}/${created.getUTCDate()}/${created.getUTCFullYear()}`;
  const time = `${created.getUTCHours()}:${created.getUTCMinutes()}:${created.getUTCSeconds()}`;
  const state = { poweredOn: 'powered on', poweredOff: 'powered off', suspended: 'suspended' }[snapshot.state];
  return (
    `${dashes}|-${depth === 0 ? 'ROOT' : 'CHILD'}\n` +
    `${dashes}--Snapshot Name        : ${snapshot.name}\n` +
    `${dashes}--Snapshot Id        : ${snapshot.id}\n` +
    `${dashes}--Snapshot Desciption  : ${snapshot.description}\n` +
    `${dashes}--Snapshot Created On  : ${date} ${time}\n` +
    `${dashes}--Snapshot State       : ${state}\n` +
    snapshot.children.map((child) => snapshotText(child, depth + 1)).join('')
  );
}

function dumpTasks(tasks: readonly LabTask[]): string {
  if (tasks.length === 0) return '[]';
  return `[\n${tasks.map((task) => `   'vim.Task:${task.id}'`).join(', \n')}\n]`;
}

function taskInfo(task: LabTask) {
  return object('vim.TaskInfo', {
    key: task.id,
    task: reference('vim.Task', task.id),
    name: task.descriptionId,
    descriptionId: task.descriptionId,
    entity: reference(`vim.${task.entity.type}`, task.entity.value),
    entityName: task.entity.name,
    state: task.state,
    cancelled: false,
    cancelable: false,
    error:
      task.fault === null
        ? { null: 'vmodl.MethodFault' }
        : object(`vim.fault.${task.fault.type}`, {
            faultCause: { null: 'vmodl.MethodFault' },
            msg: task.fault.message,
          }),
    result: task.result === null ? UNSET : task.result,
    progress: task.progress ?? UNSET,
    queueTime: new Date(task.queuedAtMs).toISOString(),
    startTime: task.startedAtMs === null ? UNSET : new Date(task.startedAtMs).toISOString(),
    completeTime: task.endedAtMs === null ? UNSET : new Date(task.endedAtMs).toISOString(),
  });
}
