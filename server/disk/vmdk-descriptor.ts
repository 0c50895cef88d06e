import { AppError } from '../errors/index.ts';
import { SECTOR_BYTES } from '../runtime/index.ts';

/**
 * The text file that describes a VMDK: identity, parent, extents. Format: "Virtual Disk Format 5.0"
 * (VMware) and descriptors as ESXi 6.5 to 8.0 writes them. The sector count of the extents is the truth
 * about the size; the geometry in the database is not.
 */
export interface VmdkDescriptor {
  version: number;
  encoding: string;
  /** Eight lower-case hex digits. No identity: a fresh delta and a clone carry the one of their origin. */
  cid: string;
  /** `ffffffff` where there is no parent. */
  parentCid: string;
  createType: string;
  /** Relative to this file or absolute; null for a base disk. */
  parentFileNameHint: string | null;
  changeTrackPath: string | null;
  extents: VmdkExtent[];
  /** `ddb.…` entries, in order, with their full keys. */
  database: Map<string, string>;
}

export interface VmdkExtent {
  access: 'RW' | 'RDONLY' | 'NOACCESS';
  sectors: number;
  /** `VMFS`, `VMFSSPARSE`, `SESPARSE`, `FLAT`, `SPARSE`, `ZERO`, `VMFSRDM`, … */
  type: string;
  /** Null for `ZERO`. Relative to the descriptor, absolute, or a URL on object stores. */
  fileName: string | null;
  /** Where the extent begins in its file; 0 for all types but `FLAT`. */
  offsetSectors: number;
}

/** A descriptor is about 500 bytes; one of many extents, some KiB. Longer is not a descriptor. */
export const DESCRIPTOR_BYTES_MAX = 1024 * 1024;
const HEX_8 = /^[0-9a-f]{1,8}$/i;
const EXTENT = /^(RW|RDONLY|NOACCESS)\s+(\d+)\s+([A-Z0-9_]+)(?:\s+"(.*)"(?:\s+(\d+))?(?:\s.*)?)?$/;
const ENTRY = /^([A-Za-z0-9_.]+)\s*=\s*(?:"(.*)"|(.*))$/;

/** @throws DISK_DESCRIPTOR_INVALID */
export function parseVmdkDescriptor(content: Buffer): VmdkDescriptor {
  if (content.length > DESCRIPTOR_BYTES_MAX) throw invalid('it is longer than a descriptor can be');
  const entries = new Map<string, string>();
  const database = new Map<string, string>();
  const extents: VmdkExtent[] = [];
  const lines = decodeText(content).split(/\r\n|\n|\r/);
  // The header is a comment; without it any text file with two matching lines would pass.
  if (!/^#\s*disk\s*descriptorfile\s*$/i.test((lines[0] ?? '').trim())) throw invalid('the header line is missing');
  for (const rawLine of lines) {
    const line = rawLine.replaceAll('\0', '').trim();
    if (line === '' || line.startsWith('#')) continue;
    const extent = EXTENT.exec(line);
    if (extent !== null) {
      extents.push(toExtent(extent));
      continue;
    }
    const entry = ENTRY.exec(line);
    if (entry === null) throw invalid(`a line is neither entry nor extent: ${line.slice(0, 80)}`);
    const key = entry[1] ?? '';
    const value = entry[2] ?? entry[3] ?? '';
    if (key.toLowerCase().startsWith('ddb.')) database.set(key, value);
    else entries.set(key.toLowerCase(), value);
  }
  if (extents.length === 0) throw invalid('it names no extent');
  const cid = entries.get('cid') ?? '';
  const parentCid = entries.get('parentcid') ?? 'ffffffff';
  if (!HEX_8.test(cid) || !HEX_8.test(parentCid)) throw invalid('its content id is not a number');
  const createType = entries.get('createtype');
  if (createType === undefined || createType === '') throw invalid('it names no disk type');
  if (!Number.isSafeInteger(sumSectors(extents) * SECTOR_BYTES)) throw invalid('its size is not a number');
  const version = Number(entries.get('version') ?? '1');
  if (!Number.isSafeInteger(version)) throw invalid('its version is not a number');
  return {
    version,
    encoding: entries.get('encoding') ?? 'UTF-8',
    cid: cid.toLowerCase().padStart(8, '0'),
    parentCid: parentCid.toLowerCase().padStart(8, '0'),
    createType,
    parentFileNameHint: entries.get('parentfilenamehint') ?? null,
    changeTrackPath: entries.get('changetrackpath') ?? null,
    extents,
    database,
  };
}

export function encodeVmdkDescriptor(descriptor: VmdkDescriptor): string {
  const lines = [
    '# Disk DescriptorFile',
    `version=${String(descriptor.version)}`,
    `encoding="${descriptor.encoding}"`,
    `CID=${descriptor.cid}`,
    `parentCID=${descriptor.parentCid}`,
    `createType="${descriptor.createType}"`,
  ];
  if (descriptor.parentFileNameHint !== null) lines.push(`parentFileNameHint="${descriptor.parentFileNameHint}"`);
  lines.push('', '# Extent description');
  for (const { access, sectors, type, fileName, offsetSectors } of descriptor.extents) {
    const file = fileName === null ? '' : ` "${fileName}"`;
    const offset = type === 'FLAT' ? ` ${String(offsetSectors)}` : '';
    lines.push(`${access} ${String(sectors)} ${type}${file}${offset}`);
  }
  if (descriptor.changeTrackPath !== null) {
    lines.push('', '# Change Tracking File', `changeTrackPath="${descriptor.changeTrackPath}"`);
  }
  lines.push('', '# The Disk Data Base ', '#DDB', '');
  for (const [key, value] of descriptor.database) lines.push(`${key} = "${value}"`);
  return `${lines.join('\n')}\n`;
}

export function descriptorSizeBytes(descriptor: VmdkDescriptor): number {
  return sumSectors(descriptor.extents) * SECTOR_BYTES;
}

function sumSectors(extents: readonly VmdkExtent[]): number {
  return extents.reduce((sum, extent) => sum + extent.sectors, 0);
}

function toExtent(match: RegExpExecArray): VmdkExtent {
  const [, access, sectorsText, type, fileName, offsetText] = match;
  const sectors = Number(sectorsText);
  const offsetSectors = Number(offsetText ?? '0');
  if (!Number.isSafeInteger(sectors) || !Number.isSafeInteger(offsetSectors) || type === undefined) {
    throw invalid('the size of an extent is not a number');
  }
  if (fileName === undefined && type !== 'ZERO') throw invalid(`an extent of type ${type} names no file`);
  return {
    access: access as VmdkExtent['access'],
    sectors,
    type,
    fileName: fileName ?? null,
    offsetSectors,
  };
}

/** Descriptors name their charset inside; all that ESXi writes is UTF-8, old Workstation files are not. */
function decodeText(content: Buffer): string {
  const label = /^encoding\s*=\s*"?([A-Za-z0-9_-]+)/m.exec(content.toString('latin1'))?.[1] ?? 'UTF-8';
  for (const candidate of [label, 'UTF-8']) {
    try {
      return new TextDecoder(candidate, { fatal: true, ignoreBOM: false }).decode(content);
    } catch {
      // Unknown label or bytes that do not fit it: try the next.
    }
  }
  return content.toString('latin1');
}

function invalid(reason: string): AppError {
  return new AppError('DISK_DESCRIPTOR_INVALID', `A disk descriptor cannot be used: ${reason}.`, {
    hint: 'Check the disk on the host with "vmkfstools -e"; a damaged descriptor must be repaired there first.',
    details: { reason },
  });
}
