import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * `exclusive`: nobody else may open (mode 1). `shared`: the owner reads; others may read or not as the
 * datastore allows (mode 2).
 */
export interface FileLock {
  path: string;
  mode: 'exclusive' | 'shared';
  /** For `shared`: whether a raw open for reading is let through. */
  rawRead: boolean;
}

/** Publishes who holds which file to the shim that is preloaded into the lab's shell. */
export class LockTable {
  readonly #folder: string;
  #locks = new Map<string, FileLock>();
  /** Locks of clones that run, by the file's path. */
  readonly #clones = new Map<string, { mode: FileLock['mode']; count: number }>();
  #machines: FileLock[] = [];

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  /** Replaces everything that running machines hold. */
  setMachines(locks: FileLock[]): void {
    this.#machines = locks;
    this.#publish();
  }

  /** A clone opens a file; give the result back to let go. */
  hold(path: string, mode: FileLock['mode']): () => void {
    const known = this.#clones.get(path);
    this.#clones.set(path, { mode, count: (known?.count ?? 0) + 1 });
    this.#publish();
    let released = false;
    return () => {
      if (released) return;
      released = true;
      const now = this.#clones.get(path);
      if (now === undefined || now.count <= 1) this.#clones.delete(path);
      else now.count -= 1;
      this.#publish();
    };
  }

  isCloning(path: string): boolean {
    return this.#clones.has(path);
  }

  /** Of running machines only. */
  machineLock(path: string): FileLock | undefined {
    return this.#machines.find((lock) => lock.path === path);
  }

  ofPath(path: string): FileLock | undefined {
    for (const lock of this.#locks.values()) if (lock.path === path) return lock;
    return undefined;
  }

  #publish(): void {
    const wanted = new Map<string, FileLock>();
    const all: FileLock[] = [...this.#machines];
    for (const [path, { mode }] of this.#clones) {
      if (!this.#machines.some((lock) => lock.path === path)) all.push({ path, mode, rawRead: mode === 'shared' });
    }
    for (const lock of all) {
      const stat = statSync(lock.path, { bigint: true, throwIfNoEntry: false });
      if (stat !== undefined) wanted.set(`${stat.dev.toString(16)}-${stat.ino.toString(16)}`, lock);
    }
    for (const [entry, lock] of wanted) {
      const known = this.#locks.get(entry);
      if (known === undefined || letterOf(known) !== letterOf(lock)) {
        writeFileSync(join(this.#folder, entry), letterOf(lock));
      }
    }
    for (const entry of readdirSync(this.#folder)) {
      if (!wanted.has(entry)) rmSync(join(this.#folder, entry), { force: true });
    }
    this.#locks = wanted;
  }
}

function letterOf(lock: FileLock): 'x' | 'r' {
  return lock.mode === 'shared' && lock.rawRead ? 'r' : 'x';
}
