import { ID_BYTES } from './layout.ts';
import { PACK_ROW_BYTES, type PackTable } from './pack-format.ts';

/** Where a chunk may lie: a candidate, since the index keeps 64 of its identity's 256 bits. */
export interface ChunkCandidate {
  pack: number;
  row: number;
}

const PARTITIONS = 256;
/** Slots grow by a quarter when more than 0.85 are taken: 14 bytes a slot make 16.5 to 20.6 a chunk. */
const LOAD_MAX = 0.85;
const GROWTH = 1.25;
const SLOTS_MIN = 16;
/** Value of `packs` in a free slot. */
const FREE = 0xffff_ffff;

/**
 * Which pack and row may hold a chunk, for tens of millions of chunks in little memory: open addressing
 * with linear probing in typed arrays, in 256 parts by the first byte so that growing copies a 256th at
 * a time. 8 bytes of the identity are kept; a candidate must be confirmed in the pack's own table
 * (`PackCatalog.locate`) before anything builds on it.
 */
export class ChunkIndex {
  readonly #parts: Part[] = [];
  #size = 0;

  constructor() {
    for (let part = 0; part < PARTITIONS; part += 1) this.#parts.push(makePart(SLOTS_MIN));
  }

  get size(): number {
    return this.#size;
  }

  get memoryBytes(): number {
    return this.#parts.reduce((sum, part) => sum + part.packs.length * 14, 0);
  }

  /** Makes room for so many more chunks at once: growing step by step copies each of them four times. */
  reserve(chunks: number): void {
    for (const [number, part] of this.#parts.entries()) {
      const slots = Math.ceil((part.used + (chunks * 1.02) / PARTITIONS) / LOAD_MAX);
      if (chunks > PARTITIONS * SLOTS_MIN && slots > part.packs.length) this.#parts[number] = resized(part, slots);
    }
  }

  insertTable(pack: number, table: PackTable): void {
    for (let row = 0; row < table.rowCount; row += 1) {
      this.#insert(table.bytes, row * PACK_ROW_BYTES, pack, row);
    }
  }

  insert(id: Buffer, pack: number, row: number): void {
    this.#insert(id, 0, pack, row);
  }

  /** Every place that may hold the chunk; more than one only when two writers stored it at once. */
  candidates(id: Buffer): ChunkCandidate[] {
    const part = this.#parts[id[0] as number] as Part;
    const high = id.readUInt32LE(1);
    const low = id.readUInt32LE(5);
    const slots = part.packs.length;
    const found: ChunkCandidate[] = [];
    let slot = home(high, slots);
    while (part.packs[slot] !== FREE) {
      if (part.high[slot] === high && part.low[slot] === low) {
        found.push({ pack: part.packs[slot] as number, row: part.rows[slot] as number });
      }
      slot += 1;
      if (slot === slots) slot = 0;
    }
    return found;
  }

  #insert(bytes: Buffer, start: number, pack: number, row: number): void {
    if (start + ID_BYTES > bytes.length) throw new RangeError('an identity must be whole');
    const number = bytes[start] as number;
    let part = this.#parts[number] as Part;
    if (part.used + 1 > part.packs.length * LOAD_MAX) {
      part = resized(part, Math.ceil(part.packs.length * GROWTH));
      this.#parts[number] = part;
    }
    place(part, bytes.readUInt32LE(start + 1), bytes.readUInt32LE(start + 5), pack, row);
    this.#size += 1;
  }
}

interface Part {
  high: Uint32Array;
  low: Uint32Array;
  packs: Uint32Array;
  rows: Uint16Array;
  used: number;
}

function makePart(slots: number): Part {
  return {
    high: new Uint32Array(slots),
    low: new Uint32Array(slots),
    packs: new Uint32Array(slots).fill(FREE),
    rows: new Uint16Array(slots),
    used: 0,
  };
}

function place(part: Part, high: number, low: number, pack: number, row: number): void {
  const slots = part.packs.length;
  let slot = home(high, slots);
  while (part.packs[slot] !== FREE) {
    slot += 1;
    if (slot === slots) slot = 0;
  }
  part.high[slot] = high;
  part.low[slot] = low;
  part.packs[slot] = pack;
  part.rows[slot] = row;
  part.used += 1;
}

function resized(part: Part, slots: number): Part {
  const larger = makePart(slots);
  for (let slot = 0; slot < part.packs.length; slot += 1) {
    const pack = part.packs[slot] as number;
    if (pack !== FREE)
      place(larger, part.high[slot] as number, part.low[slot] as number, pack, part.rows[slot] as number);
  }
  return larger;
}

/** Identities are evenly spread, so the high bits scaled to the size are as good as any hash. */
function home(high: number, slots: number): number {
  return Math.floor((high / 0x1_0000_0000) * slots);
}
