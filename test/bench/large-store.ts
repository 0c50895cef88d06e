/**
 * What a backup takes of memory when 1 TiB is in the store already, against restic and borg (Debian's):
 * `node test/bench/large-store.ts [--tib N] [--directory FOLDER]`. Nobody stores 1 TiB for that: what grows with the
 * store is what it knows of its chunks, so each is given as many chunks as 1 TiB of random bytes has in its own way of
 * cutting, which is measured first. restic and borg get files of 16 bytes, each a chunk of its own; Dozo packs whose
 * contents are holes, with true tables and index. Then each backs up 256 MiB of random bytes from standard input (Dozo:
 * from a file), into the store that it has and into an empty one. Memory is the largest resident size as GNU time has
 * it. Takes 2 GB of disk and half an hour where much else is at work. What it made is removed at the end.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, globSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { bundleServer } from '../../scripts/build/bundle-server.ts';
import { SMALL_PROCESS } from '../../server/app/small-process.ts';
import { encodeSegment } from '../../server/repository/index-segment.ts';
import { CHUNK_SIZE_BYTES_DEFAULT, indexName, PACK_TARGET_BYTES, packName } from '../../server/repository/layout.ts';
import {
  encodePackHeader,
  encodePackRow,
  encodePackTrailer,
  PACK_ROW_BYTES,
  PackTable,
} from '../../server/repository/pack-format.ts';

const { values: options } = parseArgs({
  options: { tib: { type: 'string', default: '1' }, directory: { type: 'string', default: '/var/tmp' } },
});
const storedBytes = Number(options.tib) * 2 ** 40;
const folder = mkdtempSync(join(options.directory, 'dozo-large-store-'));
const image = join(folder, 'disk.raw');
const IMAGE_BYTES = 256 * 2 ** 20;
const FILES_A_FOLDER = 1000;
const PACKS_A_SEGMENT = 2000;

/** Peak resident size of what `script` runs, in bytes. */
function peakOf(script: string, env: Record<string, string>): number {
  const { status, stderr } = spawnSync('time', ['-f', '%M', 'bash', '-ec', script], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new Error(`${script}\n${stderr}`);
  return Number(stderr.trim().split('\n').at(-1)) * 1024;
}

function must(script: string, env: Record<string, string>): string {
  const { status, stdout, stderr } = spawnSync('bash', ['-ec', script], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new Error(`${script}\n${stderr}`);
  return stdout;
}

/** So many files, each with other bytes. */
function makeFiles(at: string, count: number): void {
  for (let number = 0; number < count; number += 1) {
    const place = join(at, String(Math.floor(number / FILES_A_FOLDER)));
    if (number % FILES_A_FOLDER === 0) mkdirSync(place, { recursive: true });
    writeFileSync(join(place, String(number)), number.toString(16).padStart(16, '0'));
  }
}

interface Measured {
  name: string;
  chunkBytes: number;
  chunks: number;
  emptyBytes: number;
  fullBytes: number;
}

function measureRestic(): Measured {
  const at = (name: string): Record<string, string> => ({
    RESTIC_REPOSITORY: join(folder, name),
    RESTIC_PASSWORD: 'bench',
    RESTIC_CACHE_DIR: join(folder, `${name}-cache`),
  });
  const backup = `restic backup --quiet --stdin --stdin-filename disk.raw < ${image}`;
  const init = 'restic init --quiet --repository-version 2';
  must(init, at('restic'));
  const emptyBytes = peakOf(backup, at('restic'));
  const { total_blob_count: blobs } = JSON.parse(must('restic stats --json --mode raw-data', at('restic'))) as {
    total_blob_count: number;
  };
  const chunkBytes = IMAGE_BYTES / blobs;
  const chunks = Math.round(storedBytes / chunkBytes);
  const files = join(folder, 'files');
  makeFiles(files, chunks);
  must(`${init}; restic backup --quiet ${files}`, at('restic-large'));
  rmSync(files, { recursive: true });
  return { name: 'restic', chunkBytes, chunks, emptyBytes, fullBytes: peakOf(backup, at('restic-large')) };
}

function measureBorg(): Measured {
  const at = (name: string): Record<string, string> => ({
    BORG_REPO: join(folder, name),
    BORG_BASE_DIR: join(folder, `${name}-base`),
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  });
  const backup = `borg create -C zstd,1 --stdin-name disk.raw ::disk - < ${image}`;
  const init = 'borg init --encryption=none';
  must(init, at('borg'));
  const emptyBytes = peakOf(backup, at('borg'));
  const { cache } = JSON.parse(must('borg info --json', at('borg'))) as {
    cache: { stats: { total_unique_chunks: number } };
  };
  const chunkBytes = IMAGE_BYTES / cache.stats.total_unique_chunks;
  const chunks = Math.round(storedBytes / chunkBytes);
  const files = join(folder, 'files');
  makeFiles(files, chunks);
  must(`${init}; borg create --files-cache=disabled ::files ${files}`, at('borg-large'));
  rmSync(files, { recursive: true });
  return { name: 'borg', chunkBytes, chunks, emptyBytes, fullBytes: peakOf(backup, at('borg-large')) };
}

/** A repository of packs as full as random bytes make them, their contents a hole. */
function fillRepository(at: string, chunks: number): void {
  const rowCount = PACK_TARGET_BYTES / CHUNK_SIZE_BYTES_DEFAULT;
  let tables: PackTable[] = [];
  let segments = 0;
  const publish = (): void => {
    const name = join(at, indexName(createHash('sha256').update(`segment ${segments++}`).digest('hex').slice(0, 32)));
    mkdirSync(dirname(name), { recursive: true });
    writeFileSync(name, encodeSegment(tables));
    tables = [];
  };
  for (let pack = 0; pack < chunks / rowCount; pack += 1) {
    const packId = randomBytes(16).toString('hex');
    const ids = randomBytes(rowCount * 32);
    const header = encodePackHeader(packId, 'data', null);
    const rows = Buffer.alloc(rowCount * PACK_ROW_BYTES);
    for (let row = 0; row < rowCount; row += 1) {
      const id = ids.subarray(row * 32, row * 32 + 32);
      const offsetBytes = header.length + row * CHUNK_SIZE_BYTES_DEFAULT;
      const lengths = { storedLength: CHUNK_SIZE_BYTES_DEFAULT, plainLength: CHUNK_SIZE_BYTES_DEFAULT };
      encodePackRow({ id, offsetBytes, ...lengths, crc: 0, codec: 0 }, rows, row);
    }
    const table = new PackTable(packId, 'data', header.length + rowCount * CHUNK_SIZE_BYTES_DEFAULT, rows);
    const file = join(at, packName(packId));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, header);
    truncateSync(file, header.length + rowCount * CHUNK_SIZE_BYTES_DEFAULT);
    appendFileSync(file, Buffer.concat([rows, encodePackTrailer(table)]));
    tables.push(table);
    if (tables.length === PACKS_A_SEGMENT) publish();
  }
  if (tables.length > 0) publish();
}

async function measureDozo(): Promise<Measured> {
  const bundle = join(folder, 'bundle');
  await bundleServer(['test/bench/repository-task.ts', ...globSync('server/repository/*-thread.ts')], bundle);
  const task = `node ${SMALL_PROCESS.execArgv.join(' ')} ${join(bundle, 'repository-task.js')}`;
  const emptyBytes = peakOf(`${task} full ${join(folder, 'dozo')} ${image}`, SMALL_PROCESS.environment);
  const chunks = Math.round(storedBytes / CHUNK_SIZE_BYTES_DEFAULT);
  const large = join(folder, 'dozo-large');
  must(`${task} create ${large} -`, SMALL_PROCESS.environment);
  fillRepository(large, chunks);
  const fullBytes = peakOf(`${task} add ${large} ${image}`, SMALL_PROCESS.environment);
  return { name: 'Dozo', chunkBytes: CHUNK_SIZE_BYTES_DEFAULT, chunks, emptyBytes, fullBytes };
}

try {
  writeFileSync(image, '');
  for (let at = 0; at < IMAGE_BYTES; at += 2 ** 20) appendFileSync(image, randomBytes(2 ** 20));
  const rows: Measured[] = [];
  for (const measure of [measureDozo, measureRestic, measureBorg]) {
    rows.push(await measure());
    console.error(`${rows.at(-1)?.name ?? ''} measured`);
  }
  console.log(
    `| store | a chunk, KiB | chunks in ${options.tib} TiB | memory, empty store, MB | with them, MB | B/chunk |`,
  );
  console.log('|---|---:|---:|---:|---:|---:|');
  for (const { name, chunkBytes, chunks, emptyBytes, fullBytes } of rows) {
    const cells = [
      name,
      (chunkBytes / 1024).toFixed(0),
      String(chunks),
      (emptyBytes / 1e6).toFixed(0),
      (fullBytes / 1e6).toFixed(0),
      ((fullBytes - emptyBytes) / chunks).toFixed(0),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
