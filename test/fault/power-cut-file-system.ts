import crypto from 'node:crypto';
import { constants } from 'node:fs';
import fsModule from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { errnoError } from '../fakes/memory-storage.ts';
import type { RandomSource } from './random-source.ts';

/**
 * A file system in memory that keeps apart what programs see (the page cache) and what a power cut leaves (the
 * disk), and that fails to order. It takes the place of `node:fs/promises` for paths below its root, so the local
 * storage runs on it as it is.
 *
 * What a cut leaves of writes since the last sync of their file: any of them, in any order, whole or torn at a
 * sector. Of names made or removed since the last sync of their folder: all, none, the first ones, or any. A rename
 * is atomic. A sync that fails loses what it was to write, for good (as Linux does). Not imitated: hard links
 * that outlive their folder, permissions, concurrent processes.
 */
export class PowerCutFileSystem {
  readonly root: string;
  /** Asked before every operation, with its number since `powerOn`: an errno makes it fail, `cut` ends everything. */
  plan: (operation: Operation, count: number, name: string) => string | null = () => null;
  /** Entries that a listing leaves out. */
  lie: (folder: string, names: readonly string[]) => ReadonlySet<string> = () => NOTHING;
  operations = 0;
  #random: RandomSource;
  #isOff = false;
  #inodes = 1;
  #changes = 0;
  #top: Folder;
  readonly #real: Record<string, unknown> = {};

  constructor(root: string, random: RandomSource) {
    this.root = root;
    this.#random = random;
    this.#top = this.#newFolder();
  }

  /** A blank disk. */
  format(random: RandomSource): void {
    this.#random = random;
    this.#top = this.#newFolder();
    this.powerOn();
  }

  powerOn(): void {
    this.#isOff = false;
    this.operations = 0;
    this.plan = () => null;
    this.lie = () => NOTHING;
  }

  /**
   * What was not synced is lost, in part.
   * @param mode which names of files stay; by default chance decides
   */
  cutPower(mode: CutMode = this.#random.pick(['none', 'all', 'first', 'any'])): void {
    this.#isOff = true;
    const share = this.#random.next();
    const isKept = (order: number, count: number): boolean => {
      if (mode === 'none' || mode === 'all') return mode === 'all';
      return mode === 'first' ? order < Math.floor(share * (count + 1)) : this.#random.chance(share);
    };
    // Names in the order in which they were changed, over all folders.
    const folders = collectFolders(this.#top);
    const changes = [...new Set(folders.flatMap((folder) => folder.pending))].sort((a, b) => a.order - b.order);
    for (const [order, change] of changes.entries()) {
      if (isKept(order, changes.length))
        for (const { folder, name, node } of change.parts) put(folder.durable, name, node);
    }
    this.#restart(this.#top);
  }

  /** From the disk alone, as after a start. */
  #restart(folder: Folder): void {
    folder.cached = new Map(folder.durable);
    folder.pending = [];
    for (const node of folder.cached.values()) {
      if (node.kind === 'folder') this.#restart(node);
      else if (node.pending.length > 0 || node.lost) this.#settleFile(node);
    }
  }

  #settleFile(file: File): void {
    for (const { at, data } of file.pending) {
      if (!this.#random.chance(0.5)) continue;
      let [from, to] = [0, data.length];
      if (this.#random.chance(0.3)) {
        const sector = 512 * this.#random.below(Math.ceil(data.length / 512) + 1);
        if (this.#random.chance(0.5)) from = Math.min(sector, data.length);
        else to = Math.min(sector, data.length);
      }
      file.durable = overwrite(file.durable, at + from, data.subarray(from, to));
    }
    // The length may have been written where the content was not.
    if (file.durable.length < file.cached.length && this.#random.chance(0.3))
      file.durable = overwrite(file.durable, file.cached.length - 1, Buffer.alloc(1));
    file.cached = file.durable;
    file.pending = [];
    file.lost = false;
  }

  /** Every file that is on the disk, by its path below the root. */
  files(): Map<string, Buffer> {
    const files = new Map<string, Buffer>();
    const walk = (folder: Folder, below: string): void => {
      for (const [name, node] of folder.cached) {
        if (node.kind === 'folder') walk(node, `${below}${name}/`);
        else files.set(below + name, node.cached);
      }
    };
    walk(this.#top, '');
    return files;
  }

  /**
   * Takes the place of the real file system below the root, and of the source of random bytes, so that a seed makes
   * the same run again. `uninstall` ends it.
   */
  install(): void {
    const replace = <Name extends keyof typeof fsModule>(name: Name, own: (...args: never[]) => unknown): void => {
      const real = fsModule[name] as (...args: unknown[]) => unknown;
      this.#real[name] = real;
      const chosen = (...args: unknown[]): unknown => {
        const first = String(args[0]);
        return first === this.root || first.startsWith(`${this.root}/`)
          ? (own as (...args: unknown[]) => unknown)(...args)
          : real.apply(fsModule, args);
      };
      Object.assign(fsModule, { [name]: chosen });
    };
    replace('stat', (name: string) => this.#stat(name));
    replace('lstat', (name: string) => this.#stat(name));
    replace('statfs', async () => ({ bavail: 2 ** 30, bsize: 4096 }));
    replace('open', (name: string, flags: string | number) => this.#open(name, flags));
    replace('mkdir', (name: string) => this.#mkdir(name));
    replace('rmdir', (name: string) => this.#rmdir(name));
    replace('unlink', (name: string) => this.#unlink(name));
    replace('link', (from: string, to: string) => this.#link(from, to));
    replace('rename', (from: string, to: string) => this.#rename(from, to));
    replace('readdir', (name: string, options?: { withFileTypes?: boolean }) => this.#readdir(name, options));
    this.#real['randomBytes'] = crypto.randomBytes;
    Object.assign(crypto, { randomBytes: (length: number) => this.#random.bytes(length) });
    syncBuiltinESMExports();
  }

  uninstall(): void {
    const { randomBytes, ...functions } = this.#real;
    Object.assign(fsModule, functions);
    Object.assign(crypto, { randomBytes });
    syncBuiltinESMExports();
  }

  async #enter(operation: Operation, name: string): Promise<void> {
    // Answers come back in another order than they were asked for.
    for (let turns = this.#random.below(3); turns > 0; turns -= 1) await turn();
    if (this.#isOff) throw errnoError('EIO');
    const fault = this.plan(operation, this.operations, path.relative(this.root, name));
    this.operations += 1;
    if (fault === 'cut') {
      this.cutPower();
      throw errnoError('EIO');
    }
    if (fault !== null) throw errnoError(fault);
  }

  async #stat(name: string): Promise<unknown> {
    await this.#enter('stat', name);
    return statsOf(this.#find(name));
  }

  async #mkdir(name: string): Promise<void> {
    await this.#enter('mkdir', name);
    const { folder, base } = this.#parent(name);
    if (folder.cached.has(base)) throw errnoError('EEXIST');
    this.#change([{ folder, name: base, node: this.#newFolder() }]);
  }

  async #rmdir(name: string): Promise<void> {
    await this.#enter('rmdir', name);
    const { folder, base } = this.#parent(name);
    if (asFolder(this.#find(name)).cached.size > 0) throw errnoError('ENOTEMPTY');
    this.#change([{ folder, name: base, node: null }]);
  }

  async #unlink(name: string): Promise<void> {
    await this.#enter('unlink', name);
    const { folder, base } = this.#parent(name);
    if (this.#find(name).kind !== 'file') throw errnoError('EISDIR');
    this.#change([{ folder, name: base, node: null }]);
  }

  async #link(from: string, to: string): Promise<void> {
    await this.#enter('link', to);
    const node = this.#find(from);
    const { folder, base } = this.#parent(to);
    if (folder.cached.has(base)) throw errnoError('EEXIST');
    this.#change([{ folder, name: base, node }]);
  }

  async #rename(from: string, to: string): Promise<void> {
    await this.#enter('rename', to);
    const node = this.#find(from);
    const [old, made] = [this.#parent(from), this.#parent(to)];
    this.#change([
      { folder: made.folder, name: made.base, node },
      { folder: old.folder, name: old.base, node: null },
    ]);
  }

  async #readdir(name: string, options?: { withFileTypes?: boolean }): Promise<unknown[]> {
    await this.#enter('readdir', name);
    const entries = [...asFolder(this.#find(name)).cached];
    const hidden = this.lie(
      path.relative(this.root, name),
      entries.map(([entry]) => entry),
    );
    const shown = entries.filter(([entry]) => !hidden.has(entry));
    if (options?.withFileTypes !== true) return shown.map(([entry]) => entry);
    return shown.map(([entry, { kind }]) => ({
      name: entry,
      isFile: () => kind === 'file',
      isDirectory: () => kind === 'folder',
    }));
  }

  async #open(name: string, flags: string | number): Promise<unknown> {
    await this.#enter('open', name);
    if (typeof flags === 'number' && (flags & constants.O_DIRECTORY) !== 0) {
      const folder = asFolder(this.#find(name));
      return { sync: () => this.#syncFolder(folder, name), close: async () => undefined };
    }
    if (flags === 'wx') {
      const { folder, base } = this.#parent(name);
      if (folder.cached.has(base)) throw errnoError('EEXIST');
      const file: File = {
        kind: 'file',
        inode: this.#nextInode(),
        cached: EMPTY,
        durable: EMPTY,
        pending: [],
        lost: false,
      };
      this.#change([{ folder, name: base, node: file }]);
      return this.#handle(file, name);
    }
    const node = this.#find(name);
    if (node.kind !== 'file') throw errnoError('EISDIR');
    return this.#handle(node, name);
  }

  #handle(file: File, name: string): unknown {
    return {
      stat: async () => statsOf(file),
      close: async () => undefined,
      sync: () => this.#syncFile(file, name),
      read: async (target: Buffer, start: number, length: number, at: number) => {
        await this.#enter('read', name);
        return { bytesRead: file.cached.copy(target, start, at, Math.min(at + length, file.cached.length)) };
      },
      writev: async (buffers: readonly Buffer[], at: number) => {
        await this.#enter('write', name);
        const all = Buffer.concat(buffers);
        // A write may take less than it was given.
        const data = this.#random.chance(0.1) ? all.subarray(0, 1 + this.#random.below(all.length)) : all;
        file.cached = overwrite(file.cached, at, data);
        file.pending.push({ at, data });
        return { bytesWritten: data.length };
      },
    };
  }

  async #syncFile(file: File, name: string): Promise<void> {
    try {
      await this.#enter('sync', name);
    } catch (error) {
      file.lost ||= file.pending.length > 0;
      if (!this.#isOff) file.pending = [];
      throw error;
    }
    for (const { at, data } of file.pending) file.durable = overwrite(file.durable, at, data);
    file.pending = [];
  }

  async #syncFolder(folder: Folder, name: string): Promise<void> {
    await this.#enter('sync', name);
    for (const change of folder.pending) {
      for (const part of change.parts) {
        put(part.folder.durable, part.name, part.node);
        if (part.folder !== folder) part.folder.pending = part.folder.pending.filter((one) => one !== change);
      }
    }
    folder.pending = [];
  }

  #change(parts: Change['parts']): void {
    this.#changes += 1;
    const change = { order: this.#changes, parts };
    for (const { folder, name, node } of parts) {
      put(folder.cached, name, node);
      folder.pending.push(change);
    }
  }

  #find(name: string): File | Folder {
    let node: File | Folder = this.#top;
    for (const part of path.relative(this.root, name).split('/')) {
      if (part === '') continue;
      const below = asFolder(node).cached.get(part);
      if (below === undefined) throw errnoError('ENOENT');
      node = below;
    }
    return node;
  }

  #parent(name: string): { folder: Folder; base: string } {
    return { folder: asFolder(this.#find(path.dirname(name))), base: path.basename(name) };
  }

  #newFolder(): Folder {
    return { kind: 'folder', inode: this.#nextInode(), cached: new Map(), durable: new Map(), pending: [] };
  }

  #nextInode(): number {
    this.#inodes += 1;
    return this.#inodes;
  }
}

type CutMode = 'none' | 'all' | 'first' | 'any';

export type Operation =
  'stat' | 'open' | 'mkdir' | 'rmdir' | 'unlink' | 'link' | 'rename' | 'readdir' | 'read' | 'write' | 'sync';

interface File {
  kind: 'file';
  inode: number;
  cached: Buffer;
  durable: Buffer;
  pending: { at: number; data: Buffer }[];
  /** A sync failed: what is cached is not what is going to be there. */
  lost: boolean;
}

interface Folder {
  kind: 'folder';
  inode: number;
  cached: Map<string, File | Folder>;
  durable: Map<string, File | Folder>;
  pending: Change[];
}

/** Names that change together: one, or the two of a rename. */
interface Change {
  order: number;
  parts: { folder: Folder; name: string; node: File | Folder | null }[];
}

const EMPTY = Buffer.alloc(0);
const NOTHING: ReadonlySet<string> = new Set();

function put(names: Map<string, File | Folder>, name: string, node: File | Folder | null): void {
  if (node === null) names.delete(name);
  else names.set(name, node);
}

/** Also folders that programs do not see any more: their removal may not have reached the disk. */
function collectFolders(top: Folder, seen = new Set<Folder>()): Folder[] {
  if (seen.has(top)) return [];
  seen.add(top);
  for (const node of [...top.cached.values(), ...top.durable.values()]) {
    if (node.kind === 'folder') collectFolders(node, seen);
  }
  return [...seen];
}

function asFolder(node: File | Folder): Folder {
  if (node.kind === 'folder') return node;
  throw errnoError('ENOTDIR');
}

function statsOf(node: File | Folder): unknown {
  return {
    size: node.kind === 'file' ? node.cached.length : 0,
    dev: 1,
    ino: node.inode,
    mtimeMs: 0,
    isDirectory: () => node.kind === 'folder',
    isFile: () => node.kind === 'file',
  };
}

function overwrite(content: Buffer, at: number, data: Buffer): Buffer {
  if (data.length === 0) return content;
  const result = Buffer.alloc(Math.max(content.length, at + data.length));
  content.copy(result);
  data.copy(result, at);
  return result;
}
