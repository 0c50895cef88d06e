import { isAppError } from '../errors/index.ts';
import type { Point, PointListing, PointManifest, Repository } from '../repository/index.ts';
import { releaseMemory } from '../runtime/index.ts';

/** Read and hashed at a time when a disk is known to be damaged, to find every place. */
const PIECE_BYTES = 4 * 1024 * 1024;

export interface VersionProof {
  pointId: string;
  rootHash: string;
  disks: { key: string; rootHash: string; readBytes: number; damages: string[] }[];
  /** Files of the machine's configuration that cannot be read. */
  fileDamages: string[];
  /** Former versions that the root hash proves unchanged, newest first. */
  chain: string[];
  /** A former version whose content is not what this one's root hash names. */
  chainBroken: string | null;
  /** A former version that is not there any more; nothing before it can be proven. */
  chainEnd: string | null;
}

/** Versions whose root hash, or that of one of their disks, is the given one. */
export function findByRoot(
  listings: readonly PointListing[],
  rootHash: string,
): { manifest: PointManifest; diskKey: string | null } | null {
  for (const { manifest } of listings) if (manifest?.rootHash === rootHash) return { manifest, diskKey: null };
  for (const { manifest } of listings) {
    const disk = manifest?.disks.find((one) => one.rootHash === rootHash);
    if (manifest !== null && disk !== undefined) return { manifest, diskKey: disk.key };
  }
  return null;
}

/**
 * Reads every byte of a version against the hashes above it, up to its root hash, and follows the chain of root
 * hashes to the versions before it.
 * @param diskKey only this disk; null: everything
 */
export async function verifyVersion(
  repository: Repository,
  point: Point,
  options: {
    diskKey: string | null;
    listings: readonly PointListing[];
    signal: AbortSignal;
    read(bytes: number): void;
  },
): Promise<VersionProof> {
  const { manifest } = point;
  const proof: VersionProof = {
    pointId: manifest.pointId,
    rootHash: manifest.rootHash,
    disks: [],
    fileDamages: [],
    chain: [],
    chainBroken: null,
    chainEnd: null,
  };
  for (const { key, rootHash } of manifest.disks) {
    if (options.diskKey !== null && key !== options.diskKey) continue;
    proof.disks.push({ key, rootHash, ...(await verifyDisk(point, key, options)) });
  }
  if (options.diskKey !== null) return proof;
  for (const { name } of point.listFiles()) {
    try {
      await point.readFile(name);
    } catch (error) {
      if (!isAppError(error)) throw error;
      proof.fileDamages.push(`${name}: ${error.message}`);
    }
  }
  followChain(proof, manifest, new Map(options.listings.map((listing) => [listing.pointId, listing])));
  return proof;
}

function followChain(proof: VersionProof, manifest: PointManifest, known: ReadonlyMap<string, PointListing>): void {
  let later = manifest;
  while (later.previousPointId !== null && later.previousRootHash !== null) {
    const listing = known.get(later.previousPointId);
    if (listing === undefined) {
      proof.chainEnd = later.previousPointId;
      return;
    }
    const former = listing.manifest;
    if (former === null || former.rootHash !== later.previousRootHash) {
      proof.chainBroken = later.previousPointId;
      return;
    }
    proof.chain.push(former.pointId);
    later = former;
  }
}

async function verifyDisk(
  point: Point,
  key: string,
  options: { signal: AbortSignal; read(bytes: number): void },
): Promise<{ readBytes: number; damages: string[] }> {
  let readBytes = 0;
  const disk = await point.openDisk(key);
  try {
    for await (const { data } of disk.stream({ signal: options.signal })) {
      readBytes += data.length;
      options.read(data.length);
      releaseMemory(data);
    }
    return { readBytes, damages: [] };
  } catch (error) {
    if (!isAppError(error) || error.code === 'CANCELLED') throw error;
  }
  // The stream ends at the first damage; which others there are is worth a slower look.
  const damages: string[] = [];
  for (let at = 0; at < disk.sizeBytes; at += PIECE_BYTES) {
    options.signal.throwIfAborted();
    const end = Math.min(at + PIECE_BYTES, disk.sizeBytes);
    await findDamages(disk, at, end, damages);
  }
  return { readBytes, damages };
}

/** Halves a range that cannot be read until every piece is as small as the least chunk. */
async function findDamages(
  disk: Awaited<ReturnType<Point['openDisk']>>,
  from: number,
  to: number,
  damages: string[],
): Promise<void> {
  const leastBytes = 64 * 1024;
  try {
    await disk.read(from, to - from);
  } catch (error) {
    if (!isAppError(error)) throw error;
    if (to - from <= leastBytes) {
      const last = damages.at(-1);
      const text = `${error.message} (bytes ${from} to ${to})`;
      if (last === undefined || !last.startsWith(error.message)) damages.push(text);
      return;
    }
    const middle = from + Math.max(leastBytes, Math.floor((to - from) / 2 / leastBytes) * leastBytes);
    await findDamages(disk, from, middle, damages);
    await findDamages(disk, middle, to, damages);
  }
}
