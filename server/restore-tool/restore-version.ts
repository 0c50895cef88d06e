import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../errors/index.ts';
import type { Point, Repository } from '../repository/index.ts';
import { runExport } from '../restore/index.ts';
import { randomHex, silentLogger, systemClock } from '../runtime/index.ts';
import { freeName, makeEmptyFolder } from './target-folder.ts';

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
