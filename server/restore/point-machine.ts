import { AppError } from '../errors/index.ts';
import type { Point } from '../repository/index.ts';
import type { MachineConfiguration, MachineIdentity } from '../source/index.ts';

const FILE_KINDS = ['vmx', 'nvram', 'vmsd', 'vmxf', 'descriptor'] as const;

/** The machine of a point: who it was, and how it was configured. */
export interface PointMachine {
  identity: MachineIdentity;
  configuration: MachineConfiguration;
}

/**
 * Reads a point's machine back: the neutral description from its manifest, the files from beside it.
 * Disks that the point does not hold are left out, so that no empty disk is made in their place.
 * @throws REPOSITORY_MANIFEST_DAMAGED when the description is not one that this version can read
 */
export async function readPointMachine(point: Point): Promise<PointMachine> {
  const { machine } = point.manifest;
  if (!isRecord(machine) || machine['version'] !== 1)
    throw unreadable(point, 'it has no description of a version known');
  const { identity, neutral } = machine;
  if (!isRecord(identity) || typeof identity['name'] !== 'string') throw unreadable(point, 'the identity is missing');
  if (!isRecord(neutral) || !Array.isArray(neutral['disks']) || !Array.isArray(neutral['networks'])) {
    throw unreadable(point, 'the devices are missing');
  }
  const described = neutral as unknown as MachineConfiguration['neutral'];
  const held = new Set(point.manifest.disks.map((disk) => disk.key));
  const disks = described.disks.filter((disk) => held.has(disk.key));
  if (disks.length !== held.size) throw unreadable(point, 'it holds a disk that the configuration does not name');
  const files: MachineConfiguration['files'] = [];
  for (const { name, kind } of point.listFiles()) {
    const known = FILE_KINDS.find((candidate) => candidate === kind);
    if (known !== undefined) files.push({ name, kind: known, content: await point.readFile(name) });
  }
  return {
    identity: identity as unknown as MachineIdentity,
    configuration: { files, neutral: { ...described, disks } },
  };
}

/** Whether the guest brought its file systems in order for this version. */
export function wasQuiet(point: Point): boolean {
  const { evidence } = point.manifest;
  const consistency = isRecord(evidence) ? evidence['consistency'] : null;
  const level = isRecord(consistency) ? consistency['level'] : null;
  return level === 'application' || level === 'filesystem';
}

/** What the user knows a disk of a point as; its key where the point does not tell. */
export function labelDisk(point: Point, key: string): string {
  const { machine } = point.manifest;
  const neutral = isRecord(machine) ? machine['neutral'] : null;
  const disks: unknown[] = isRecord(neutral) && Array.isArray(neutral['disks']) ? neutral['disks'] : [];
  for (const disk of disks) {
    if (isRecord(disk) && disk['key'] === key && typeof disk['label'] === 'string') return disk['label'];
  }
  return key;
}

function unreadable(point: Point, why: string): AppError {
  const { pointId } = point.manifest;
  return new AppError('REPOSITORY_MANIFEST_DAMAGED', `The machine of version ${pointId} cannot be read: ${why}.`, {
    hint: 'Its disks can still be exported one by one. A newer Dozo may have written it.',
    details: { pointId },
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
