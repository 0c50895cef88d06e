import type { Host } from '../hostd/host.ts';
import type { Datastore, DiskDevice, Snapshot, VirtualMachine } from '../hostd/protocol.ts';
import { array, object, reference, UNSET, type DumpObject, type DumpValue } from './vmodl-dump.ts';

export function vmSummary(vm: VirtualMachine): DumpObject {
  const committed = vm.layout.reduce((sum, file) => sum + file.uniqueSizeBytes, 0);
  return object('vim.vm.Summary', {
    vm: reference('vim.VirtualMachine', vm.id),
    runtime: object('vim.vm.RuntimeInfo', {
      device: UNSET,
      host: reference('vim.HostSystem', 'ha-host'),
      connectionState: vm.valid ? 'connected' : 'invalid',
      powerState: vm.powerState,
      toolsInstallerMounted: false,
      suspendTime: UNSET,
      bootTime: vm.bootTimeMs === null ? UNSET : new Date(vm.bootTimeMs).toISOString(),
      question:
        vm.question === null
          ? { null: 'vim.vm.QuestionInfo' }
          : object('vim.vm.QuestionInfo', { id: vm.question.id, text: vm.question.text }),
      consolidationNeeded: vm.consolidationNeeded,
      cleanPowerOff: UNSET,
    }),
    guest: object('vim.vm.Summary.GuestSummary', {
      guestId: { null: 'string' },
      guestFullName: { null: 'string' },
      toolsStatus: vm.tools.status,
      toolsVersionStatus2: vm.tools.versionStatus2,
      toolsRunningStatus: vm.tools.runningStatus,
      hostName: { null: 'string' },
      ipAddress: { null: 'string' },
    }),
    config: object('vim.vm.Summary.ConfigSummary', {
      name: vm.name,
      template: false,
      vmPathName: vm.vmxPath,
      memorySizeMB: vm.memoryMib,
      numCpu: vm.cpus,
      numEthernetCards: vm.nics.length,
      numVirtualDisks: vm.disks.length,
      uuid: vm.biosUuid ?? UNSET,
      instanceUuid: vm.instanceUuid ?? UNSET,
      guestId: vm.guestId,
      guestFullName: vm.guestFullName,
      annotation: vm.annotation,
    }),
    storage: object('vim.vm.Summary.StorageSummary', {
      committed,
      uncommitted: Math.max(0, vm.disks.reduce((sum, disk) => sum + disk.capacityBytes, 0) - committed),
      unshared: committed,
      timestamp: new Date().toISOString(),
    }),
    overallStatus: 'green',
    customValue: UNSET,
  });
}

export function vmConfig(vm: VirtualMachine, host: Host): DumpObject {
  return object('vim.vm.ConfigInfo', {
    changeVersion: new Date().toISOString(),
    modified: '1970-01-01T00:00:00Z',
    name: vm.name,
    guestFullName: vm.guestFullName,
    version: vm.hardwareVersion,
    uuid: vm.biosUuid ?? UNSET,
    instanceUuid: vm.instanceUuid ?? UNSET,
    template: false,
    guestId: vm.guestId,
    annotation: vm.annotation,
    files: object('vim.vm.FileInfo', {
      vmPathName: vm.vmxPath,
      snapshotDirectory: vm.vmxPath.slice(0, vm.vmxPath.lastIndexOf('/') + 1),
      suspendDirectory: vm.vmxPath.slice(0, vm.vmxPath.lastIndexOf('/') + 1),
      logDirectory: vm.vmxPath.slice(0, vm.vmxPath.lastIndexOf('/') + 1),
    }),
    hardware: object('vim.vm.VirtualHardware', {
      numCPU: vm.cpus,
      numCoresPerSocket: 1,
      memoryMB: vm.memoryMib,
      device: array('vim.vm.device.VirtualDevice', devices(vm, host)),
    }),
    changeTrackingEnabled: vm.changeTrackingEnabled,
    firmware: vm.firmware,
    datastoreUrl: array(
      'vim.vm.ConfigInfo.DatastoreUrlPair',
      host.datastores
        .list()
        .map((volume) =>
          object('vim.vm.ConfigInfo.DatastoreUrlPair', { name: volume.name, url: `/vmfs/volumes/${volume.uuid}` }),
        ),
    ),
  });
}

export function vmDevices(vm: VirtualMachine, host: Host): DumpObject {
  return object('vim.vm.VirtualHardware', {
    numCPU: vm.cpus,
    numCoresPerSocket: 1,
    memoryMB: vm.memoryMib,
    device: array('vim.vm.device.VirtualDevice', devices(vm, host)),
  });
}

function devices(vm: VirtualMachine, host: Host): DumpValue[] {
  const types: Record<string, string> = {
    pvscsi: 'vim.vm.device.ParaVirtualSCSIController',
    lsisas1068: 'vim.vm.device.VirtualLsiLogicSASController',
    lsilogic: 'vim.vm.device.VirtualLsiLogicController',
    buslogic: 'vim.vm.device.VirtualBusLogicController',
    ide: 'vim.vm.device.VirtualIDEController',
    sata: 'vim.vm.device.VirtualAHCIController',
    nvme: 'vim.vm.device.VirtualNVMEController',
  };
  return [
    ...vm.controllers.map((controller) =>
      object(types[controller.virtualDev] ?? types[controller.kind] ?? '', {
        key: controller.key,
        deviceInfo: object('vim.Description', {
          label: `${controller.kind.toUpperCase()} ${controller.bus}`,
          summary: controller.kind.toUpperCase(),
        }),
        busNumber: controller.bus,
      }),
    ),
    ...vm.disks.map((disk) => diskDump(disk, host)),
    ...vm.nics.map((nic) =>
      object(`vim.vm.device.Virtual${nic.virtualDev.replace('vmxnet', 'Vmxnet').replace('e1', 'E1')}`, {
        key: nic.key,
        deviceInfo: object('vim.Description', { label: nic.label, summary: nic.networkName }),
        backing: object('vim.vm.device.VirtualEthernetCard.NetworkBackingInfo', { deviceName: nic.networkName }),
        addressType: nic.addressType,
        macAddress: nic.macAddress ?? { null: 'string' },
      }),
    ),
  ];
}

const BACKINGS: Record<DiskDevice['backing'], string> = {
  flat: 'FlatVer2BackingInfo',
  seSparse: 'SeSparseBackingInfo',
  sparse: 'SparseVer2BackingInfo',
  rdmVirtual: 'RawDiskMappingVer1BackingInfo',
  rdmPhysical: 'RawDiskMappingVer1BackingInfo',
};

function diskDump(disk: DiskDevice, host: Host): DumpObject {
  const backing = (index: number): DumpValue => {
    const link = disk.chain[index];
    const type = `vim.vm.device.VirtualDisk.${index === disk.chain.length - 1 ? 'FlatVer2BackingInfo' : BACKINGS[disk.backing]}`;
    if (link === undefined) return { null: type };
    const name = /^\[([^\]]*)\]/.exec(link.fileName)?.[1] ?? '';
    return object(type, {
      fileName: link.fileName,
      datastore: reference('vim.Datastore', host.datastores.byName(name)?.uuid ?? ''),
      backingObjectId: '',
      diskMode: disk.diskMode,
      thinProvisioned: disk.thinProvisioned,
      uuid: disk.uuid ?? UNSET,
      contentId: disk.contentId,
      changeId: index === 0 && disk.changeId !== null ? disk.changeId : UNSET,
      parent: backing(index + 1),
    });
  };
  return object('vim.vm.device.VirtualDisk', {
    key: disk.key,
    deviceInfo: object('vim.Description', {
      label: disk.label,
      summary: `${(disk.capacityBytes / 1024).toLocaleString('en-US')} KB`,
    }),
    backing: backing(0),
    controllerKey: disk.controllerKey,
    unitNumber: disk.unit,
    capacityInKB: Math.floor(disk.capacityBytes / 1024),
    capacityInBytes: disk.capacityBytes,
  });
}

export function vmFileLayout(vm: VirtualMachine): DumpObject {
  const baseNames = (type: string) =>
    vm.layout.filter((file) => file.type === type).map((file) => file.name.slice(file.name.lastIndexOf('/') + 1));
  return object('vim.vm.FileLayout', {
    configFile: array('string', [...baseNames('config'), ...baseNames('nvram'), ...baseNames('snapshotList')]),
    logFile: array('string', baseNames('log')),
    disk: array(
      'vim.vm.FileLayout.DiskLayout',
      vm.disks.map((disk) =>
        object('vim.vm.FileLayout.DiskLayout', {
          key: disk.key,
          diskFile: array(
            'string',
            [...disk.chain].reverse().map((link) => link.fileName),
          ),
        }),
      ),
    ),
    snapshot: { null: 'vim.vm.FileLayout.SnapshotLayout' },
    swapFile: baseNames('swap')[0] ?? { null: 'string' },
  });
}

export function vmGuest(vm: VirtualMachine): DumpObject {
  return object('vim.vm.GuestInfo', {
    toolsStatus: vm.tools.status,
    toolsVersionStatus: vm.tools.versionStatus2,
    toolsVersionStatus2: vm.tools.versionStatus2,
    toolsRunningStatus: vm.tools.runningStatus,
    toolsVersion: '12389',
    guestId: { null: 'string' },
    guestFamily: { null: 'string' },
    guestFullName: { null: 'string' },
    hostName: { null: 'string' },
    ipAddress: { null: 'string' },
    guestState: vm.powerState === 'poweredOn' ? 'running' : 'notRunning',
  });
}

export function vmSnapshotInfo(vm: VirtualMachine): DumpObject | { null: string } {
  const { snapshots } = vm;
  if (snapshots === null) return { null: 'vim.vm.SnapshotInfo' };
  const name = (id: number) => reference('vim.vm.Snapshot', `${vm.id}-snapshot-${id}`);
  const tree = (snapshot: Snapshot): DumpObject =>
    object('vim.vm.SnapshotTree', {
      snapshot: name(snapshot.id),
      vm: reference('vim.VirtualMachine', vm.id),
      name: snapshot.name,
      description: snapshot.description,
      id: snapshot.id,
      createTime: new Date(snapshot.createTimeMs).toISOString(),
      state: snapshot.state,
      quiesced: snapshot.quiesced,
      backupManifest: snapshot.backupManifest ?? UNSET,
      childSnapshotList: array('vim.vm.SnapshotTree', snapshot.children.map(tree)),
      replaySupported: false,
    });
  return object('vim.vm.SnapshotInfo', {
    currentSnapshot: snapshots.currentId === null ? UNSET : name(snapshots.currentId),
    rootSnapshotList: array('vim.vm.SnapshotTree', snapshots.roots.map(tree)),
  });
}

export function datastoreSummary(store: Datastore): DumpObject {
  return object('vim.Datastore.Summary', {
    datastore: reference('vim.Datastore', store.uuid),
    name: store.name,
    url: store.url.replace(/\/$/, ''),
    capacity: store.capacityBytes,
    freeSpace: store.freeBytes,
    uncommitted: 0,
    accessible: store.accessible,
    multipleHostAccess: store.nfs !== null,
    type: store.nfs === null ? 'VMFS' : 'NFS',
    maintenanceMode: 'normal',
  });
}
