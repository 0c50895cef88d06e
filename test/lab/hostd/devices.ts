import type { Controller, DiskDevice, Nic } from './protocol.ts';
import type { VmxFile } from './vmx-file.ts';

/** A disk as the .vmx names it. */
export interface DiskNode {
  /** `scsi0:0` */
  node: string;
  kind: Controller['kind'];
  bus: number;
  unit: number;
  key: number;
  controllerKey: number;
  /** As written: relative to the machine's folder or absolute. */
  fileName: string;
  mode: string;
  sharing: string;
  isIndependent: boolean;
}

const CONTROLLER_KEYS: Record<Controller['kind'], number> = { scsi: 1000, ide: 200, sata: 15000, nvme: 31000 };
const NOT_DISKS = new Set(['cdrom-image', 'atapi-cdrom', 'cdrom-raw']);

function diskKey(kind: Controller['kind'], bus: number, unit: number): number {
  switch (kind) {
    case 'scsi':
      return 2000 + 16 * bus + unit;
    case 'ide':
      return 3000 + 2 * bus + unit;
    case 'sata':
      return 16000 + 30 * bus + unit;
    case 'nvme':
      return 32000 + 15 * bus + unit;
  }
}

const KIND_ORDER: Controller['kind'][] = ['ide', 'scsi', 'nvme', 'sata'];

export function diskNodes(vmx: VmxFile): DiskNode[] {
  const nodes: DiskNode[] = [];
  for (const key of vmx.keys()) {
    const match = /^(scsi|ide|sata|nvme)(\d+):(\d+)\.fileName$/i.exec(key);
    if (match === null) continue;
    const kind = (match[1] ?? '').toLowerCase() as Controller['kind'];
    const [bus, unit] = [Number(match[2]), Number(match[3])];
    const node = `${kind}${bus}:${unit}`;
    const fileName = vmx.get(key) ?? '';
    if (!vmx.isTrue(`${node}.present`) || !/\.vmdk$/i.test(fileName)) continue;
    if (NOT_DISKS.has(vmx.get(`${node}.deviceType`) ?? '')) continue;
    const mode = vmx.get(`${node}.mode`) ?? 'persistent';
    nodes.push({
      node,
      kind,
      bus,
      unit,
      key: diskKey(kind, bus, unit),
      controllerKey: CONTROLLER_KEYS[kind] + bus,
      fileName,
      mode: mode.replace('-', '_'),
      sharing: vmx.get(`${node}.sharing`) === 'multi-writer' ? 'sharingMultiWriter' : 'sharingNone',
      isIndependent: mode.startsWith('independent'),
    });
  }
  return nodes.sort(
    (a, b) => KIND_ORDER.indexOf(a.kind) - KIND_ORDER.indexOf(b.kind) || a.bus - b.bus || a.unit - b.unit,
  );
}

export function controllers(vmx: VmxFile): Controller[] {
  const found: Controller[] = [
    { key: 200, kind: 'ide', bus: 0, virtualDev: '', sharedBus: 'none' },
    { key: 201, kind: 'ide', bus: 1, virtualDev: '', sharedBus: 'none' },
  ];
  for (const kind of ['scsi', 'nvme', 'sata'] as const) {
    for (let bus = 0; bus < 4; bus++) {
      if (!vmx.isTrue(`${kind}${bus}.present`)) continue;
      found.push({
        key: CONTROLLER_KEYS[kind] + bus,
        kind,
        bus,
        virtualDev: kind === 'scsi' ? (vmx.get(`${kind}${bus}.virtualDev`) ?? 'lsilogic') : '',
        sharedBus: vmx.get(`${kind}${bus}.sharedBus`) ?? 'none',
      });
    }
  }
  return found;
}

export function nics(vmx: VmxFile, isOn: boolean): Nic[] {
  const found: Nic[] = [];
  for (let index = 0; index < 10; index++) {
    const nic = `ethernet${index}`;
    if (!vmx.isTrue(`${nic}.present`)) continue;
    const addressType = vmx.get(`${nic}.addressType`) ?? 'generated';
    found.push({
      key: 4000 + index,
      label: `Network adapter ${index + 1}`,
      virtualDev: vmx.get(`${nic}.virtualDev`) ?? 'vmxnet3',
      networkName: vmx.get(`${nic}.networkName`) ?? '',
      addressType,
      macAddress: vmx.get(addressType === 'static' ? `${nic}.address` : `${nic}.generatedAddress`) ?? null,
      connected: isOn,
    });
  }
  return found;
}

/** Backing of a disk by the type of its top descriptor. */
export function backingOf(createType: string): DiskDevice['backing'] {
  switch (createType) {
    case 'seSparse':
      return 'seSparse';
    case 'vmfsSparse':
      return 'sparse';
    case 'vmfsRawDeviceMap':
      return 'rdmVirtual';
    case 'vmfsPassthroughRawDeviceMap':
      return 'rdmPhysical';
    default:
      return 'flat';
  }
}
