import { existsSync, read } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { CowdLayer } from './cowd-layer.ts';
import { type Descriptor, readDescriptor, sectorsOf } from './descriptor.ts';
import { FlatLayer, type Layer, type Piece, readFully } from './layer.ts';
import { mapFile } from './map-file.ts';
import { SeSparseLayer } from './sesparse-layer.ts';

const readAsync = promisify(read);

export interface ChainLink {
  /** Of the descriptor, on this machine. */
  path: string;
  descriptor: Descriptor;
  /** Of the data, on this machine. */
  extentPaths: string[];
  layer: Layer;
}

export interface Run {
  offsetBytes: number;
  lengthBytes: number;
}

/** Turns a path as the host writes it into one of this machine. */
export type ResolvePath = (path: string) => string;

export class ChainError extends Error {
  readonly kind: 'missing' | 'parent-modified' | 'unsupported';
  readonly path: string;

  constructor(kind: ChainError['kind'], path: string, message: string) {
    super(message);
    this.kind = kind;
    this.path = path;
  }
}

/** Descriptors of a disk from its top layer to its base, without opening data. */
export function readLinks(top: string, resolve: ResolvePath): { path: string; descriptor: Descriptor }[] {
  const links: { path: string; descriptor: Descriptor }[] = [];
  for (let path = top; ;) {
    if (!existsSync(path)) throw new ChainError('missing', path, `${path} is missing`);
    const descriptor = readDescriptor(path);
    const child = links.at(-1);
    if (child !== undefined && child.descriptor.parentCid !== descriptor.cid) {
      throw new ChainError('parent-modified', path, 'the parent was modified since the child was created');
    }
    links.push({ path, descriptor });
    const hint = descriptor.parentFileNameHint;
    if (hint === null) return links;
    if (links.length > 255) throw new ChainError('unsupported', path, 'the chain has no end');
    path = hint.startsWith('/') ? resolve(hint) : join(dirname(path), hint);
  }
}

/** A disk as the guest sees it: the newest layer's word counts. */
export class DiskChain {
  readonly sizeBytes: number;
  /** Top first. */
  readonly links: ChainLink[];

  private constructor(links: ChainLink[]) {
    this.links = links;
    this.sizeBytes = links[0]?.layer.sizeBytes ?? 0;
  }

  /** @param writable the top layer is opened for writing, the others never */
  static open(top: string, resolve: ResolvePath, writable = false): DiskChain {
    const links: ChainLink[] = [];
    try {
      for (const { path, descriptor } of readLinks(top, resolve)) {
        const extentPaths = descriptor.extents.map(({ fileName }) =>
          fileName.startsWith('/') ? resolve(fileName) : join(dirname(path), fileName),
        );
        const layer = openLayer(descriptor, extentPaths, writable && links.length === 0);
        links.push({ path, descriptor, extentPaths, layer });
      }
    } catch (error) {
      for (const link of links) link.layer.close();
      throw error;
    }
    return new DiskChain(links);
  }

  get top(): ChainLink {
    const link = this.links[0];
    if (link === undefined) throw new Error('an empty chain');
    return link;
  }

  read(offsetBytes: number, lengthBytes: number): Buffer {
    const buffer = Buffer.alloc(lengthBytes);
    for (const piece of this.#pieces(offsetBytes, lengthBytes)) {
      const at = piece.offsetBytes - offsetBytes;
      readFully(piece.file, buffer.subarray(at, at + piece.lengthBytes), piece.positionBytes);
    }
    return buffer;
  }

  /** The same without holding up the daemon; `buffer` is filled and must be zero before. */
  async readInto(buffer: Buffer, offsetBytes: number): Promise<void> {
    for (const piece of this.#pieces(offsetBytes, buffer.length)) {
      const at = piece.offsetBytes - offsetBytes;
      for (let done = 0; done < piece.lengthBytes;) {
        const { bytesRead } = await readAsync(
          piece.file,
          buffer,
          at + done,
          piece.lengthBytes - done,
          piece.positionBytes + done,
        );
        if (bytesRead === 0) break;
        done += bytesRead;
      }
    }
  }

  /** Writes into the top layer; grains that are only partly covered are completed from below. */
  write(offsetBytes: number, data: Uint8Array): void {
    const grain = this.top.layer.grainBytes;
    const end = offsetBytes + data.length;
    const from = Math.floor(offsetBytes / grain) * grain;
    const to = Math.min(Math.ceil(end / grain) * grain, this.sizeBytes);
    if (from === offsetBytes && to === end) {
      this.top.layer.write(offsetBytes, data);
      return;
    }
    const whole = this.read(from, to - from);
    whole.set(data, offsetBytes - from);
    this.top.layer.write(from, whole);
  }

  /** Everything that was ever written, ascending and disjoint; the rest reads as zero. */
  async allocatedRuns(mapTool: string): Promise<Run[]> {
    const all: Run[] = [];
    for (const { layer, extentPaths } of this.links) {
      const runs = layer.allocatedRuns();
      if (runs !== null) all.push(...runs);
      else if (extentPaths[0] !== undefined) all.push(...(await mapFile(mapTool, extentPaths[0])));
    }
    return mergeRuns(all, this.sizeBytes);
  }

  close(): void {
    for (const link of this.links) link.layer.close();
  }

  #pieces(offsetBytes: number, lengthBytes: number): Piece[] {
    const found: Piece[] = [];
    let open: { offsetBytes: number; lengthBytes: number }[] = [{ offsetBytes, lengthBytes }];
    for (const { layer } of this.links) {
      const below: { offsetBytes: number; lengthBytes: number }[] = [];
      for (const range of open) {
        for (const piece of layer.locate(range.offsetBytes, range.lengthBytes)) {
          if (piece.kind === 'data') found.push(piece);
          else if (piece.kind === 'parent') below.push(piece);
        }
      }
      open = below;
      if (open.length === 0) break;
    }
    return found;
  }
}

/** Runs in order, overlaps joined, clipped to the disk. */
export function mergeRuns(runs: readonly Run[], sizeBytes: number): Run[] {
  const merged: Run[] = [];
  for (const run of [...runs].sort((a, b) => a.offsetBytes - b.offsetBytes)) {
    const end = Math.min(run.offsetBytes + run.lengthBytes, sizeBytes);
    const last = merged.at(-1);
    if (last !== undefined && run.offsetBytes <= last.offsetBytes + last.lengthBytes) {
      last.lengthBytes = Math.max(last.lengthBytes, end - last.offsetBytes);
    } else if (end > run.offsetBytes) {
      merged.push({ offsetBytes: run.offsetBytes, lengthBytes: end - run.offsetBytes });
    }
  }
  return merged;
}

function openLayer(descriptor: Descriptor, extentPaths: string[], writable: boolean): Layer {
  const extent = descriptor.extents[0];
  const path = extentPaths[0];
  if (extent === undefined || path === undefined || descriptor.extents.length !== 1) {
    throw new ChainError('unsupported', path ?? '', 'a disk of several extents');
  }
  if (!existsSync(path)) throw new ChainError('missing', path, `${path} is missing`);
  switch (extent.type) {
    case 'VMFS':
    case 'VMFSRDM':
    case 'FLAT':
      return new FlatLayer(path, sectorsOf(descriptor) * 512, writable, extent.offsetSectors * 512);
    case 'VMFSSPARSE':
      return new CowdLayer(path, writable);
    case 'SESPARSE':
      return new SeSparseLayer(path, writable);
    default:
      throw new ChainError('unsupported', path, `an extent of type ${extent.type}`);
  }
}
