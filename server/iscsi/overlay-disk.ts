import { constants } from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { crc32c, type DiskReader } from '../disk/index.ts';
import { AppError } from '../errors/index.ts';
import { KIB } from '../runtime/index.ts';
import type { BackingDisk } from './backing-disk.ts';
import { readFully, writeFully } from './file-disk.ts';
import { ReadAheadReader } from './read-ahead-disk.ts';

/*
 * The file of an overlay, little endian:
 *
 *   0      header: magic, version, disk size, grain size, identity of the base, checksum (4 KiB)
 *   4 KiB  the boot during which the live map was written (4 KiB)
 *   8 KiB  durable map, two bits a grain, whole 4 KiB
 *   ...    live map, as long
 *   ...    grains, each at its place: the file is sparse
 *
 * The live map is written with every change and survives the death of the process; the durable map is written after
 * the grains it speaks of were synced and survives the loss of power. Which of them counts is decided by the boot id:
 * another one means that unsynced pages are gone, and the live map may speak of grains that never got to the disk.
 */

const MAGIC = Buffer.from('DOZOVRLY', 'latin1');
const VERSION = 1;
const PAGE_BYTES = 4 * KIB;
const GRAIN_BYTES = 64 * KIB;
const GRAINS_A_PAGE = PAGE_BYTES * 4;
const BOOT_ID_BYTES = 36;

/** Where a grain's bytes are. */
const STATE = { base: 0, own: 1, zero: 2 } as const;

export interface OverlayOptions {
  /** The overlay's file; made when it is not there. */
  path: string;
  /** What is read where nothing was written. Stays open when the overlay is closed. */
  base: DiskReader;
  /** Names the base, at most 128 bytes: an overlay opens over the base that it was made for only. */
  baseIdentity: string;
}

/**
 * A writable disk over one that stays as it is. What a resolved `flush` covered survives the loss of power, what a
 * resolved `write` covered the death of the process.
 * @throws INPUT_INVALID when the file is not the overlay of that base
 */
export async function openOverlayDisk(options: OverlayOptions): Promise<BackingDisk> {
  const bootId = await currentBootId();
  const { file, isNew } = await openOrCreate(options.path);
  try {
    const overlay = new OverlayDisk(file, options.base);
    if (isNew) await overlay.format(options.baseIdentity, bootId);
    else await overlay.load(options, bootId);
    return overlay;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openOrCreate(path: string): Promise<{ file: FileHandle; isNew: boolean }> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  const { size } = await file.stat();
  if (size < PAGE_BYTES) return { file, isNew: true };
  // A header that never got to the disk: nothing in the overlay can have been flushed.
  return { file, isNew: (await readFully(file.fd, 0, PAGE_BYTES)).equals(Buffer.alloc(PAGE_BYTES)) };
}

/** Null where the system has none: then only what was flushed counts after any end of the process. */
async function currentBootId(): Promise<string | null> {
  const text = await readFile('/proc/sys/kernel/random/boot_id', 'latin1').catch(() => '');
  return text.trim().length === BOOT_ID_BYTES ? text.trim() : null;
}

class OverlayDisk implements BackingDisk {
  readonly sizeBytes: number;
  readonly writable = true;
  readonly #file: FileHandle;
  readonly #base: ReadAheadReader;
  readonly #map: Buffer;
  readonly #dirtyPages = new Set<number>();
  readonly #dataStart: number;
  /** Changes of one grain come one after the other. */
  readonly #changing = new Map<number, Promise<void>>();
  #flushing: Promise<void> = Promise.resolve();

  constructor(file: FileHandle, base: DiskReader) {
    this.#file = file;
    this.#base = new ReadAheadReader(base);
    this.sizeBytes = base.sizeBytes;
    const pages = Math.ceil(Math.ceil(base.sizeBytes / GRAIN_BYTES) / GRAINS_A_PAGE);
    this.#map = Buffer.alloc(pages * PAGE_BYTES);
    this.#dataStart = 2 * PAGE_BYTES + 2 * this.#map.length;
  }

  async format(baseIdentity: string, bootId: string | null): Promise<void> {
    await this.#file.truncate(0);
    await this.#file.truncate(this.#dataStart + Math.ceil(this.sizeBytes / GRAIN_BYTES) * GRAIN_BYTES);
    await writeFully(this.#file.fd, 0, this.#header(baseIdentity));
    await this.#writeBootId(bootId);
    await this.#file.sync();
  }

  async load({ path, baseIdentity }: OverlayOptions, bootId: string | null): Promise<void> {
    const found = await readFully(this.#file.fd, 0, PAGE_BYTES);
    if (!found.equals(this.#header(baseIdentity)))
      throw new AppError('INPUT_INVALID', `${path} is not an overlay over ${baseIdentity}.`, {
        hint: 'Remove the file to begin anew; what was written to it is lost then.',
      });
    const written = await readFully(this.#file.fd, PAGE_BYTES, BOOT_ID_BYTES);
    const isSameBoot = bootId !== null && written.toString('latin1') === bootId;
    const mapStart = isSameBoot ? this.#liveStart : 2 * PAGE_BYTES;
    (await readFully(this.#file.fd, mapStart, this.#map.length)).copy(this.#map);
    if (isSameBoot) {
      // Not known which of its pages differ from the durable map: all are written at the next flush.
      for (let page = 0; page < this.#map.length / PAGE_BYTES; page += 1) this.#dirtyPages.add(page);
      return;
    }
    await writeFully(this.#file.fd, this.#liveStart, this.#map);
    await this.#file.datasync();
    await this.#writeBootId(bootId);
    await this.#file.datasync();
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const parts: Promise<Buffer>[] = [];
    let at = offsetBytes;
    const end = offsetBytes + lengthBytes;
    while (at < end) {
      const state = this.#state(Math.floor(at / GRAIN_BYTES));
      let runEnd = at;
      do runEnd = Math.min(end, (Math.floor(runEnd / GRAIN_BYTES) + 1) * GRAIN_BYTES);
      while (runEnd < end && this.#state(Math.floor(runEnd / GRAIN_BYTES)) === state);
      parts.push(this.#readRun(state, at, runEnd - at));
      at = runEnd;
    }
    return parts.length === 1 ? (parts[0] as Promise<Buffer>) : Buffer.concat(await Promise.all(parts));
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    await this.#eachGrain(offsetBytes, data.length, async (grain, start, end) => {
      const piece = data.subarray(start - offsetBytes, end - offsetBytes);
      const state = this.#state(grain);
      if (state !== STATE.own && piece.length < this.#lengthOf(grain)) {
        const whole = Buffer.from(await this.#readRun(state, grain * GRAIN_BYTES, this.#lengthOf(grain)));
        piece.copy(whole, start - grain * GRAIN_BYTES);
        await writeFully(this.#file.fd, this.#dataStart + grain * GRAIN_BYTES, whole);
      } else await writeFully(this.#file.fd, this.#dataStart + start, piece);
      await this.#setState(grain, STATE.own);
    });
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    const zeros = Buffer.alloc(GRAIN_BYTES);
    await this.#eachGrain(offsetBytes, lengthBytes, async (grain, start, end) => {
      if (this.#state(grain) === STATE.zero) return;
      if (end - start === this.#lengthOf(grain)) {
        await this.#setState(grain, STATE.zero);
        return;
      }
      if (this.#state(grain) !== STATE.own) {
        const whole = Buffer.from(await this.#readRun(STATE.base, grain * GRAIN_BYTES, this.#lengthOf(grain)));
        whole.fill(0, start - grain * GRAIN_BYTES, end - grain * GRAIN_BYTES);
        await writeFully(this.#file.fd, this.#dataStart + grain * GRAIN_BYTES, whole);
      } else await writeFully(this.#file.fd, this.#dataStart + start, zeros.subarray(0, end - start));
      await this.#setState(grain, STATE.own);
    });
  }

  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.zero(offsetBytes, lengthBytes);
  }

  flush(): Promise<void> {
    // One after the other: a page must not get into the durable map before its grains are synced.
    const flushing = this.#flushing.catch(() => undefined).then(() => this.#flush());
    this.#flushing = flushing;
    return flushing;
  }

  async close(): Promise<void> {
    await this.flush();
    await this.#file.close();
  }

  async #flush(): Promise<void> {
    const pages = [...this.#dirtyPages].map((page) => ({
      page,
      // As it is now: what changes meanwhile is not covered by the sync that follows.
      content: Buffer.from(this.#map.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)),
    }));
    this.#dirtyPages.clear();
    try {
      await this.#file.datasync();
      if (pages.length === 0) return;
      for (const { page, content } of pages)
        await writeFully(this.#file.fd, 2 * PAGE_BYTES + page * PAGE_BYTES, content);
      await this.#file.datasync();
    } catch (error) {
      for (const { page } of pages) this.#dirtyPages.add(page);
      throw error;
    }
  }

  get #liveStart(): number {
    return 2 * PAGE_BYTES + this.#map.length;
  }

  #readRun(state: number, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    if (state === STATE.zero) return Promise.resolve(Buffer.alloc(lengthBytes));
    if (state === STATE.base) return this.#base.read(offsetBytes, lengthBytes);
    return readFully(this.#file.fd, this.#dataStart + offsetBytes, lengthBytes);
  }

  async #eachGrain(
    offsetBytes: number,
    lengthBytes: number,
    work: (grain: number, start: number, end: number) => Promise<void>,
  ): Promise<void> {
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end;) {
      const grain = Math.floor(at / GRAIN_BYTES);
      const start = at;
      at = Math.min(end, (grain + 1) * GRAIN_BYTES);
      const stop = at;
      const before = this.#changing.get(grain);
      const change = (before ?? Promise.resolve()).catch(() => undefined).then(() => work(grain, start, stop));
      this.#changing.set(grain, change);
      try {
        await change;
      } finally {
        if (this.#changing.get(grain) === change) this.#changing.delete(grain);
      }
    }
  }

  #state(grain: number): number {
    return (this.#map.readUInt8(grain >> 2) >> ((grain & 3) * 2)) & 3;
  }

  async #setState(grain: number, state: number): Promise<void> {
    if (this.#state(grain) === state) return;
    const at = grain >> 2;
    const shift = (grain & 3) * 2;
    this.#map[at] = (this.#map.readUInt8(at) & ~(3 << shift)) | (state << shift);
    this.#dirtyPages.add(Math.floor(at / PAGE_BYTES));
    await writeFully(this.#file.fd, this.#liveStart + at, this.#map.subarray(at, at + 1));
  }

  #lengthOf(grain: number): number {
    return Math.min(GRAIN_BYTES, this.sizeBytes - grain * GRAIN_BYTES);
  }

  #header(baseIdentity: string): Buffer {
    const header = Buffer.alloc(PAGE_BYTES);
    MAGIC.copy(header);
    header.writeUInt32LE(VERSION, 8);
    header.writeBigUInt64LE(BigInt(this.sizeBytes), 16);
    header.writeUInt32LE(GRAIN_BYTES, 24);
    const name = Buffer.from(baseIdentity, 'utf8');
    if (name.length > 128) throw new AppError('INPUT_INVALID', 'The name of an overlay base is too long.');
    header.writeUInt32LE(name.length, 28);
    name.copy(header, 32);
    header.writeUInt32LE(crc32c(header.subarray(0, PAGE_BYTES - 4)), PAGE_BYTES - 4);
    return header;
  }

  async #writeBootId(bootId: string | null): Promise<void> {
    await writeFully(this.#file.fd, PAGE_BYTES, Buffer.from((bootId ?? '').padEnd(BOOT_ID_BYTES, '-'), 'latin1'));
  }
}
