import { existsSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { AppError, isAbort, isAppError } from '../errors/index.ts';
import { formatBytes } from '../runtime/index.ts';
import { clean, findVersion, progressMeter, type Call } from './call.ts';
import { extract, files } from './guest-commands.ts';
import { openFolder } from './open-folder.ts';
import { restoreVersion } from './restore-version.ts';
import type { ToolStreams } from './tool-streams.ts';
import { findByRoot, verifyVersion, type VersionProof } from './verify-version.ts';

const USAGE = `Restores from a Dozo repository, with nothing but this file and Node 20.3 or later.

  node dozo-restore.js list                        versions in the repository
  node dozo-restore.js verify                      read and check everything
  node dozo-restore.js verify VERSION              read and check one version
  node dozo-restore.js verify --root HASH          prove that the version (or disk) of this root hash is here,
                                                   unchanged, with all the versions before it
  node dozo-restore.js restore VERSION FOLDER      write disks and configuration into a new folder
  node dozo-restore.js files VERSION               volumes of its disks, and what file systems they hold
  node dozo-restore.js files VERSION PATH          a folder of a guest's file system; the topmost is /
  node dozo-restore.js extract VERSION PATH FOLDER write one file, or a folder with all that is in it, into a
                                                   new folder

VERSION is an id from the list, its beginning, or a machine's name for its newest version.

  --repository FOLDER   the repository; by default the folder that this file lies in
  --disk KEY            only this disk (verify VERSION, restore, files, extract)
  --volume NUMBER       only this volume, as \`files VERSION\` numbers it (files, extract)
  --format raw|vmdk     form of the disks (raw: zeros become holes)
  --key-file FILE       passphrase or recovery key of an encrypted repository; - is standard input
  --json                one document for programs

File systems that are read: ext2 to ext4, XFS, NTFS. With any other, restore the disk and mount it,
on Linux with: losetup -P -r --show -f DISK.raw

Exit status: 0 done, 1 failed or damaged, 2 wrong usage, 3 done, but the version is incomplete or links and
special files were left out of a folder.
`;

const OPTIONS = {
  repository: { type: 'string' },
  disk: { type: 'string' },
  format: { type: 'string', default: 'raw' },
  root: { type: 'string' },
  volume: { type: 'string' },
  'key-file': { type: 'string' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
  version: { type: 'boolean', default: false },
} as const;

type Parsed = ReturnType<typeof parseArgs<{ options: typeof OPTIONS; allowPositionals: true }>>;

/** @returns the exit status */
export async function runTool(args: readonly string[], streams: ToolStreams): Promise<number> {
  const { output, errors, signal } = streams;
  try {
    const { values, positionals } = parse(args);
    if (values.version) {
      output.write(`${process.env['DOZO_VERSION'] ?? 'from its sources'}\n`);
      return 0;
    }
    const [command = '', ...rest] = positionals;
    const run = COMMANDS[command];
    if (values.help || run === undefined || !run.takes(rest)) {
      (values.help ? output : errors).write(USAGE);
      return values.help ? 0 : 2;
    }
    const repository = await openFolder(findFolder(values.repository, streams.folder), values['key-file'], streams);
    try {
      return await run.act({ repository, listings: await repository.listPoints(), args: rest, values, streams });
    } finally {
      await repository.close();
    }
  } catch (error) {
    if (error instanceof UsageError) {
      errors.write(`${error.message}\n\n${USAGE}`);
      return 2;
    }
    if (signal.aborted || isAbort(error)) {
      errors.write('Ended before it was done.\n');
      return 1;
    }
    if (!isAppError(error) && (error as NodeJS.ErrnoException).code === undefined) throw error;
    errors.write(`${clean((error as Error).message)}\n`);
    if (isAppError(error) && error.hint !== undefined) errors.write(`${clean(error.hint)}\n`);
    return 1;
  }
}

class UsageError extends Error {}

function parse(args: readonly string[]): Parsed {
  try {
    const parsed = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
    const { format, root, volume } = parsed.values;
    if (format !== 'raw' && format !== 'vmdk') throw new UsageError(`There is no format ${format}.`);
    if (root !== undefined && !/^[0-9a-f]{64}$/i.test(root)) throw new UsageError('A root hash has 64 hex digits.');
    if (volume !== undefined && !/^\d{1,9}$/.test(volume)) throw new UsageError('A volume is a number.');
    return parsed;
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message);
  }
}

function findFolder(wanted: string | undefined, own: string): string {
  if (wanted !== undefined) return wanted;
  if (existsSync(path.join(own, 'repository.dozo'))) return own;
  throw new UsageError('This file does not lie in a repository: name one with --repository.');
}

const COMMANDS: Record<string, { takes(rest: readonly string[]): boolean; act(call: Call): Promise<number> }> = {
  list: { takes: (rest) => rest.length === 0, act: async (call) => list(call) },
  verify: { takes: (rest) => rest.length <= 1, act: verify },
  restore: { takes: (rest) => rest.length === 2, act: restore },
  files: { takes: (rest) => rest.length === 1 || rest.length === 2, act: files },
  extract: { takes: (rest) => rest.length === 3, act: extract },
};

function list({ listings, values, streams: { output } }: Call): number {
  if (values.json) {
    output.write(`${JSON.stringify(listings, null, 2)}\n`);
  } else if (listings.length === 0) {
    output.write('There is no version in this repository.\n');
  }
  for (const { pointId, manifest, damage } of values.json ? [] : listings) {
    output.write(`${pointId}  `);
    if (manifest === null) {
      output.write(`DAMAGED: ${clean(damage ?? '')}\n`);
      continue;
    }
    const when = new Date(manifest.createdAtMs).toISOString().replace('.000', '');
    output.write(`${clean(manifest.machineName)}  ${when}  ${manifest.state}\n`);
    for (const { key, sizeBytes } of manifest.disks) output.write(`    ${clean(key)}  ${formatBytes(sizeBytes)}\n`);
    for (const reason of manifest.stateReasons) output.write(`    ${clean(reason)}\n`);
    output.write(`    root hash ${manifest.rootHash}\n`);
  }
  return listings.some(({ manifest }) => manifest === null) ? 1 : 0;
}

async function verify(call: Call): Promise<number> {
  const { repository, listings, args, values, streams } = call;
  const rootHash = values.root?.toLowerCase();
  if (args[0] === undefined && rootHash === undefined) return verifyAll(call);
  let pointId: string;
  let diskKey = values.disk ?? null;
  if (rootHash === undefined) pointId = findVersion(listings, args[0] ?? '');
  else {
    const found = findByRoot(listings, rootHash);
    if (found === null || (args[0] !== undefined && findVersion(listings, args[0]) !== found.manifest.pointId)) {
      throw new AppError('POINT_NOT_FOUND', `Nothing here has the root hash ${rootHash}.`, {
        hint: 'The version was changed, deleted, or belongs to another repository.',
      });
    }
    pointId = found.manifest.pointId;
    diskKey = found.diskKey ?? diskKey;
  }
  const meter = progressMeter(streams);
  const point = await repository.openPoint(pointId);
  const proof = await verifyVersion(repository, point, {
    diskKey,
    listings,
    signal: streams.signal,
    read: (bytes) => meter.add(`${pointId}: checked`, bytes),
  });
  meter.end();
  const isSound =
    proof.chainBroken === null && [...proof.disks.flatMap((disk) => disk.damages), ...proof.fileDamages].length === 0;
  if (values.json) streams.output.write(`${JSON.stringify({ ...proof, sound: isSound }, null, 2)}\n`);
  else streams.output.write(describeProof(proof, isSound));
  return isSound ? 0 : 1;
}

function describeProof(proof: VersionProof, isSound: boolean): string {
  const lines = [`${proof.pointId}`, `  root hash ${proof.rootHash}`];
  for (const { key, readBytes, damages } of proof.disks) {
    lines.push(
      `  disk ${clean(key)}: ${damages.length === 0 ? `all ${readBytes} bytes of data are right` : 'DAMAGED'}`,
    );
    for (const damage of damages) lines.push(`    ${clean(damage)}`);
  }
  for (const damage of proof.fileDamages) lines.push(`  DAMAGED ${clean(damage)}`);
  if (proof.chain.length > 0) lines.push(`  ${proof.chain.length} versions before it are proven unchanged as well`);
  if (proof.chainEnd !== null)
    lines.push(`  version ${clean(proof.chainEnd)} before it is not here any more: the chain ends`);
  if (proof.chainBroken !== null)
    lines.push(`  CHANGED: version ${clean(proof.chainBroken)} is not the one that was there`);
  lines.push(isSound ? 'All is well.' : 'NOT all is well.');
  return `${lines.join('\n')}\n`;
}

async function verifyAll({ repository, values, streams }: Call): Promise<number> {
  const { output, signal } = streams;
  const meter = progressMeter(streams);
  let seen = 0;
  const report = await repository.check({
    depth: 'hashes',
    signal,
    progress: ({ bytes }) => {
      meter.add('checked', bytes - seen);
      seen = bytes;
    },
  });
  meter.end();
  if (values.json) output.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    for (const { name, text, affects } of report.damages) {
      output.write(`DAMAGED ${clean(name)}: ${clean(text)}\n`);
      for (const { pointId, machineName, diskKey, extents } of affects) {
        const ranges = extents.map(({ offsetBytes, lengthBytes }) => `${offsetBytes}+${lengthBytes}`).join(', ');
        output.write(`    version ${pointId} of ${clean(machineName)}, disk ${clean(diskKey)}, bytes ${ranges}\n`);
      }
    }
    const { points, packs, chunks, readBytes, damages } = report;
    output.write(`${points} versions, ${packs} packs, ${chunks} chunks, ${formatBytes(readBytes)} read: `);
    output.write(damages.length === 0 ? 'all is well.\n' : `${damages.length} damages.\n`);
  }
  return report.damages.length === 0 ? 0 : 1;
}

async function restore({ repository, listings, args, values, streams }: Call): Promise<number> {
  const [wanted = '', folder = ''] = args;
  const point = await repository.openPoint(findVersion(listings, wanted));
  const meter = progressMeter(streams);
  const lines: string[] = [];
  const written = await restoreVersion({
    repository,
    point,
    folder,
    format: values.format === 'vmdk' ? 'vmdk' : 'raw',
    diskKey: values.disk ?? null,
    signal: streams.signal,
    say: (text) => lines.push(text),
    progress: ({ label, doneBytes, totalBytes }) => meter.show(label, doneBytes, totalBytes),
  });
  meter.end();
  const { pointId, state, stateReasons } = point.manifest;
  if (values.json) {
    streams.output.write(`${JSON.stringify({ pointId, state, stateReasons, folder, files: written }, null, 2)}\n`);
  } else {
    for (const line of lines) streams.output.write(`${clean(line)}\n`);
    for (const reason of stateReasons) streams.errors.write(`INCOMPLETE: ${clean(reason)}\n`);
    streams.output.write(`${written.length} files in ${folder}\n`);
  }
  return state === 'complete' ? 0 : 3;
}
