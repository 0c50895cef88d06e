/**
 * Measures Dozo against what the wire and the disk allow and against restic and borg, all on this
 * machine in the same run. Usage: npm run bench -- [options], see `USAGE` and README.md.
 */
import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Contender } from './contender.ts';
import { BLOCK_BYTES, makeDiskImage } from './disk-image.ts';
import { DozoContender } from './dozo.ts';
import { CompressFloor, WireFloor } from './floors.ts';
import { startBenchHost } from './lab-bench-host.ts';
import { machineFacts } from './machine-facts.ts';
import { borgPeer, resticPeer } from './peers.ts';
import { renderDocument, renderTables, replaceSection, type BenchReport } from './report.ts';
import { layOutDisk, runRounds } from './rounds.ts';
import { SUBJECT, judgeAims, summarize } from './summary.ts';

const USAGE = `usage: npm run bench -- [options]
  --size MIB          size of the disk (4096)
  --rounds N          rounds of which the medians are given (3)
  --only NAME         one contender, may be repeated
  --directory FOLDER  where disk, repositories and lab host lie, on a real disk (/var/tmp)
  --profile FOLDER    CPU profiles of Dozo's processes, for Chrome's or VS Code's viewer; slows it a little
  --json              one document on standard output instead of tables
  --write-docs        put the tables into docs/performance.md`;

/** Of all 64 KiB blocks of the disk. */
const CHANGED_SHARE = 0.01;
const DOCUMENT = join(import.meta.dirname, '../../docs/performance.md');

const { values: options } = parseArgs({
  options: {
    size: { type: 'string', default: '4096' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', multiple: true },
    directory: { type: 'string', default: '/var/tmp' },
    profile: { type: 'string' },
    json: { type: 'boolean', default: false },
    'write-docs': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const sizeBytes = Number(options.size) * 1024 * 1024;
const rounds = Number(options.rounds);
const isUsage = options.help || !Number.isSafeInteger(sizeBytes) || sizeBytes < 64 * 2 ** 20 || !(rounds >= 1);
if (isUsage) {
  console.error(USAGE);
  process.exitCode = options.help ? 0 : 2;
} else {
  process.exitCode = await bench();
}

async function bench(): Promise<number> {
  const folder = mkdtempSync(join(options.directory, 'dozo-bench-'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // The lab host ends when this process does.
    process.once(signal, () => {
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      process.exit(1);
    });
  }
  try {
    const report = await takeReport(folder);
    console.log(options.json ? JSON.stringify(report, null, 2) : renderTables(report));
    if (options['write-docs']) {
      writeFileSync(DOCUMENT, replaceSection(readFileSync(DOCUMENT, 'utf8'), renderDocument(report)));
    }
    return report.rows.some((row) => row.isVoid) ? 1 : 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function takeReport(folder: string): Promise<BenchReport> {
  const machine = machineFacts();
  say(`making a disk of ${String(sizeBytes / 2 ** 20)} MiB in ${folder}`);
  const image = join(folder, 'disk.raw');
  const { fileBytes } = await makeDiskImage(image, sizeBytes, folder);
  say('starting the lab host');
  const host = await startBenchHost(join(folder, 'lab'), image);
  try {
    const disk = layOutDisk(host, sizeBytes, image);
    const store = (name: string): string => {
      mkdirSync(join(folder, name));
      return join(folder, name);
    };
    const all: Contender[] = [
      new WireFloor(host, disk, 'disk'),
      new WireFloor(host, disk, 'data'),
      new CompressFloor(host, disk, 'disk', store('floor-disk')),
      new CompressFloor(host, disk, 'data', store('floor-data')),
      await DozoContender.create(host, disk, store('dozo'), {
        profileFolder: options.profile === undefined ? null : resolve(options.profile),
      }),
      resticPeer(host, disk, store('restic')),
      borgPeer(host, disk, store('borg')),
    ];
    const contenders = all.filter(({ name }) => options.only?.includes(name) ?? true);
    if (contenders.length === 0) throw new Error(`the contenders are: ${all.map(({ name }) => name).join(', ')}`);
    const versions: Record<string, string> = {};
    for (const contender of contenders) versions[contender.name] = await contender.version();
    const measurements = await runRounds({
      host,
      disk,
      contenders,
      rounds,
      changedShare: CHANGED_SHARE,
      scratch: folder,
      say,
    });
    const rows = summarize(measurements, SUBJECT);
    return {
      takenAt: new Date().toISOString(),
      machine,
      versions,
      disk: {
        sizeBytes,
        fileBytes,
        dataBytes: disk.data.sizeBytes,
        changedBlocks: Math.round((sizeBytes / BLOCK_BYTES) * CHANGED_SHARE),
      },
      rounds,
      about: Object.fromEntries(contenders.map(({ name, about }) => [name, about])),
      rows,
      aims: judgeAims(rows),
      measurements,
    };
  } finally {
    await host.stop();
  }
}

function say(line: string): void {
  console.error(`bench: ${line}`);
}
