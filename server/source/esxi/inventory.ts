import { AppError } from '../../errors/index.ts';
import { KIB } from '../../runtime/index.ts';
import type { ObjectContent, Reference, VsphereClient } from '../../vsphere/index.ts';
import type { DatastoreSummary, MachineDisk, MachineIdentity, MachineSummary } from '../source.ts';
import type { DatastoreMap } from './datastore-path.ts';
import { matchMachine } from './identity.ts';
import {
  asBoolean,
  asNumber,
  asObject,
  asObjects,
  asReference,
  asText,
  typeOf,
  unescapeName,
  type SoapObject,
} from './soap-value.ts';

/** A machine with what only this folder needs to know. */
export interface InventoryMachine extends MachineSummary {
  reference: Reference;
  disks: InventoryDisk[];
  snapshots: InventorySnapshot[];
  isEncrypted: boolean;
  isTemplate: boolean;
  /** Null: it is off, or the host does not say. */
  bootedAtMs: number | null;
  firmware: 'bios' | 'efi';
  cpus: number;
  memoryMib: number;
  /** The open question's text, or null. */
  question: string | null;
  networkCards: { key: string; adapter: string; network: string; mac: string | null }[];
}

export interface InventoryDisk extends MachineDisk {
  deviceKey: number;
  /** `pvscsi`, `lsilogic`, `ahci`, `ide`, `nvme`, … */
  adapter: string;
  changeId: string | null;
  /** Every file of its chain, as the host names them, tip first: a linked clone reads those of another machine. */
  layers: string[];
}

export interface InventorySnapshot {
  reference: Reference;
  id: string;
  name: string;
  parentId: string | null;
  createdAtMs: number | null;
  isQuiesced: boolean;
  /** The guest's backup manifest is there: VSS writers took part. */
  hasManifest: boolean;
}

const MACHINE_PROPERTIES = [
  'name',
  'config.uuid',
  'config.instanceUuid',
  'config.files.vmPathName',
  'config.version',
  'config.changeTrackingEnabled',
  'config.template',
  'config.firmware',
  'config.annotation',
  'config.guestFullName',
  'config.hardware',
  'config.keyId',
  'runtime.powerState',
  'runtime.bootTime',
  'runtime.consolidationNeeded',
  'runtime.question',
  'snapshot',
  'guest.toolsRunningStatus',
  'guest.ipAddress',
] as const;

/** All machines that the host can describe; invalid and orphaned ones have no configuration and are left out. */
export async function listMachines(vsphere: VsphereClient, datastores: DatastoreMap): Promise<InventoryMachine[]> {
  const contents = await vsphere.retrieve('VirtualMachine', MACHINE_PROPERTIES);
  return contents.flatMap((content) => {
    const machine = toMachine(content, datastores);
    return machine === null ? [] : [machine];
  });
}

/** Machines of which a host only knows where their `.vmx` is or was: it is not there, or is not understood. */
export async function listInvalidMachines(vsphere: VsphereClient): Promise<{ hostId: string; path: string }[]> {
  const contents = await vsphere.retrieve('VirtualMachine', ['config.files.vmPathName', 'summary.config.vmPathName']);
  return contents.flatMap(({ reference, properties }) => {
    const path = asText(properties['summary.config.vmPathName']);
    const isValid = asText(properties['config.files.vmPathName']) !== null;
    return isValid || path === null ? [] : [{ hostId: reference.value, path }];
  });
}

/** The machine as it is now. @throws MACHINE_NOT_FOUND when its configuration is gone */
export async function readMachine(
  vsphere: VsphereClient,
  reference: Reference,
  datastores: DatastoreMap,
): Promise<InventoryMachine> {
  const machine = toMachine(await vsphere.retrieveOne(reference, MACHINE_PROPERTIES), datastores);
  if (machine === null) throw machineNotFound(reference.value);
  return machine;
}

/** @throws MACHINE_NOT_FOUND */
export async function findMachine(
  vsphere: VsphereClient,
  datastores: DatastoreMap,
  identity: MachineIdentity,
): Promise<InventoryMachine> {
  const found = matchMachine(identity, await listMachines(vsphere, datastores));
  if (found === null) throw machineNotFound(identity.name);
  return found;
}

export async function listDatastores(vsphere: VsphereClient): Promise<(DatastoreSummary & { url: string })[]> {
  const contents = await vsphere.retrieve('Datastore', ['summary']);
  return contents.map(({ properties }) => {
    const summary = asObject(properties['summary']);
    return {
      name: unescapeName(asText(summary['name']) ?? ''),
      url: asText(summary['url']) ?? '',
      type: asText(summary['type']) ?? '',
      capacityBytes: asNumber(summary['capacity']) ?? 0,
      freeBytes: asNumber(summary['freeSpace']) ?? 0,
      accessible: asBoolean(summary['accessible']),
    };
  });
}

export async function listNetworks(vsphere: VsphereClient): Promise<string[]> {
  const contents = await vsphere.retrieve('Network', ['name']);
  const names = contents.flatMap(({ properties }) => {
    const name = asText(properties['name']);
    return name === null ? [] : [unescapeName(name)];
  });
  return [...new Set(names)].sort();
}

/** Disks of a device list: of a machine, or of a snapshot's frozen configuration. */
export function toDisks(hardware: unknown, datastores: DatastoreMap, isMachineEncrypted = false): InventoryDisk[] {
  const devices = asObjects(asObject(hardware)['device']);
  const controllers = new Map(devices.map((device) => [asNumber(device['key']), device]));
  return devices.flatMap((device) => {
    if (typeOf(device) !== 'VirtualDisk') return [];
    const controller = controllers.get(asNumber(device['controllerKey']));
    return [toDisk(device, controller, datastores, isMachineEncrypted)];
  });
}

function toMachine(content: ObjectContent, datastores: DatastoreMap): InventoryMachine | null {
  const { reference, properties } = content;
  const path = asText(properties['config.files.vmPathName']);
  if (path === null) return null;
  const hardware = asObject(properties['config.hardware']);
  const isEncrypted = Object.keys(asObject(properties['config.keyId'])).length > 0;
  const disks = toDisks(hardware, datastores, isEncrypted);
  const networkCards = toNetworkCards(hardware);
  const snapshots = toSnapshots(properties['snapshot']);
  const question = asObject(properties['runtime.question']);
  return {
    reference,
    hostId: reference.value,
    identity: {
      name: unescapeName(asText(properties['name']) ?? ''),
      instanceUuid: asText(properties['config.instanceUuid']),
      biosUuid: asText(properties['config.uuid']),
      path,
      diskUuids: disks.flatMap((disk) => (disk.diskUuid === null ? [] : [disk.diskUuid])),
    },
    powerState: toPowerState(asText(properties['runtime.powerState'])),
    guest: asText(properties['config.guestFullName']) ?? '',
    hardwareVersion: asText(properties['config.version']) ?? '',
    changeTracking: asBoolean(properties['config.changeTrackingEnabled']),
    toolsRunning: asText(properties['guest.toolsRunningStatus']) === 'guestToolsRunning',
    hasSnapshots: snapshots.length > 0,
    consolidationNeeded: asBoolean(properties['runtime.consolidationNeeded']),
    annotation: asText(properties['config.annotation']) ?? '',
    networks: [...new Set(networkCards.map((card) => card.network))],
    ipAddress: asText(properties['guest.ipAddress']),
    disks,
    snapshots,
    isEncrypted,
    isTemplate: asBoolean(properties['config.template']),
    bootedAtMs: toTimeMs(properties['runtime.bootTime']),
    firmware: asText(properties['config.firmware']) === 'efi' ? 'efi' : 'bios',
    cpus: asNumber(hardware['numCPU']) ?? 1,
    memoryMib: asNumber(hardware['memoryMB']) ?? 0,
    question: asText(question['text']),
    networkCards,
  };
}

function toTimeMs(value: unknown): number | null {
  const atMs = Date.parse(asText(value) ?? '');
  return Number.isNaN(atMs) ? null : atMs;
}

function toPowerState(state: string | null): 'on' | 'off' | 'suspended' {
  if (state === 'poweredOn') return 'on';
  return state === 'suspended' ? 'suspended' : 'off';
}

function toDisk(
  device: SoapObject,
  controller: SoapObject | undefined,
  datastores: DatastoreMap,
  isMachineEncrypted: boolean,
): InventoryDisk {
  const backing = asObject(device['backing']);
  const path = asText(backing['fileName']) ?? '';
  const bus = controllerKind(typeOf(controller));
  const capacityBytes = asNumber(device['capacityInBytes']) ?? (asNumber(device['capacityInKB']) ?? 0) * KIB;
  return {
    key: `${bus.prefix}${String(asNumber(controller?.['busNumber']) ?? 0)}:${String(asNumber(device['unitNumber']) ?? 0)}`,
    label: asText(asObject(device['deviceInfo'])['label']) ?? '',
    sizeBytes: capacityBytes,
    datastore: path.startsWith('[') ? datastores.parse(path).datastore : '',
    path,
    diskUuid: asText(backing['uuid']),
    provisioning: toProvisioning(backing),
    excluded: exclusion(backing, controller, isMachineEncrypted),
    deviceKey: asNumber(device['key']) ?? -1,
    adapter: bus.adapter,
    changeId: asText(backing['changeId']) === '' ? null : asText(backing['changeId']),
    layers: backingsOf(backing).flatMap((layer) => asText(layer['fileName']) ?? []),
  };
}

/** The backing of a disk and those of the layers below, tip first. */
function backingsOf(top: SoapObject): SoapObject[] {
  const backings = [top];
  for (let next = asObject(top['parent']); Object.keys(next).length > 0 && backings.length < BACKINGS_MAX;) {
    backings.push(next);
    next = asObject(next['parent']);
  }
  return backings;
}

/** Twice as many as a host allows. */
const BACKINGS_MAX = 64;

/** Class names: vSphere Web Services API reference, `VirtualController` and its descendants. */
function controllerKind(type: string): { prefix: string; adapter: string } {
  switch (type) {
    case 'ParaVirtualSCSIController':
      return { prefix: 'scsi', adapter: 'pvscsi' };
    case 'VirtualLsiLogicSASController':
      return { prefix: 'scsi', adapter: 'lsisas1068' };
    case 'VirtualBusLogicController':
      return { prefix: 'scsi', adapter: 'buslogic' };
    case 'VirtualIDEController':
      return { prefix: 'ide', adapter: 'ide' };
    case 'VirtualAHCIController':
    case 'VirtualSATAController':
      return { prefix: 'sata', adapter: 'ahci' };
    case 'VirtualNVMEController':
      return { prefix: 'nvme', adapter: 'nvme' };
    default:
      return { prefix: 'scsi', adapter: 'lsilogic' };
  }
}

function exclusion(
  backing: SoapObject,
  controller: SoapObject | undefined,
  isMachineEncrypted: boolean,
): MachineDisk['excluded'] {
  if (isMachineEncrypted || Object.keys(asObject(backing['keyId'])).length > 0) return 'encrypted';
  const type = typeOf(backing);
  const isPhysical = asText(backing['compatibilityMode']) === 'physicalMode' || type.includes('PartitionedRawDisk');
  if (isPhysical || type === 'VirtualDiskRawDiskVer2BackingInfo') return 'rdm-physical';
  const sharedBus = asText(controller?.['sharedBus']) ?? 'noSharing';
  if (asText(backing['sharing']) === 'sharingMultiWriter' || sharedBus !== 'noSharing') return 'shared';
  return (asText(backing['diskMode']) ?? '').startsWith('independent') ? 'independent' : null;
}

/** How the base of the chain was made; layers of snapshots are thin whatever it was. */
function toProvisioning(backing: SoapObject): MachineDisk['provisioning'] {
  const base = backingsOf(backing).at(-1) ?? backing;
  if (typeOf(base) !== 'VirtualDiskFlatVer2BackingInfo') return 'unknown';
  if (asBoolean(base['thinProvisioned'])) return 'thin';
  return asBoolean(base['eagerlyScrub']) ? 'eager' : 'thick';
}

const NETWORK_ADAPTERS: Record<string, string> = {
  VirtualE1000: 'e1000',
  VirtualE1000e: 'e1000e',
  VirtualVmxnet3: 'vmxnet3',
  VirtualVmxnet2: 'vmxnet2',
  VirtualVmxnet: 'vmxnet',
  VirtualPCNet32: 'vlance',
  VirtualSriovEthernetCard: 'sriov',
};

function toNetworkCards(hardware: SoapObject): InventoryMachine['networkCards'] {
  const cards = asObjects(hardware['device']).filter((device) => typeOf(device) in NETWORK_ADAPTERS);
  return cards.map((card, index) => ({
    key: `ethernet${String((asNumber(card['key']) ?? 4000 + index) - 4000)}`,
    adapter: NETWORK_ADAPTERS[typeOf(card)] ?? '',
    network: asText(asObject(card['backing'])['deviceName']) ?? '',
    mac: asText(card['macAddress']),
  }));
}

export function toSnapshots(info: unknown): InventorySnapshot[] {
  const found: InventorySnapshot[] = [];
  const visit = (nodes: SoapObject[], parentId: string | null, depth: number): void => {
    if (depth > 256) return;
    for (const node of nodes) {
      const reference = asReference(node['snapshot']);
      if (reference === null) continue;
      const id = asText(node['id']) ?? '';
      found.push({
        reference,
        id,
        name: unescapeName(asText(node['name']) ?? ''),
        parentId,
        createdAtMs: toTimeMs(node['createTime']),
        isQuiesced: asBoolean(node['quiesced']),
        hasManifest: (asText(node['backupManifest']) ?? '') !== '',
      });
      visit(asObjects(node['childSnapshotList']), id, depth + 1);
    }
  };
  visit(asObjects(asObject(info)['rootSnapshotList']), null, 0);
  return found;
}

function machineNotFound(name: string): AppError {
  return new AppError('MACHINE_NOT_FOUND', `The host has no machine "${name}" any more.`, {
    hint: `Check in the Host Client whether it was deleted, unregistered or moved to another host. If it was moved by hand and the host's question answered with "I Copied It", it is another machine now: choose it in the task anew.`,
    details: { machine: name },
  });
}
