import { normalizeExtents, totalBytes, type DiskReader, type DiskSink, type Extent } from '../disk/index.ts';
import { KIB, MIB, randomHex } from '../runtime/index.ts';

/** A sample is made of pieces of this size: small, so that a few MiB look into many places. */
const PIECE_BYTES = 64 * KIB;
/** A background check: at most this much of one disk, so that a huge one does not prolong every run. */
const BACKGROUND_BYTES_MAX = 256 * MIB;
/** From this share on the check was asked for, not run by the way, and is carried out whole. */
const DELIBERATE_SHARE = 0.1;

/** Share that suits nearly everybody: 2 MiB of a disk of 4 GiB, 256 MiB of one of 512 GiB and more. */
export const DEFAULT_VERIFY_SAMPLE = 0.0005;

/**
 * Picks which of the areas said to be unchanged are compared. The areas are cut into equal strata
 * with one piece at a random place of each: wherever a map lost a large region, a piece lies in it.
 *
 * @param share of the bytes, 0 to 1; 0 picks nothing
 * @param random from 0 to below 1
 */
export function pickSample(unchanged: readonly Extent[], share: number, random: () => number = randomShare): Extent[] {
  const bytes = totalBytes(unchanged);
  if (share <= 0 || bytes === 0) return [];
  if (share >= 1) return normalizeExtents(unchanged);
  const wantedBytes = share < DELIBERATE_SHARE ? Math.min(bytes * share, BACKGROUND_BYTES_MAX) : bytes * share;
  const pieces = Math.max(1, Math.ceil(wantedBytes / PIECE_BYTES));
  const stratumBytes = bytes / pieces;
  const sample: Extent[] = [];
  let areaIndex = 0;
  let areaStart = 0;
  for (let piece = 0; piece < pieces; piece += 1) {
    const position = Math.min(bytes - 1, Math.floor((piece + random()) * stratumBytes));
    let area = unchanged[areaIndex];
    while (area !== undefined && position >= areaStart + area.lengthBytes) {
      areaStart += area.lengthBytes;
      areaIndex += 1;
      area = unchanged[areaIndex];
    }
    if (area === undefined) break;
    sample.push(pieceAround(area, area.offsetBytes + position - areaStart));
  }
  return normalizeExtents(sample);
}

/** The aligned piece that holds the position, clipped to the area. */
function pieceAround(area: Extent, position: number): Extent {
  const aligned = Math.floor(position / PIECE_BYTES) * PIECE_BYTES;
  const start = Math.max(area.offsetBytes, aligned);
  const end = Math.min(area.offsetBytes + area.lengthBytes, aligned + PIECE_BYTES);
  return { offsetBytes: start, lengthBytes: end - start };
}

function randomShare(): number {
  return Number.parseInt(randomHex(6), 16) / 2 ** 48;
}

/**
 * Takes what the host delivers and compares it with what should be there; stores nothing. Rejects with
 * the store's error where that cannot be read.
 */
export class ComparingSink implements DiskSink {
  /** Offset of the first difference found, or null. */
  differsAtBytes: number | null = null;
  readonly #expected: DiskReader;

  constructor(expected: DiskReader) {
    this.#expected = expected;
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    const expected = await this.#expected.read(offsetBytes, data.length);
    if (!expected.equals(data)) this.#differs(offsetBytes);
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    for (let done = 0; done < lengthBytes; done += MIB) {
      const length = Math.min(MIB, lengthBytes - done);
      const expected = await this.#expected.read(offsetBytes + done, length);
      if (!expected.equals(Buffer.alloc(length))) this.#differs(offsetBytes + done);
    }
  }

  #differs(offsetBytes: number): void {
    this.differsAtBytes = Math.min(this.differsAtBytes ?? Infinity, offsetBytes);
  }
}

/** What a disk without an earlier version holds outside its allocated areas. */
export function zeroReader(sizeBytes: number): DiskReader {
  return {
    sizeBytes,
    read: (_offsetBytes, lengthBytes) => Promise.resolve(Buffer.alloc(lengthBytes)),
  };
}

/** The earlier version as a disk of today's size: what lies past its end is zero. */
export function grownReader(base: DiskReader, sizeBytes: number): DiskReader {
  return {
    sizeBytes,
    read: async (offsetBytes, lengthBytes, signal) => {
      const insideBytes = Math.max(0, Math.min(lengthBytes, base.sizeBytes - offsetBytes));
      const data = Buffer.alloc(lengthBytes);
      if (insideBytes > 0) data.set(await base.read(offsetBytes, insideBytes, signal));
      return data;
    },
  };
}
