import type { GuestVolumeView } from '../contract/api/guest-file.schema.ts';
import type { GuestEntry } from '../filesystem/index.ts';
import { listGuestVolumes, wasQuiet } from '../restore/index.ts';
import { formatBytes } from '../runtime/index.ts';
import { clean, findVersion, progressMeter, type Call } from './call.ts';
import { extractFiles, type ExtractNote } from './extract-files.ts';
import { chooseVolume, lookAtDisks, type ChosenVolume, type GuestDisk } from './guest-volumes.ts';
import { makeEmptyFolder } from './target-folder.ts';

/** How many notes a document for programs holds; each is on the error stream otherwise. */
const NOTES_MAX = 10_000;

/** Lists the volumes of a version, or a folder of one of them. @returns the exit status */
export async function files(call: Call): Promise<number> {
  const path = call.args[1];
  return path === undefined ? listVolumes(call) : listFolder(call, path);
}

async function listVolumes({ repository, listings, args, values, streams }: Call): Promise<number> {
  const point = await repository.openPoint(findVersion(listings, args[0] ?? ''));
  const disks = await lookAtDisks(point, values.disk ?? null, (disk, others) =>
    listGuestVolumes(disk, streams.signal, others, wasQuiet(point)),
  );
  if (values.json) {
    const views = disks.map((disk) => ({ ...disk, trouble: disk.trouble?.message ?? null }));
    streams.output.write(`${JSON.stringify({ pointId: point.manifest.pointId, disks: views }, null, 2)}\n`);
  } else {
    for (const disk of disks) streams.output.write(describeDisk(disk));
  }
  return disks.some(({ trouble }) => trouble !== null) ? 1 : 0;
}

function describeDisk({ key, sizeBytes, volumes, trouble }: GuestDisk<GuestVolumeView>): string {
  const lines = [`${clean(key)}  ${formatBytes(sizeBytes)}`];
  if (trouble !== null) lines.push(`    DAMAGED: ${clean(trouble.message)}`);
  for (const { number, name, fileSystem, label, sizeBytes: volumeBytes, unreadable, holds, isUnsettled } of volumes) {
    const what = fileSystem ?? unreadable ?? describeOther(holds);
    const named = [...(name === undefined ? [] : [name]), ...(label === '' ? [] : [`"${label}"`])].map(clean);
    lines.push(`    ${[`volume ${number}`, formatBytes(volumeBytes), clean(what), ...named].join('  ')}`);
    if (isUnsettled === true) lines.push('      was at work: files changed in its last moments may be old or missing');
  }
  return `${lines.join('\n')}\n`;
}

function describeOther(holds: GuestVolumeView['holds']): string {
  if (holds === undefined) return 'nothing that is read';
  return holds === 'lvm' ? 'lvm, see its volumes' : `${holds}, not read`;
}

async function listFolder(call: Call, path: string): Promise<number> {
  const { output, signal } = call.streams;
  const { system } = await openVolume(call);
  // As it comes: a folder may hold millions.
  let count = 0;
  for await (const entry of system.list(path, signal)) {
    if (call.values.json) output.write(`${count === 0 ? '[' : ','}\n  ${JSON.stringify(entry)}`);
    else output.write(describeEntry(entry));
    count += 1;
  }
  if (call.values.json) output.write(count === 0 ? '[]\n' : '\n]\n');
  return 0;
}

const TYPE_LETTERS = { file: '-', folder: 'd', link: 'l', other: '?' } as const;

function describeEntry({ name, type, sizeBytes, modifiedAtMs, linkTarget }: GuestEntry): string {
  const when = new Date(modifiedAtMs ?? Number.NaN);
  const time = Number.isNaN(when.getTime()) ? '-' : when.toISOString().slice(0, 19);
  const target = linkTarget === null ? '' : ` -> ${linkTarget}`;
  return `${TYPE_LETTERS[type]} ${String(sizeBytes).padStart(15)}  ${time.padEnd(19)}  ${clean(name + target)}\n`;
}

/** Writes a file, or a folder with all that is in it, into a folder. @returns the exit status */
export async function extract(call: Call): Promise<number> {
  const { args, values, streams } = call;
  const [, path = '', target = ''] = args;
  const volume = await openVolume(call);
  const folder = await makeEmptyFolder(target, call.repository.location);
  const meter = progressMeter(streams);
  const counts: Record<ExtractNote['kind'], number> = { damaged: 0, 'left out': 0, renamed: 0 };
  const notes: ExtractNote[] = [];
  const done = await extractFiles({
    system: volume.system,
    path,
    folder,
    signal: streams.signal,
    note: (note) => {
      counts[note.kind] += 1;
      if (values.json) notes.push(...(notes.length < NOTES_MAX ? [note] : []));
      else streams.errors.write(`${note.kind.toUpperCase()} ${clean(note.path)}: ${clean(note.text)}\n`);
    },
    progress: (label, bytes) => meter.add(clean(label), bytes),
  });
  meter.end();
  const { pointId, diskKey, number, state, stateReasons } = volume;
  if (values.json) {
    const { damaged, renamed, 'left out': leftOut } = counts;
    const made = { ...done, damaged, leftOut, renamed, notes };
    const document = { pointId, state, stateReasons, disk: diskKey, volume: number, path, folder: target, ...made };
    streams.output.write(`${JSON.stringify(document, null, 2)}\n`);
  } else {
    for (const reason of stateReasons) streams.errors.write(`INCOMPLETE: ${clean(reason)}\n`);
    const kinds = Object.entries(counts).flatMap(([kind, count]) => (count === 0 ? [] : [`${count} ${kind}`]));
    const rest = kinds.length === 0 ? '' : ` (${kinds.join(', ')})`;
    const { files: fileCount, folders, bytes } = done;
    streams.output.write(`${fileCount} files and ${folders} folders, ${formatBytes(bytes)}, in ${target}${rest}\n`);
  }
  if (counts.damaged > 0) return 1;
  return state === 'complete' && counts['left out'] === 0 ? 0 : 3;
}

async function openVolume({
  repository,
  listings,
  args,
  values,
  streams,
}: Call): Promise<ChosenVolume & { pointId: string; state: string; stateReasons: readonly string[] }> {
  const point = await repository.openPoint(findVersion(listings, args[0] ?? ''));
  const number = values.volume === undefined ? null : Number(values.volume);
  const { pointId, state, stateReasons } = point.manifest;
  const chosen = await chooseVolume(point, { diskKey: values.disk ?? null, number }, streams.signal);
  return { ...chosen, pointId, state, stateReasons };
}
