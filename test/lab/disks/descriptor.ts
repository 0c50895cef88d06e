import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

/** A VMDK descriptor as ESXi writes it. Numbers of extents in sectors of 512 bytes. */
export interface Descriptor {
  cid: string;
  parentCid: string;
  createType: string;
  parentFileNameHint: string | null;
  extents: DescriptorExtent[];
  changeTrackPath: string | null;
  ddb: Record<string, string>;
}

export interface DescriptorExtent {
  sectors: number;
  type: 'VMFS' | 'FLAT' | 'VMFSSPARSE' | 'SESPARSE' | 'SPARSE' | 'VMFSRDM';
  fileName: string;
  offsetSectors: number;
}

export const NO_PARENT = 'ffffffff';

export function newContentId(): string {
  return randomBytes(4).toString('hex');
}

export function newDiskUuid(): string {
  const hex = '6000c29' + randomBytes(13).toString('hex').slice(0, 25);
  const bytes = hex.match(/../g) ?? [];
  return `${bytes.slice(0, 8).join(' ')}-${bytes.slice(8).join(' ')}`;
}

export function sectorsOf(descriptor: Descriptor): number {
  return descriptor.extents.reduce((sum, extent) => sum + extent.sectors, 0);
}

export function parseDescriptor(text: string): Descriptor {
  const descriptor: Descriptor = {
    cid: '',
    parentCid: NO_PARENT,
    createType: '',
    parentFileNameHint: null,
    extents: [],
    changeTrackPath: null,
    ddb: {},
  };
  for (const line of text.split('\n')) {
    const extent = /^(?:RW|RDONLY|NOACCESS)\s+(\d+)\s+(\w+)\s+"(.*)"(?:\s+(\d+))?/.exec(line.trim());
    if (extent !== null) {
      descriptor.extents.push({
        sectors: Number(extent[1]),
        type: extent[2] as DescriptorExtent['type'],
        fileName: extent[3] ?? '',
        offsetSectors: Number(extent[4] ?? 0),
      });
      continue;
    }
    const pair = /^([\w.]+)\s*=\s*"?(.*?)"?\s*$/.exec(line);
    if (pair === null) continue;
    const [, key = '', value = ''] = pair;
    if (key === 'CID') descriptor.cid = value;
    else if (key === 'parentCID') descriptor.parentCid = value;
    else if (key === 'createType') descriptor.createType = value;
    else if (key === 'parentFileNameHint') descriptor.parentFileNameHint = value;
    else if (key === 'changeTrackPath') descriptor.changeTrackPath = value;
    else if (key.startsWith('ddb.')) descriptor.ddb[key] = value;
  }
  if (descriptor.cid === '' || descriptor.createType === '' || descriptor.extents.length === 0) {
    throw new Error('not a disk descriptor');
  }
  return descriptor;
}

export function encodeDescriptor(descriptor: Descriptor): string {
  const lines = [
    '# Disk DescriptorFile',
    'version=1',
    'encoding="UTF-8"',
    `CID=${descriptor.cid}`,
    `parentCID=${descriptor.parentCid}`,
    `createType="${descriptor.createType}"`,
  ];
  if (descriptor.parentFileNameHint !== null) lines.push(`parentFileNameHint="${descriptor.parentFileNameHint}"`);
  lines.push('', '# Extent description');
  for (const extent of descriptor.extents) {
    const offset = extent.type === 'FLAT' ? ` ${extent.offsetSectors}` : '';
    lines.push(`RW ${extent.sectors} ${extent.type} "${extent.fileName}"${offset}`);
  }
  if (descriptor.changeTrackPath !== null) {
    lines.push('', '# Change Tracking File', `changeTrackPath="${descriptor.changeTrackPath}"`);
  }
  lines.push('', '# The Disk Data Base ', '#DDB', '');
  for (const key of Object.keys(descriptor.ddb).sort()) lines.push(`${key} = "${descriptor.ddb[key]}"`);
  return lines.join('\n') + '\n';
}

export function readDescriptor(file: string): Descriptor {
  return parseDescriptor(readFileSync(file, 'utf8'));
}

export function writeDescriptor(file: string, descriptor: Descriptor): void {
  writeFileSync(file, encodeDescriptor(descriptor), { mode: 0o600 });
}

export type Provisioning = 'thin' | 'zeroedthick' | 'eagerzeroedthick';

/** Descriptor of a new base disk whose data lie in `<stem>-flat.vmdk`. */
export function baseDescriptor(options: {
  stem: string;
  sectors: number;
  provisioning: Provisioning;
  adapterType: string;
  hardwareVersion: string;
  cid?: string;
}): Descriptor {
  const cid = options.cid ?? newContentId();
  const cylinders = Math.max(1, Math.min(65535, Math.floor(options.sectors / (255 * 63))));
  const ddb: Record<string, string> = {
    'ddb.adapterType': options.adapterType,
    'ddb.deletable': 'true',
    'ddb.geometry.cylinders': String(cylinders),
    'ddb.geometry.heads': '255',
    'ddb.geometry.sectors': '63',
    'ddb.longContentID': randomBytes(12).toString('hex') + cid,
    'ddb.uuid': newDiskUuid(),
    'ddb.virtualHWVersion': options.hardwareVersion,
  };
  if (options.provisioning === 'thin') ddb['ddb.thinProvisioned'] = '1';
  return {
    cid,
    parentCid: NO_PARENT,
    createType: 'vmfs',
    parentFileNameHint: null,
    extents: [{ sectors: options.sectors, type: 'VMFS', fileName: `${options.stem}-flat.vmdk`, offsetSectors: 0 }],
    changeTrackPath: null,
    ddb,
  };
}

/** Gives a disk whose content changed a new content id, as ESXi does at the first write after opening. */
export function touchContentId(descriptor: Descriptor): void {
  descriptor.cid = newContentId();
  const long = descriptor.ddb['ddb.longContentID'];
  if (long !== undefined) descriptor.ddb['ddb.longContentID'] = long.slice(0, 24) + descriptor.cid;
}
