import { existsSync, readdirSync, rmSync } from 'node:fs';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { basename, dirname, join } from 'node:path';
import { CowdLayer } from '../disks/cowd-layer.ts';
import { type Descriptor, readDescriptor, sectorsOf, writeDescriptor } from '../disks/descriptor.ts';
import { DiskChain, readLinks, type ResolvePath } from '../disks/disk-chain.ts';
import { SeSparseLayer } from '../disks/sesparse-layer.ts';

const MERGE_CHUNK_BYTES = 1024 * 1024;

/** Extent files of a descriptor on this machine. */
export function extentPaths(path: string, descriptor: Descriptor, resolve: ResolvePath): string[] {
  return descriptor.extents.map(({ fileName }) =>
    fileName.startsWith('/') ? resolve(fileName) : join(dirname(path), fileName),
  );
}

/** `a-000002.vmdk` → `a`. */
export function baseStem(path: string): string {
  return basename(path)
    .replace(/\.vmdk$/, '')
    .replace(/-\d{6}$/, '');
}

/** The first free `<stem>-NNNNNN.vmdk` in the folder. */
export function nextLayerPath(top: string): string {
  const stem = baseStem(top);
  const folder = dirname(top);
  const used = readdirSync(folder).flatMap((name) => {
    const match = /-(\d{6})\.vmdk$/.exec(name);
    return match !== null && name === `${stem}-${match[1]}.vmdk` ? [Number(match[1])] : [];
  });
  let next = 1;
  while (used.includes(next)) next += 1;
  return join(folder, `${stem}-${String(next).padStart(6, '0')}.vmdk`);
}

/**
 * Makes an empty layer over a disk. Its content id is the parent's until the first write.
 * @param kind seSparse on VMFS-6, vmfsSparse elsewhere
 */
export function createLayer(parent: string, kind: 'seSparse' | 'vmfsSparse', tracked: boolean): string {
  const path = nextLayerPath(parent);
  const below = readDescriptor(parent);
  const sectors = sectorsOf(below);
  const stem = basename(path, '.vmdk');
  const fileName = `${stem}-${kind === 'seSparse' ? 'sesparse' : 'delta'}.vmdk`;
  if (kind === 'seSparse') SeSparseLayer.create(join(dirname(path), fileName), sectors);
  else CowdLayer.create(join(dirname(path), fileName), sectors);
  const ddb: Record<string, string> = { 'ddb.longContentID': below.ddb['ddb.longContentID'] ?? '' };
  if (kind === 'seSparse') ddb['ddb.grain'] = '8';
  writeDescriptor(path, {
    cid: below.cid,
    parentCid: below.cid,
    createType: kind,
    parentFileNameHint: basename(parent),
    extents: [{ sectors, type: kind === 'seSparse' ? 'SESPARSE' : 'VMFSSPARSE', fileName, offsetSectors: 0 }],
    changeTrackPath: tracked ? `${stem}-ctk.vmdk` : null,
    ddb,
  });
  return path;
}

/** Removes a disk's or layer's descriptor, data and change tracking file. */
export function deleteLayer(path: string, resolve: ResolvePath): void {
  if (!existsSync(path)) return;
  const descriptor = readDescriptor(path);
  for (const extent of extentPaths(path, descriptor, resolve)) rmSync(extent, { force: true });
  rmSync(path.replace(/\.vmdk$/, '-ctk.vmdk'), { force: true });
  rmSync(path, { force: true });
}

/** Every layer that the given tops stand on, with the layers that stand on it. */
export function layersBelow(tops: readonly string[], resolve: ResolvePath): Map<string, Set<string>> {
  const children = new Map<string, Set<string>>();
  for (const top of tops) {
    let child: string | null = null;
    for (const { path } of readLinks(top, resolve)) {
      const known: Set<string> = children.get(path) ?? new Set();
      if (child !== null) known.add(child);
      children.set(path, known);
      child = path;
    }
  }
  return children;
}

export interface MergeOptions {
  resolve: ResolvePath;
  /** Null: as fast as it goes. */
  bytesPerSecond: number | null;
  progress(doneBytes: number, totalBytes: number): void;
}

/**
 * Copies what a layer holds into its parent, gives the parent the layer's content id and hangs the
 * layers above onto the parent. The view from above does not change at any time. The layer's files
 * stay; nobody may write into either meanwhile.
 */
export async function mergeIntoParent(child: string, above: readonly string[], options: MergeOptions): Promise<string> {
  const parent = parentOf(child, options.resolve);
  const source = DiskChain.open(child, options.resolve);
  const target = DiskChain.open(parent, options.resolve, true);
  try {
    const runs = source.top.layer.allocatedRuns() ?? [];
    const totalBytes = runs.reduce((sum, run) => sum + run.lengthBytes, 0);
    const startedMs = performance.now();
    let doneBytes = 0;
    for (const run of runs) {
      for (let at = run.offsetBytes; at < run.offsetBytes + run.lengthBytes; at += MERGE_CHUNK_BYTES) {
        const length = Math.min(MERGE_CHUNK_BYTES, run.offsetBytes + run.lengthBytes - at);
        target.write(at, source.read(at, length));
        doneBytes += length;
        if (options.bytesPerSecond !== null) {
          const aheadMs = (doneBytes / options.bytesPerSecond) * 1000 - (performance.now() - startedMs);
          if (aheadMs > 5) await delay(aheadMs);
        }
        options.progress(doneBytes, totalBytes);
        await nextTurn();
      }
    }
  } finally {
    source.close();
    target.close();
  }
  adopt(child, parent, above);
  return parent;
}

/** The same at once, for the last step during which the guest stands still. */
export function mergeIntoParentNow(child: string, resolve: ResolvePath): string {
  const parent = parentOf(child, resolve);
  const source = DiskChain.open(child, resolve);
  const target = DiskChain.open(parent, resolve, true);
  try {
    for (const run of source.top.layer.allocatedRuns() ?? []) {
      for (let at = run.offsetBytes; at < run.offsetBytes + run.lengthBytes; at += MERGE_CHUNK_BYTES) {
        const length = Math.min(MERGE_CHUNK_BYTES, run.offsetBytes + run.lengthBytes - at);
        target.write(at, source.read(at, length));
      }
    }
  } finally {
    source.close();
    target.close();
  }
  adopt(child, parent, []);
  return parent;
}

/** Bytes held by a layer itself. */
export function layerBytes(path: string, resolve: ResolvePath): number {
  const chain = DiskChain.open(path, resolve);
  try {
    return (chain.top.layer.allocatedRuns() ?? []).reduce((sum, run) => sum + run.lengthBytes, 0);
  } finally {
    chain.close();
  }
}

function parentOf(child: string, resolve: ResolvePath): string {
  const parent = readLinks(child, resolve)[1];
  if (parent === undefined) throw new Error(`${child} has no parent`);
  return parent.path;
}

function adopt(child: string, parent: string, above: readonly string[]): void {
  const from = readDescriptor(child);
  const into = readDescriptor(parent);
  into.cid = from.cid;
  const long = into.ddb['ddb.longContentID'];
  if (long !== undefined) into.ddb['ddb.longContentID'] = long.slice(0, 24) + from.cid;
  writeDescriptor(parent, into);
  for (const path of above) {
    const descriptor = readDescriptor(path);
    descriptor.parentFileNameHint = dirname(path) === dirname(parent) ? basename(parent) : parent;
    writeDescriptor(path, descriptor);
  }
}
