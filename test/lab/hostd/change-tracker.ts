import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Run } from '../disks/disk-chain.ts';

/** Finest step of a change map. */
export const TRACKED_BLOCK_BYTES = 65536;

/**
 * Changed block tracking of one disk. Each block carries the sequence number under which it was last
 * written; a snapshot takes the number as its change id and keeps the map as it was.
 */
export class ChangeTracker {
  readonly sizeBytes: number;
  readonly epoch: string;
  #sequence = 1;
  readonly #lastWritten: Uint32Array;

  /** @param allocated blocks that count as changed since ever */
  constructor(sizeBytes: number, allocated: readonly Run[], epoch = newEpoch()) {
    this.sizeBytes = sizeBytes;
    this.epoch = epoch;
    this.#lastWritten = new Uint32Array(Math.ceil(sizeBytes / TRACKED_BLOCK_BYTES));
    for (const run of allocated) this.mark(run.offsetBytes, run.lengthBytes);
  }

  /** Goes on from the state at a snapshot, as if nothing had been written since. */
  static from(map: FrozenMap): ChangeTracker {
    const [epoch = '', sequence] = map.changeId.split('/');
    const tracker = new ChangeTracker(map.sizeBytes, [], epoch);
    tracker.#sequence = Number(sequence) + 1;
    tracker.#lastWritten.set(map.lastWritten);
    return tracker;
  }

  mark(offsetBytes: number, lengthBytes: number): void {
    if (lengthBytes <= 0) return;
    const from = Math.floor(offsetBytes / TRACKED_BLOCK_BYTES);
    const to = Math.floor((offsetBytes + lengthBytes - 1) / TRACKED_BLOCK_BYTES) + 1;
    this.#lastWritten.fill(this.#sequence, from, to);
  }

  get changeId(): string {
    return `${this.epoch}/${this.#sequence}`;
  }

  /** The state at a snapshot; writes after it count under the next number. */
  freeze(): FrozenMap {
    const frozen = { changeId: this.changeId, sizeBytes: this.sizeBytes, lastWritten: this.#lastWritten.slice() };
    this.#sequence += 1;
    return frozen;
  }

  live(): FrozenMap {
    return { changeId: this.changeId, sizeBytes: this.sizeBytes, lastWritten: this.#lastWritten };
  }

  /** The beginning of a `-ctk.vmdk` as far as it is known; the map itself is kept by the daemon. */
  writeFile(path: string): void {
    const file = Buffer.alloc(512 + Math.ceil(this.#lastWritten.length / 8));
    Buffer.from([0xa2, 0x72, 0x19, 0xf6]).copy(file);
    file.writeUInt32LE(1, 4);
    file.writeUInt32LE(0x200, 12);
    Buffer.from(this.epoch.replace(/[ -]/g, ''), 'hex').copy(file, 44);
    writeFileSync(path, file, { mode: 0o600 });
  }
}

function newEpoch(): string {
  const hex = randomBytes(16).toString('hex').match(/../g) ?? [];
  return `${hex.slice(0, 8).join(' ')}-${hex.slice(8).join(' ')}`;
}

export interface FrozenMap {
  changeId: string;
  sizeBytes: number;
  lastWritten: Uint32Array;
}

/**
 * Blocks written after `since` (null: ever) from an offset on, at most `areasMax` areas.
 * `lengthBytes` is how far the answer reaches.
 */
export function areasSince(
  map: FrozenMap,
  since: number | null,
  startOffsetBytes: number,
  areasMax: number,
): { lengthBytes: number; areas: { start: number; length: number }[] } {
  const areas: { start: number; length: number }[] = [];
  const first = Math.floor(startOffsetBytes / TRACKED_BLOCK_BYTES);
  for (let block = first; block < map.lastWritten.length; block++) {
    if ((map.lastWritten[block] ?? 0) <= (since ?? 0)) continue;
    const start = Math.max(startOffsetBytes, block * TRACKED_BLOCK_BYTES);
    const end = Math.min(map.sizeBytes, (block + 1) * TRACKED_BLOCK_BYTES);
    const last = areas.at(-1);
    if (last !== undefined && last.start + last.length === start) last.length += end - start;
    else if (areas.length === areasMax) return { lengthBytes: start - startOffsetBytes, areas };
    else areas.push({ start, length: end - start });
  }
  return { lengthBytes: map.sizeBytes - startOffsetBytes, areas };
}
