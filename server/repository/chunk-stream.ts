import { isAppError } from '../errors/index.ts';
import { workAhead } from '../runtime/index.ts';
import type { DecodePart } from './codec-message.ts';
import type { CodecPool } from './codec-pool.ts';
import { packName } from './layout.ts';
import { chunkDamaged, chunkMissing, type ChunkPlace, type PackCatalog } from './pack-catalog.ts';

/** A disk, as far as streaming its chunks concerns it. */
interface ChunkedDisk {
  readonly catalog: PackCatalog;
  readonly chunkSizeBytes: number;
  /** @throws REPOSITORY_CHUNK_DAMAGED where a chunk cannot have so many bytes */
  assertLength(chunk: number, id: Buffer, lengthBytes: number): void;
}

export interface WantedChunk {
  chunk: number;
  id: Buffer;
}

/** A read of a pack brings so many bytes at most: the work of one message to a thread. */
const RANGE_BYTES = 512 * 1024;
/** Bytes between two wanted chunks that are read over rather than sought across. */
const GAP_BYTES = 128 * 1024;
/** Ranges read or being decoded, beyond one a thread. */
const RANGES_AHEAD = 4;

interface RangePlan {
  pack: number;
  offsetBytes: number;
  lengthBytes: number;
  /** Chunks of the disk that each part fills: equal content lies in one place only. */
  parts: { place: ChunkPlace; id: Buffer; chunks: number[] }[];
}

interface Filled {
  offsetBytes: number;
  data: Buffer;
  sha256: Buffer | null;
}

/** Contents of the wanted chunks, in the order of their places in the packs. */
export async function* streamChunks(
  disk: ChunkedDisk,
  wanted: readonly WantedChunk[],
  pool: CodecPool,
  signal: AbortSignal | undefined,
): AsyncIterable<Filled> {
  if (wanted.length > 0) pool.prepare();
  const plans = await planRanges(disk, wanted);
  const ranges = workAhead(plans, pool.threadCount + RANGES_AHEAD, (plan) => readRange(disk, plan, pool));
  for await (const filled of ranges) {
    for (const one of filled) {
      signal?.throwIfAborted();
      yield one;
    }
  }
}

async function planRanges(disk: ChunkedDisk, wanted: readonly WantedChunk[]): Promise<RangePlan[]> {
  const { catalog } = disk;
  const byId = new Map<string, { id: Buffer; chunks: number[] }>();
  for (const { chunk, id } of wanted) {
    const key = id.toString('latin1');
    const known = byId.get(key);
    if (known === undefined) byId.set(key, { id, chunks: [chunk] });
    else known.chunks.push(chunk);
  }
  const placed: RangePlan['parts'] = [];
  for (const { id, chunks } of byId.values()) {
    let place = await catalog.locate(id, 'read');
    if (place === null) {
      await catalog.refreshToRead();
      place = await catalog.locate(id, 'read');
    }
    if (place === null) throw chunkMissing(id);
    for (const chunk of chunks) disk.assertLength(chunk, id, place.form.plainLength);
    placed.push({ place, id, chunks });
  }
  placed.sort((a, b) => a.place.pack - b.place.pack || a.place.form.offsetBytes - b.place.form.offsetBytes);

  const plans: RangePlan[] = [];
  for (const part of placed) {
    const { pack, form } = part.place;
    const last = plans.at(-1);
    const endBytes = form.offsetBytes + form.storedLength;
    if (
      last?.pack === pack &&
      form.offsetBytes - (last.offsetBytes + last.lengthBytes) <= GAP_BYTES &&
      endBytes - last.offsetBytes <= RANGE_BYTES
    ) {
      last.lengthBytes = endBytes - last.offsetBytes;
      last.parts.push(part);
    } else {
      plans.push({ pack, offsetBytes: form.offsetBytes, lengthBytes: form.storedLength, parts: [part] });
    }
  }
  return plans;
}

async function readRange(disk: ChunkedDisk, plan: RangePlan, pool: CodecPool): Promise<Filled[]> {
  const { catalog } = disk;
  const name = packName(catalog.pack(plan.pack).packId);
  let contents: (Buffer | string)[];
  try {
    const range = await catalog.storage.read(name, plan);
    const parts = plan.parts.map(({ place, id }): DecodePart => {
      const { storedLength, codec, plainLength, crc, offsetBytes } = place.form;
      return { offset: offsetBytes - plan.offsetBytes, storedLength, id, codec, plainLength, crc, row: place.row };
    });
    contents = await pool.decode(range, catalog.packKey(plan.pack), parts);
  } catch (error) {
    if (!isAppError(error) || (error.code !== 'NOT_FOUND' && error.code !== 'STORAGE_FAILED')) throw error;
    contents = plan.parts.map(() => error.message);
  }
  const filled: Filled[] = [];
  for (const [index, { id, chunks }] of plan.parts.entries()) {
    const content = contents[index] ?? 'it was not decoded';
    // One by one, the catalogue tries every other copy before it gives up.
    const data = typeof content === 'string' ? await otherCopy(disk, id, name, content) : content;
    for (const [nth, chunk] of chunks.entries()) {
      // Each place gets bytes of its own: the taker may change them.
      filled.push({
        offsetBytes: chunk * disk.chunkSizeBytes,
        data: nth === 0 ? data : Buffer.from(data),
        sha256: pool.identifiesBySha256 ? id : null,
      });
    }
  }
  return filled;
}

async function otherCopy(disk: ChunkedDisk, id: Buffer, name: string, why: string): Promise<Buffer> {
  try {
    return await disk.catalog.readChunk(id);
  } catch (error) {
    if (isAppError(error) && !error.code.startsWith('REPOSITORY_')) throw chunkDamaged(id, name, why);
    throw error;
  }
}
