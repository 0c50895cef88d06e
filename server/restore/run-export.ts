import { link, open, rename, stat, unlink, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import type { LogLine, MachineProgress, RestoreResult } from '../contract/run.ts';
import type { WorkerTask } from '../contract/task.ts';
import { AppError, cancelled, errnoOf, isAppError, toAppError } from '../errors/index.ts';
import type { PointDisk, Repository } from '../repository/index.ts';
import { randomHex, type Clock, type Logger } from '../runtime/index.ts';

import { createRawFile } from './raw-file.ts';
import { labelDisk } from './point-machine.ts';
import { RestoreProgress } from './restore-progress.ts';
import { createSparseVmdk } from './sparse-vmdk.ts';
import { countDataBytes, verifyDisk, writeDisk, type WritableDisk } from './write-disk.ts';

export type ExportTask = Omit<Extract<WorkerTask, { kind: 'export' }>, 'kind'>;

export interface ExportDeps {
  repository: Repository;
  clock: Clock;
  logger: Logger;
}

export interface ExportHooks {
  progress(progress: MachineProgress): void;
  log(line: LogLine): void;
  signal: AbortSignal;
}

/**
 * Writes a disk of a restore point into a file: `raw` (its bytes, with holes where they are zero) or
 * `vmdk` (one sparse file that VMware's programs and QEMU open). Written beside under a temporary
 * name, synced, read back and compared, then given its name; never over a file that exists. A disk
 * that an incomplete point holds is whole, so it can be exported.
 *
 * Never rejects: whatever happens is in the result, whose `machine` is null.
 * Codes: CONFLICT (the file exists), INPUT_INVALID (too large for a VMDK), DISK_VERIFY_FAILED,
 * STORAGE_FULL, STORAGE_READ_ONLY, STORAGE_MISSING (its folder), STORAGE_FAILED, POINT_*, REPOSITORY_*.
 */
export async function runExport(deps: ExportDeps, task: ExportTask, hooks: ExportHooks): Promise<RestoreResult> {
  const { clock } = deps;
  const result: RestoreResult = {
    state: 'success',
    error: null,
    machine: null,
    writtenBytes: 0,
    verifiedBytes: 0,
    holdReleased: true,
    startedAtMs: clock.nowMs(),
    finishedAtMs: 0,
  };
  const progress = new RestoreProgress({ clock, emit: hooks.progress.bind(hooks) });
  try {
    await exportDisk(deps, task, hooks, progress, result);
    const text = `Written and verified: ${task.path}`;
    hooks.log({ atMs: clock.nowMs(), level: 'info', code: 'EXPORT_DONE', text, details: { path: task.path } });
  } catch (error) {
    const isCancel = hooks.signal.aborted;
    const failure = isCancel ? cancelled(error) : wrap(error, task.path);
    result.state = isCancel ? 'cancelled' : 'failed';
    result.error = failure.toBody();
    deps.logger.error({ runId: task.runId, code: failure.code, details: failure.details }, failure.message);
    const { code, message: text, details } = failure;
    hooks.log({ atMs: clock.nowMs(), level: isCancel ? 'info' : 'error', code, text, details });
  }
  progress.enter('done');
  result.finishedAtMs = clock.nowMs();
  return result;
}

async function exportDisk(
  deps: ExportDeps,
  task: ExportTask,
  hooks: ExportHooks,
  progress: RestoreProgress,
  result: RestoreResult,
): Promise<void> {
  const { signal } = hooks;
  progress.enter('preparing');
  signal.throwIfAborted();
  await refuseExisting(task.path);
  const point = await deps.repository.openPoint(task.pointId);
  const disk = await point.openDisk(task.diskKey);
  progress.addDisk(task.diskKey, labelDisk(point, task.diskKey), await countDataBytes(disk));
  // The run's id makes the name unique, and lets a repeated attempt write over its own remains.
  // Not made of the name that it will get, which may be as long as the file system takes.
  const temporary = join(dirname(task.path), `dozo-${task.runId}.part`);
  const file = await open(temporary, 'w+', 0o640);
  try {
    const target = await createTarget(file, disk, task);
    progress.enter('writing');
    const written = await writeDisk({
      disk,
      target,
      signal,
      wrote: (bytes) => {
        progress.done(task.diskKey, bytes);
        result.writtenBytes += bytes;
      },
    });
    progress.enter('verifying');
    await verifyDisk({
      target,
      written,
      label: basename(task.path),
      signal,
      verified: (bytes) => {
        progress.done(task.diskKey, bytes);
        result.verifiedBytes += bytes;
      },
    });
    await file.close();
    progress.enter('finishing');
    await publish(temporary, task.path);
  } catch (error) {
    await file.close().catch(ignore);
    await unlink(temporary).catch(ignore);
    throw error;
  }
}

async function createTarget(file: FileHandle, disk: PointDisk, task: ExportTask): Promise<WritableDisk> {
  if (task.format === 'raw') return createRawFile(file, disk.sizeBytes);
  return createSparseVmdk(file, {
    sizeBytes: disk.sizeBytes,
    name: basename(task.path).replaceAll(/["\r\n]/g, '_'),
    adapter: task.diskKey,
    contentId: randomHex(4),
  });
}

/** Gives the file its name, at once and never over another. */
async function publish(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
    await unlink(temporary);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') throw exists(path);
    // Some file systems (exFAT on a USB disk) know no links. There a name taken since is still refused.
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(errnoOf(error))) throw error;
    await refuseExisting(path);
    await rename(temporary, path);
  }
}

async function refuseExisting(path: string): Promise<void> {
  const found = await stat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (found !== null) throw exists(path);
}

function exists(path: string): AppError {
  return new AppError('CONFLICT', `There is a file ${path} already.`, {
    hint: 'Choose another name.',
    details: { path },
  });
}

function wrap(error: unknown, path: string): AppError {
  const errno = errnoOf(error);
  if (isAppError(error) || errno === '') return toAppError(error);
  const details = { path, errno };
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    const hint = 'Free some space or choose another folder, then export again.';
    return new AppError('STORAGE_FULL', `No space is left for ${path}.`, { hint, details, cause: error });
  }
  if (errno === 'EROFS' || errno === 'EACCES' || errno === 'EPERM') {
    const hint = 'Choose a folder that the package may write to.';
    return new AppError('STORAGE_READ_ONLY', `The folder of ${path} cannot be written.`, {
      hint,
      details,
      cause: error,
    });
  }
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    const hint = 'Create the folder, or choose another.';
    return new AppError('STORAGE_MISSING', `The folder of ${path} does not exist.`, { hint, details, cause: error });
  }
  if (errno === 'ENAMETOOLONG') {
    const hint =
      'Choose a shorter name. An encrypted shared folder of DSM takes 143 bytes; a Japanese letter has three.';
    return new AppError('STORAGE_FAILED', `The name of ${path} is too long for its folder.`, {
      hint,
      details,
      cause: error,
    });
  }
  return new AppError('STORAGE_FAILED', `Writing ${path} failed (${errno}).`, { details, cause: error });
}

function ignore(): void {
  // The first error is the one to report.
}
