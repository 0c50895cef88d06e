import { mkdir, readdir, realpath, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../errors/index.ts';
import type { Point, Repository } from '../repository/index.ts';
import { runExport } from '../restore/index.ts';
import { randomHex, silentLogger, systemClock } from '../runtime/index.ts';

export interface RestoreRequest {
  repository: Repository;
  point: Point;
  /** Made if it is not there; must be empty. */
  folder: string;
  format: 'raw' | 'vmdk';
  /** Null: all disks. */
  diskKey: string | null;
  signal: AbortSignal;
  say(text: string): void;
  progress(done: { label: string; doneBytes: number; totalBytes: number }): void;
}

/**
 * Writes the disks of a version, the machine's configuration as the host gave it, and as Dozo understands it,
 * into a folder. Each disk is read back and compared.
 * @returns names of the files made
 * @throws CONFLICT, NOT_FOUND, CANCELLED, STORAGE_*, REPOSITORY_*, DISK_VERIFY_FAILED
 */
export async function restoreVersion(request: RestoreRequest): Promise<string[]> {
  const { point, repository, diskKey } = request;
  const { manifest } = point;
  const disks = manifest.disks.filter((disk) => diskKey === null || disk.key === diskKey);
  if (diskKey !== null && disks.length === 0) {
    throw new AppError('NOT_FOUND', `Version ${manifest.pointId} has no disk ${diskKey}.`, {
      hint: `Its disks are: ${manifest.disks.map(({ key }) => key).join(', ')}.`,
    });
  }
  const folder = await makeEmptyFolder(request.folder, repository.location);
  const names = new Set<string>();
  if (diskKey === null) {
    for (const { name } of point.listFiles()) {
      const file = freeName(names, name);
      await writeFile(path.join(folder, file), await point.readFile(name), { flag: 'wx' });
    }
    const { machine, evidence, machineName, createdAtMs, rootHash, pointId, state, stateReasons } = manifest;
    const facts = { pointId, machineName, createdAtMs, state, stateReasons, rootHash, machine, evidence };
    const file = freeName(names, 'machine.json');
    await writeFile(path.join(folder, file), `${JSON.stringify(facts, null, 2)}\n`, { flag: 'wx' });
  }
  for (const { key } of disks) {
    const file = freeName(names, `${key}.${request.format}`);
    const result = await runExport(
      { repository, clock: systemClock, logger: silentLogger },
      {
        runId: randomHex(4),
        repository: { path: repository.location },
        pointId: manifest.pointId,
        diskKey: key,
        format: request.format,
        path: path.join(folder, file),
      },
      {
        signal: request.signal,
        log: () => undefined,
        progress: ({ doneBytes, totalBytes }) => request.progress({ label: file, doneBytes, totalBytes }),
      },
    );
    if (result.error !== null) {
      const { code, message, hint, details } = result.error;
      throw new AppError(code, message, { ...(hint === undefined ? {} : { hint }), details });
    }
    if (result.state === 'cancelled') throw new AppError('CANCELLED', 'The restore was ended.');
    request.say(`${file}: ${result.writtenBytes} bytes written, read back and compared`);
  }
  return [...names];
}

/** Nothing that is there is written over, and nothing is written into a repository. */
async function makeEmptyFolder(wanted: string, repositoryFolder: string): Promise<string> {
  await mkdir(wanted, { recursive: true });
  const folder = await realpath(wanted);
  const inside = path.relative(await realpath(repositoryFolder), folder);
  if (!inside.startsWith('..') && !path.isAbsolute(inside)) {
    throw new AppError('CONFLICT', `${wanted} lies in the repository.`, { hint: 'Restore into a folder elsewhere.' });
  }
  if ((await readdir(folder)).length === 0) return folder;
  throw new AppError('CONFLICT', `The folder ${wanted} is not empty.`, { hint: 'Choose an empty or a new folder.' });
}

/** A name that stays in the folder whatever the repository, which may be hostile, calls it; each once. */
function freeName(names: Set<string>, wanted: string): string {
  // Control characters, what file systems of other systems refuse, and dots that hide or lead away.
  const safe = wanted.replaceAll(/[\u0000-\u001f\u007f/\\:*?"<>|]/g, '_').replace(/^\.+/, '_');
  const base = safe === '' ? '_' : safe.slice(0, 120);
  const { name, ext } = path.parse(base);
  let free = base;
  for (let number = 2; names.has(free.toLowerCase()); number += 1) free = `${name}-${number}${ext}`;
  names.add(free.toLowerCase());
  return free;
}
