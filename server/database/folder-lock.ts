import { chmod, readFile, stat } from 'node:fs/promises';
import { AppError, isAppError } from '../errors/index.ts';
import { Sqlite } from './sqlite.ts';

/**
 * Makes this process the only owner of a data folder. The lock is the kernel's (SQLite's own file
 * lock), so it ends with the process, however that ends, and nothing stale is left.
 * @param path of the lock file
 * @param waitMs for the present owner to end; 0 only asks
 * @returns releases the lock
 * @throws SERVER_ALREADY_RUNNING
 */
export async function lockFolder(path: string, waitMs = 0): Promise<() => Promise<void>> {
  const database = await Sqlite.open(path);
  try {
    await database.script(`PRAGMA busy_timeout = ${waitMs}; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;`);
    await chmod(path, 0o600);
  } catch (error) {
    await database.close();
    if (isAppError(error) && /SQLITE_BUSY/.test(error.message)) {
      throw new AppError('SERVER_ALREADY_RUNNING', 'Another Dozo server uses this data folder.', {
        hint: 'Stop it first, or set another folder with DOZO_DATA_DIR.',
        details: { lock: path },
        cause: error,
      });
    }
    throw error;
  }
  return () => database.close();
}

/**
 * Process that holds the lock, by Linux's table of file locks (proc_locks(5)); null where that does not tell: nobody
 * holds it, or somebody in another container does. The device is not compared: Btrfs gives another one there.
 */
export async function findLockOwner(path: string): Promise<number | null> {
  try {
    const { ino } = await stat(path);
    for (const line of (await readFile('/proc/locks', 'utf8')).split('\n')) {
      const [, pid, inode] = /^\d+: POSIX +ADVISORY +WRITE (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line) ?? [];
      if (Number(inode) === ino && Number(pid) > 0) return Number(pid);
    }
  } catch {
    // Only to say who it is.
  }
  return null;
}
