import { SECTOR_BYTES } from '../runtime/index.ts';

import { lvmDamaged, parseLvmText, type LvmSection } from './lvm-text.ts';

/** A volume group, as its description has it. */
export interface VolumeGroup {
  id: string;
  name: string;
  /** Counts the descriptions: the highest is in force. */
  sequence: number;
  /** By the name that the description gives them. */
  physical: Map<string, { uuid: string; startBytes: number; extentCount: number }>;
  /** Those that a guest sees, in the order of the description. */
  logical: LogicalVolume[];
  /** Null: nothing speaks against what its file systems say of free space. Else an English clause. */
  doubt: string | null;
}

export interface LogicalVolume {
  name: string;
  sizeBytes: number;
  /** In order, without a gap. Empty where it is not read. */
  segments: LogicalSegment[];
  /** Why it is not read: an English clause. */
  unreadable: string | null;
  doubt: string | null;
}

/** A stretch of a logical volume: on one place, or in turns of `stripeBytes` on several. */
export interface LogicalSegment {
  startBytes: number;
  lengthBytes: number;
  stripeBytes: number;
  /** Names of physical volumes, and where the stretch begins on each. */
  places: { physical: string; offsetBytes: number }[];
}

/** More are a stranger's joke. */
const LOGICAL_VOLUMES_MAX = 1000;
const GROUP_STATUS_AT_REST = new Set(['RESIZEABLE', 'READ', 'WRITE']);
const VOLUME_STATUS_AT_REST = new Set(['READ', 'WRITE', 'VISIBLE', 'FIXED_MINOR', 'ACTIVATION_SKIP']);
/** What a volume may be to another one and still be read as it is. */
const READABLE_ROLES = new Set(['origin', 'external_origin']);

/**
 * @param text a description whose checksum is right
 * @throws FILESYSTEM_DAMAGED
 */
export function parseVolumeGroup(text: string): VolumeGroup {
  const top = parseLvmText(text);
  const [[name, group] = [], ...others] = top.sections;
  if (name === undefined || group === undefined || others.length > 0) throw lvmDamaged('it describes no group, or two');
  if (top.values.get('version') !== 1) throw lvmDamaged('its description is of another version');
  const extentBytes = sectors(group, 'extent_size');
  const physical = new Map(
    [...part(group, 'physical_volumes')].map(([key, section]) => [
      key,
      {
        uuid: words(section, 'id').join('').replaceAll('-', ''),
        startBytes: sectors(section, 'pe_start'),
        extentCount: whole(section, 'pe_count'),
      },
    ]),
  );
  const sections = part(group, 'logical_volumes');
  if (sections.size > LOGICAL_VOLUMES_MAX) throw lvmDamaged('it has too many volumes');
  const roles = findRoles(sections, physical);
  const logical = [...sections]
    .filter(([, section]) => words(section, 'status').includes('VISIBLE'))
    .map(([key, section]) => describe(key, section, { extentBytes, physical, roles: roles.get(key) ?? [] }));
  return {
    id: words(group, 'id').join(''),
    name,
    sequence: whole(group, 'seqno'),
    physical,
    logical,
    doubt: isAtRest(group, GROUP_STATUS_AT_REST) ? null : 'its volume group is in a state that is not known',
  };
}

/** What each volume is to others: the names of the settings that name it, within segments. */
function findRoles(
  sections: ReadonlyMap<string, LvmSection>,
  physical: ReadonlyMap<string, unknown>,
): Map<string, string[]> {
  const roles = new Map<string, string[]>();
  for (const section of sections.values()) {
    for (const segment of section.sections.values()) {
      for (const [role, value] of segment.values) {
        if (role === 'type' || role === 'tags') continue;
        for (const name of [value].flat()) {
          // Where a stripe lies, a physical volume goes before a logical one of the same name.
          if (typeof name !== 'string' || !sections.has(name) || (role === 'stripes' && physical.has(name))) continue;
          roles.set(name, [...(roles.get(name) ?? []), role]);
        }
      }
    }
  }
  return roles;
}

function describe(
  name: string,
  section: LvmSection,
  group: { extentBytes: number; physical: VolumeGroup['physical']; roles: readonly string[] },
): LogicalVolume {
  const { extentBytes, physical, roles } = group;
  const volume: LogicalVolume = { name, sizeBytes: 0, segments: [], unreadable: null, doubt: null };
  if (!isAtRest(section, VOLUME_STATUS_AT_REST)) volume.doubt = 'its logical volume is in a state that is not known';
  if (roles.length > 0) volume.doubt = 'other logical volumes are built on it';
  const foreign = roles.find((role) => !READABLE_ROLES.has(role));
  if (foreign !== undefined) volume.unreadable = `it is part of another one (${foreign})`;
  const count = whole(section, 'segment_count');
  for (let index = 1; index <= count; index += 1) {
    const segment = section.sections.get(`segment${String(index)}`);
    if (segment === undefined) throw lvmDamaged('a segment is missing');
    const lengthBytes = whole(segment, 'extent_count') * extentBytes;
    if (whole(segment, 'start_extent') * extentBytes !== volume.sizeBytes) throw lvmDamaged('its segments leave gaps');
    const kind = words(segment, 'type').join('');
    if (kind === 'striped' || kind === 'linear') {
      const places = readPlaces(segment, { extentBytes, physical, lengthBytes });
      if (places === null) volume.unreadable ??= 'it lies on another logical volume';
      else {
        const stripeBytes = places.length === 1 ? lengthBytes : sectors(segment, 'stripe_size');
        if ((lengthBytes / places.length) % stripeBytes !== 0) throw lvmDamaged('its stripes do not come out even');
        volume.segments.push({ startBytes: volume.sizeBytes, lengthBytes, stripeBytes, places });
      }
    } else volume.unreadable ??= `its kind is ${kind.replaceAll(/[^\w+-]/g, '?').slice(0, 40)}`;
    volume.sizeBytes += lengthBytes;
  }
  if (!Number.isSafeInteger(volume.sizeBytes)) throw lvmDamaged('a volume is too large');
  if (count === 0) volume.unreadable ??= 'it is empty';
  return volume;
}

/** Null: a place is no physical volume. */
function readPlaces(
  segment: LvmSection,
  group: { extentBytes: number; physical: VolumeGroup['physical']; lengthBytes: number },
): LogicalSegment['places'] | null {
  const { extentBytes, physical, lengthBytes } = group;
  const stripes = [segment.values.get('stripes') ?? []].flat();
  const count = whole(segment, 'stripe_count');
  const extents = lengthBytes / extentBytes / count;
  if (count === 0 || stripes.length !== 2 * count || !Number.isInteger(extents) || extents === 0)
    throw lvmDamaged('its stripes do not come out even');
  const places: LogicalSegment['places'] = [];
  for (let index = 0; index < count; index += 1) {
    const name = stripes[2 * index];
    const extent = stripes[2 * index + 1];
    const holder = typeof name === 'string' ? physical.get(name) : undefined;
    if (typeof name !== 'string' || typeof extent !== 'number' || !Number.isSafeInteger(extent) || extent < 0)
      throw lvmDamaged('a stripe lies nowhere');
    if (holder === undefined) return null;
    if (extent + extents > holder.extentCount) throw lvmDamaged('a stripe lies outside its physical volume');
    places.push({ physical: name, offsetBytes: holder.startBytes + extent * extentBytes });
  }
  return places;
}

function isAtRest(section: LvmSection, known: ReadonlySet<string>): boolean {
  return [...words(section, 'status'), ...words(section, 'flags')].every((word) => known.has(word));
}

function part(section: LvmSection, name: string): ReadonlyMap<string, LvmSection> {
  return section.sections.get(name)?.sections ?? new Map();
}

/** Texts of a setting; none where it is not there. */
function words(section: LvmSection, name: string): string[] {
  return [section.values.get(name) ?? []].flat().filter((word) => typeof word === 'string');
}

function whole(section: LvmSection, name: string): number {
  const value = section.values.get(name);
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw lvmDamaged(`${name} is missing`);
}

/** In bytes, above 0. */
function sectors(section: LvmSection, name: string): number {
  const bytes = whole(section, name) * SECTOR_BYTES;
  if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  throw lvmDamaged(`${name} is not possible`);
}
