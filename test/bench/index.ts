/**
 * The index of chunks alone, filled with identities made up: `node test/bench/index.ts [MILLIONS]`, 40 unless
 * told, which is 10 TiB at 256 KiB a chunk. Every identity is looked up again in another order, and as many
 * that were never put in. Processor seconds of this process, so that other work matters little.
 */
import { ChunkIndex } from '../../server/repository/chunk-index.ts';
import { encodePackRow, PACK_ROW_BYTES, PackTable } from '../../server/repository/pack-format.ts';

const MILLION = 1e6;
/** As many as a pack of 64 MiB holds of chunks that compress to a half, and a prime step to walk out of order. */
const ROWS = 500;
const STEP = 15_485_863;

const chunks = Number(process.argv[2] ?? '40') * MILLION;
if (!(chunks >= ROWS)) throw new Error('usage: node test/bench/index.ts [MILLIONS]');

/** Nine bytes are what the index looks at: the number, spread as a hash would. */
function writeId(id: Buffer, number: number): void {
  const high = Math.imul(number ^ (number >>> 15), 0x2c1b3c6d) >>> 0;
  const mixed = Math.imul(high ^ (high >>> 12), 0x297a2d39) >>> 0;
  id[0] = mixed & 0xff;
  id.writeUInt32LE((mixed ^ (mixed >>> 15)) >>> 0, 1);
  id.writeUInt32LE(number >>> 0, 5);
}

function report(what: string, count: number, since: NodeJS.CpuUsage): void {
  const { user, system } = process.cpuUsage(since);
  const seconds = (user + system) / 1e6;
  console.log(
    `${what.padEnd(34)} ${seconds.toFixed(1).padStart(7)} cpu s ${(count / seconds / MILLION).toFixed(2).padStart(7)} M/s`,
  );
}

function fill(index: ChunkIndex): void {
  const bytes = Buffer.alloc(ROWS * PACK_ROW_BYTES);
  const id = Buffer.alloc(32);
  const form = { offsetBytes: 16, storedLength: 131_072, plainLength: 262_144, crc: 0, codec: 1 };
  for (let row = 0; row < ROWS; row += 1) encodePackRow({ ...form, id }, bytes, row);
  const table = new PackTable('0'.repeat(32), 'data', 0, bytes);
  for (let pack = 0; pack * ROWS < chunks; pack += 1) {
    for (let row = 0; row < ROWS; row += 1) writeId(bytes.subarray(row * PACK_ROW_BYTES), pack * ROWS + row);
    index.insertTable(pack, table);
  }
}

const loaded = new ChunkIndex();
const residentBefore = process.memoryUsage().rss;
let since = process.cpuUsage();
loaded.reserve(chunks);
fill(loaded);
report('put in, with room made before', loaded.size, since);
console.log(
  `memory of the index: ${(loaded.memoryBytes / loaded.size).toFixed(1)} bytes a chunk, ${(loaded.memoryBytes / MILLION).toFixed(0)} MB`,
);
console.log(`memory of the process grew by ${((process.memoryUsage().rss - residentBefore) / MILLION).toFixed(0)} MB`);

for (const [what, first] of [
  ['looked up, all found', 0],
  ['looked up, none found', chunks],
] as const) {
  const id = Buffer.alloc(32);
  let found = 0;
  since = process.cpuUsage();
  for (let count = 0, number = 0; count < chunks; count += 1) {
    number = (number + STEP) % chunks;
    writeId(id, first + number);
    found += loaded.candidates(id).length;
  }
  report(what, chunks, since);
  if (found !== (first === 0 ? chunks : 0)) throw new Error(`${found} found`);
}
