import { setImmediate as turn } from 'node:timers/promises';
import { AppError } from '../../server/errors/index.ts';
import {
  assertStorageName,
  storageError,
  storageMissing,
  type Storage,
  type StorageWriter,
} from '../../server/storage/index.ts';

export type StorageOperation = 'create' | 'append' | 'publish' | 'read' | 'list' | 'remove';

/**
 * What a fault does to one operation: `null` lets it pass. `before`: it fails and has no effect;
 * `after`: it takes effect, but the caller learns of a failure (a lost answer).
 */
export type Fault = { when: 'before' | 'after'; error: unknown } | null;

/** Thrown by everything after the store was told to play dead: the process was killed. */
export class KilledError extends Error {}

/** The bytes that outlive a process: shared by all doors to one store. */
export interface MemoryDisk {
  files: Map<string, { data: Buffer; modifiedAtMs: number }>;
  missing: boolean;
  capacityBytes: number;
}

export function createMemoryDisk(): MemoryDisk {
  return { files: new Map(), missing: false, capacityBytes: Number.MAX_SAFE_INTEGER };
}

/**
 * A store in memory with faults to order, for tests. Published files are copies, so later changes of a
 * buffer are not seen; what was not published dies with the door. Not imitated: directories, partial
 * durability (a published file is durable at once), permissions.
 */
export class MemoryStorage implements Storage {
  readonly location = 'memory';
  readonly disk: MemoryDisk;
  /** Asked before every operation, with its number (from 0). */
  fault: (operation: StorageOperation, name: string, count: number) => Fault = () => null;
  /** Operations so far, and what they were. */
  readonly log: { operation: StorageOperation; name: string }[] = [];
  /** Bytes read, for tests of what a reader costs. */
  readBytes = 0;
  #killed = false;
  #openBytes = 0;

  constructor(disk: MemoryDisk = createMemoryDisk()) {
    this.disk = disk;
  }

  /** From now on nothing this door does has any effect: its process is gone. */
  kill(): void {
    this.#killed = true;
  }

  async publish(name: string, data: Buffer | readonly Buffer[]): Promise<void> {
    const writer = await this.create(name);
    try {
      await writer.append(data);
      await writer.publish();
    } catch (error) {
      await writer.discard();
      throw error;
    }
  }

  async create(name: string): Promise<StorageWriter> {
    assertStorageName(name);
    const storage = this;
    let parts: Buffer[] = [];
    let lengthBytes = 0;
    let open = true;
    await this.#run('create', name, () => undefined);
    const discard = async (): Promise<void> => {
      if (open) storage.#openBytes -= lengthBytes;
      open = false;
      parts = [];
    };
    return {
      discard,
      get lengthBytes(): number {
        return lengthBytes;
      },
      async append(data): Promise<void> {
        if (!open) throw new AppError('INVARIANT_BROKEN', `${name} is already published or discarded`);
        const list = Array.isArray(data) ? (data as readonly Buffer[]) : [data as Buffer];
        await storage.#run('append', name, () => {
          const bytes = list.reduce((sum, one) => sum + one.length, 0);
          if (storage.#usedBytes() + storage.#openBytes + bytes > storage.disk.capacityBytes)
            throw errnoError('ENOSPC');
          for (const one of list) parts.push(Buffer.from(one));
          lengthBytes += bytes;
          storage.#openBytes += bytes;
        });
      },
      async publish(): Promise<void> {
        if (!open) throw new AppError('INVARIANT_BROKEN', `${name} is already published or discarded`);
        try {
          await storage.#run('publish', name, () => {
            if (storage.disk.files.has(name)) throw errnoError('EEXIST');
            storage.disk.files.set(name, { data: Buffer.concat(parts), modifiedAtMs: Date.now() });
          });
        } finally {
          await discard();
        }
      },
    };
  }

  async read(name: string, range?: { offsetBytes: number; lengthBytes: number }): Promise<Buffer> {
    assertStorageName(name);
    return this.#run('read', name, () => {
      const { data } = this.#file(name);
      const { offsetBytes, lengthBytes } = range ?? { offsetBytes: 0, lengthBytes: data.length };
      if (offsetBytes + lengthBytes > data.length) throw new Error('the file ends too early');
      this.readBytes += lengthBytes;
      return Buffer.from(data.subarray(offsetBytes, offsetBytes + lengthBytes));
    });
  }

  async sizeBytes(name: string): Promise<number> {
    assertStorageName(name);
    return this.#run('read', name, () => this.#file(name).data.length);
  }

  async exists(name: string): Promise<boolean> {
    assertStorageName(name);
    return this.#run('read', name, () => this.disk.files.has(name));
  }

  async *list(folder: string): AsyncIterable<{ name: string; sizeBytes: number; modifiedAtMs: number }> {
    for await (const name of this.listNames(folder)) {
      const file = this.disk.files.get(name);
      if (file !== undefined) yield { name, sizeBytes: file.data.length, modifiedAtMs: file.modifiedAtMs };
    }
  }

  async *listNames(folder: string): AsyncIterable<string> {
    if (folder !== '.') assertStorageName(folder);
    const names = await this.#run('list', folder, () => [...this.disk.files.keys()]);
    for (const name of names) if (folder === '.' || name.startsWith(`${folder}/`)) yield name;
  }

  async persist(name: string): Promise<void> {
    // Whatever has a name here is durable.
    assertStorageName(name);
  }

  async remove(name: string): Promise<void> {
    assertStorageName(name);
    await this.#run('remove', name, () => {
      this.#file(name);
      this.disk.files.delete(name);
    });
  }

  async removeAll(names: readonly string[]): Promise<string[]> {
    for (const name of names) assertStorageName(name);
    const removed: string[] = [];
    for (const name of names) {
      try {
        await this.remove(name);
        removed.push(name);
      } catch (error) {
        if (!(error instanceof AppError) || error.code !== 'NOT_FOUND') throw error;
      }
    }
    return removed;
  }

  async freeBytes(): Promise<number> {
    return Math.max(0, this.disk.capacityBytes - this.#usedBytes());
  }

  async #run<T>(operation: StorageOperation, name: string, effect: () => T): Promise<T> {
    const count = this.log.length;
    this.log.push({ operation, name });
    await turn();
    if (this.#killed) throw new KilledError('killed');
    if (this.disk.missing) throw storageMissing(this.location);
    const fault = this.fault(operation, name, count);
    if (this.#killed) throw new KilledError('killed');
    try {
      if (fault?.when === 'before') throw fault.error;
      const result = effect();
      if (fault?.when === 'after') throw fault.error;
      return result;
    } catch (error) {
      if (error instanceof KilledError) throw error;
      throw storageError(error, operation, name, this.location);
    }
  }

  #file(name: string): { data: Buffer } {
    const file = this.disk.files.get(name);
    if (file === undefined) throw errnoError('ENOENT');
    return file;
  }

  #usedBytes(): number {
    let used = 0;
    for (const { data } of this.disk.files.values()) used += data.length;
    return used;
  }
}

export function errnoError(code: string): Error {
  return Object.assign(new Error(code), { code });
}
