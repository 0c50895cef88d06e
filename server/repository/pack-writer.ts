import { randomBytes, type KeyObject } from 'node:crypto';
import { assert } from '../errors/index.ts';
import type { Storage, StorageWriter } from '../storage/index.ts';
import type { EncodedChunk } from './chunk-codec.ts';
import { derivePackKey, type RepositoryKeys } from './keys.ts';
import { PACK_ID_BYTES, PACK_ROWS_MAX, PACK_TARGET_BYTES, packName } from './layout.ts';
import {
  encodePackHeader,
  encodePackRow,
  encodePackTrailer,
  PACK_HEADER_BYTES,
  PACK_ROW_BYTES,
  PackTable,
  type PackKind,
} from './pack-format.ts';

export interface PackAddition {
  row: number;
  id: Buffer;
  plainLength: number;
  chunk: EncodedChunk;
}

/**
 * One pack in the making. A row is reserved before its chunk is encoded (the row is the nonce); chunks
 * arrive in any order and lie in the file as they arrive.
 */
export class PackWriter {
  readonly packId: string = randomBytes(PACK_ID_BYTES).toString('hex');
  readonly packKey: KeyObject | null;
  readonly #kind: PackKind;
  readonly #storage: Storage;
  readonly #keyId: Buffer | null;
  #rows = 0;
  #appended = 0;
  #bytes = PACK_HEADER_BYTES;
  #table = Buffer.alloc(256 * PACK_ROW_BYTES);
  #writer: StorageWriter | null = null;
  #queue: Promise<void> = Promise.resolve();
  #complete: (() => void) | null = null;

  constructor(storage: Storage, kind: PackKind, keys: RepositoryKeys | null) {
    this.#storage = storage;
    this.#kind = kind;
    this.#keyId = keys?.keyId ?? null;
    this.packKey = keys === null ? null : derivePackKey(keys, Buffer.from(this.packId, 'hex'));
  }

  get rowCount(): number {
    return this.#rows;
  }

  get isFull(): boolean {
    return this.#bytes >= PACK_TARGET_BYTES;
  }

  hasRoomFor(rows: number): boolean {
    return this.#rows + rows <= PACK_ROWS_MAX;
  }

  /** The first of `count` rows that must all be appended before the pack can be published. */
  reserve(count: number): number {
    assert(this.hasRoomFor(count), 'a pack has a limited number of rows');
    const first = this.#rows;
    this.#rows += count;
    const needed = this.#rows * PACK_ROW_BYTES;
    if (needed > this.#table.length) {
      this.#table = Buffer.concat([
        this.#table,
        Buffer.alloc(Math.max(needed, this.#table.length * 2) - this.#table.length),
      ]);
    }
    return first;
  }

  /** Resolves when the chunks' buffers may be used again. */
  async append(additions: readonly PackAddition[]): Promise<void> {
    const turn = this.#queue.then(() => this.#append(additions));
    // A failure reaches the caller of this turn; later turns fail by themselves on the broken file.
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #append(additions: readonly PackAddition[]): Promise<void> {
    const buffers: Buffer[] = [];
    if (this.#writer === null) {
      this.#writer = await this.#storage.create(packName(this.packId));
      buffers.push(encodePackHeader(this.packId, this.#kind, this.#keyId));
    }
    let bytes = this.#bytes;
    for (const { row, id, plainLength, chunk } of additions) {
      const { codec, stored, crc } = chunk;
      encodePackRow({ id, offsetBytes: bytes, storedLength: stored.length, plainLength, crc, codec }, this.#table, row);
      buffers.push(stored);
      bytes += stored.length;
    }
    await this.#writer.append(buffers);
    this.#bytes = bytes;
    this.#appended += additions.length;
    if (this.#appended === this.#rows) this.#complete?.();
  }

  /** No row may be reserved after the call. */
  async publish(): Promise<PackTable> {
    if (this.#appended < this.#rows) {
      await new Promise<void>((resolve) => {
        this.#complete = resolve;
      });
    }
    await this.#queue;
    assert(this.#writer !== null, 'an empty pack is not published');
    const table = new PackTable(
      this.packId,
      this.#kind,
      this.#bytes,
      this.#table.subarray(0, this.#rows * PACK_ROW_BYTES),
    );
    await this.#writer.append([table.bytes, encodePackTrailer(table)]);
    await this.#writer.publish();
    return table;
  }

  async discard(): Promise<void> {
    await this.#queue;
    await this.#writer?.discard();
  }
}
