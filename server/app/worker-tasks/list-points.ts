import { machineIdentitySchema } from '../../contract/api/machine.schema.ts';
import type { PointsResult } from '../../contract/task-result.ts';
import type { KeptRepository, PointFate, PointListing, PointManifest } from '../../repository/index.ts';

/** What a repository holds, as the catalogue remembers it. */
export async function listPoints(repository: KeptRepository): Promise<PointsResult> {
  const fates = await repository.listFates();
  const shown = await repository.listPoints();
  const listings = [...shown, ...(await repository.listTrash())];
  return {
    formatId: repository.id,
    chunkSizeBytes: repository.chunkSizeBytes,
    stats: { ...(await repository.stats()), reduction: sumReduction(shown) },
    points: listings.map((listing) => ({ ...describePoint(listing), ...describeFate(fates.get(listing.pointId)) })),
  };
}

/** What the versions that are there did without, by what their manifests say. */
function sumReduction(listings: readonly PointListing[]): NonNullable<PointsResult['stats']['reduction']> {
  const sum = { unreadBytes: 0, skippedBytes: 0, zeroBytes: 0, duplicateBytes: 0, compressedBytes: 0 };
  for (const { manifest } of listings) {
    if (manifest === null) continue;
    for (const { key, stats } of manifest.disks) {
      const { nominalBytes, zeroBytes, duplicateBytes, newBytes, storedBytes } = stats;
      // What is left out is delivered as zeros, and is counted among them.
      const skipped = Math.min(zeroBytes, skippedBytesOf(manifest, key));
      // Chunks that were delivered more than once count each time.
      sum.unreadBytes += Math.max(0, nominalBytes - zeroBytes - duplicateBytes - newBytes);
      sum.skippedBytes += skipped;
      sum.zeroBytes += zeroBytes - skipped;
      sum.duplicateBytes += duplicateBytes;
      sum.compressedBytes += Math.max(0, newBytes - storedBytes);
    }
  }
  return sum;
}

/** Of what one disk's version left out itself, by the evidence of the engine. */
function skippedBytesOf({ evidence }: PointManifest, diskKey: string): number {
  const disks = field(evidence, 'disks');
  const disk: unknown = Array.isArray(disks) ? disks.find((one) => field(one, 'key') === diskKey) : null;
  const bytes = field(field(disk, 'skipped'), 'bytes');
  return typeof bytes === 'number' && bytes > 0 ? bytes : 0;
}

type PointFacts = Omit<PointsResult['points'][number], 'lockedUntilMs' | 'trash'>;

function describeFate(fate: PointFate | undefined): Pick<PointsResult['points'][number], 'lockedUntilMs' | 'trash'> {
  const deleted = fate?.deleted ?? null;
  const trash =
    deleted === null ? null : { deletedAtMs: deleted.atMs, keepUntilMs: deleted.keepUntilMs, reason: deleted.reason };
  return { lockedUntilMs: fate?.lockedUntilMs ?? null, trash };
}

function describePoint(listing: PointListing): PointFacts {
  const { manifest } = listing;
  if (manifest === null) return describeDamaged(listing);
  const facts = describeManifest(manifest);
  return listing.damage === null ? facts : { ...facts, stateReasons: [...facts.stateReasons, listing.damage] };
}

function describeManifest(manifest: PointManifest): PointFacts {
  const identity = machineIdentitySchema.safeParse(field(manifest.machine, 'identity'));
  const skipped = skippedDisks(manifest);
  const level = field(field(manifest.evidence, 'consistency'), 'level');
  return {
    id: manifest.pointId,
    machineId: manifest.machineId,
    machineName: manifest.machineName,
    createdAtMs: manifest.createdAtMs,
    state: manifest.state,
    stateReasons: manifest.stateReasons,
    consistency: typeof level === 'string' ? level : null,
    sizeBytes: manifest.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0),
    rootHash: manifest.rootHash,
    previousPointId: manifest.previousPointId,
    disks: manifest.disks.map((disk) => {
      const label = field(disk.facts, 'label');
      return {
        key: disk.key,
        label: typeof label === 'string' ? label : disk.key,
        sizeBytes: disk.sizeBytes,
        storedBytes: disk.stats.storedBytes,
        ...(skipped.has(disk.key) ? { hasSkipped: true } : {}),
      };
    }),
    identity: identity.success ? identity.data : null,
  };
}

/** Keys of disks that have zeros where the guest's free space or swap was. */
function skippedDisks({ evidence }: PointManifest): Set<unknown> {
  const disks = field(evidence, 'disks');
  if (!Array.isArray(disks)) return new Set();
  return new Set(disks.filter((disk) => field(disk, 'skipped') !== undefined).map((disk) => field(disk, 'key')));
}

/** A version that cannot be read is shown with its damage, not left out. */
function describeDamaged(listing: PointListing): PointFacts {
  return {
    id: listing.pointId,
    machineId: '',
    machineName: '',
    createdAtMs: 0,
    state: 'damaged',
    stateReasons: [listing.damage ?? 'It cannot be read.'],
    consistency: null,
    sizeBytes: listing.sizeBytes,
    rootHash: null,
    previousPointId: null,
    disks: [],
    identity: null,
  };
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && name in value
    ? (value as Record<string, unknown>)[name]
    : undefined;
}
