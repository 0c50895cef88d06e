import { descriptorSizeBytes, parseVmdkDescriptor, type VmdkDescriptor } from '../../disk/index.ts';
import { AppError } from '../../errors/index.ts';
import { formatDatastorePath, folderOf, type DatastoreMap, type DatastorePath } from './datastore-path.ts';
import type { HostShell } from './host-shell.ts';

/** One file of a disk's chain: the descriptor and the data it names. */
export interface DiskLayer {
  path: DatastorePath;
  content: Buffer;
  descriptor: VmdkDescriptor;
  /** The data files, in the descriptor's order; null where the extent has none on a datastore. */
  extentPaths: (DatastorePath | null)[];
}

/** ESXi allows 32 snapshots; a longer chain is a loop. */
const LAYERS_MAX = 64;

/**
 * The layers of a disk from the given tip down to its base.
 * @throws DISK_DESCRIPTOR_INVALID, NOT_FOUND
 */
export async function readChain(
  host: HostShell,
  datastores: DatastoreMap,
  tip: DatastorePath,
  signal?: AbortSignal,
): Promise<DiskLayer[]> {
  const layers: DiskLayer[] = [];
  const seen = new Set<string>();
  for (let next: DatastorePath | null = tip; next !== null;) {
    const id = formatDatastorePath(next);
    if (seen.has(id) || layers.length >= LAYERS_MAX) throw loop(id);
    seen.add(id);
    const layer: DiskLayer = await readLayer(host, datastores, next, signal);
    layers.push(layer);
    const hint: string | null = layer.descriptor.parentFileNameHint;
    next = hint === null ? null : datastores.resolve(folderPath(next), hint);
  }
  const [top] = layers;
  if (top !== undefined && layers.some((layer) => sizeOf(layer) !== sizeOf(top))) {
    throw new AppError('DISK_DESCRIPTOR_INVALID', `The layers of ${formatDatastorePath(tip)} differ in size.`, {
      hint: 'Check the chain on the host with "vmkfstools -e"; the disk was changed beside its snapshots.',
      details: { disk: formatDatastorePath(tip) },
    });
  }
  return layers;
}

export function folderPath(file: DatastorePath): DatastorePath {
  return { datastore: file.datastore, file: folderOf(file.file) };
}

async function readLayer(
  host: HostShell,
  datastores: DatastoreMap,
  path: DatastorePath,
  signal?: AbortSignal,
): Promise<DiskLayer> {
  const content = await host.readFile(datastores.toShell(path), signal);
  const descriptor = parseVmdkDescriptor(content);
  const extentPaths = descriptor.extents.map(({ fileName }) =>
    fileName === null || fileName.includes('://') ? null : datastores.resolve(folderPath(path), fileName),
  );
  return { path, content, descriptor, extentPaths };
}

function sizeOf(layer: DiskLayer): number {
  return descriptorSizeBytes(layer.descriptor);
}

function loop(path: string): AppError {
  return new AppError('DISK_DESCRIPTOR_INVALID', `The layers of ${path} lead back to themselves.`, {
    hint: 'Check the chain on the host with "vmkfstools -e".',
    details: { disk: path },
  });
}
