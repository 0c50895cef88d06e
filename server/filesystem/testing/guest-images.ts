import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import { copyFile, lstat, mkdir, mkdtemp, open, readdir, readlink, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Extent } from '../../disk/index.ts';
import type { GuestFileSystem, Volume } from '../filesystem.ts';

/** File systems made and mounted by the machine's own tools: the truth that the readers are held against. */

/** A piece of a file that is read at once, smaller than most files and no divisor of them. */
const READ_BYTES = 1_000_003;
const NS_PER_MS = 1_000_000n;
const ZEROS = Buffer.alloc(1024 * 1024);

export interface ImageVolume extends Volume {
  close(): Promise<void>;
}

export async function openImage(file: string): Promise<ImageVolume> {
  const handle: FileHandle = await open(file, 'r');
  const { size } = await handle.stat();
  return {
    sizeBytes: size,
    async read(offsetBytes, lengthBytes) {
      const buffer = Buffer.allocUnsafe(lengthBytes);
      const { bytesRead } = await handle.read(buffer, 0, lengthBytes, offsetBytes);
      if (bytesRead !== lengthBytes) throw new Error(`Read behind the image: ${offsetBytes}+${lengthBytes} of ${size}`);
      return buffer;
    },
    close: () => handle.close(),
  };
}

/**
 * A folder for one test, removed with all that is mounted in it. Mounts live in a mount namespace of their own: one
 * that another test copied from the machine's would keep them mounted after their unmount here.
 */
export class Workshop {
  readonly folder: string;
  readonly #holder: ChildProcess;
  readonly #mounted = new Set<string>();

  private constructor(folder: string, holder: ChildProcess) {
    this.folder = folder;
    this.#holder = holder;
  }

  static async open(): Promise<Workshop> {
    const folder = await mkdtemp(path.join(tmpdir(), 'dozo-volume-'));
    // It says so when the namespace stands, and ends with this process: its input is closed then.
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', 'echo ready; cat >/dev/null'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await once(holder.stdout, 'data');
    return new Workshop(folder, holder);
  }

  path(name: string): string {
    return path.join(this.folder, name);
  }

  /** Runs a tool to its end, where it sees what is mounted; its output. */
  run(command: string, ...args: string[]): string {
    const tool = ['--target', String(this.#holder.pid), '--mount', command, ...args.map((arg) => this.#inside(arg))];
    return execFileSync('nsenter', tool, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 28 });
  }

  /**
   * @param mount e.g. ['mount', '-o', 'loop']; image and folder are appended
   * @returns where this process sees what was mounted
   */
  async mount(image: string, mount: readonly [string, ...string[]]): Promise<string> {
    const folder = await mkdtemp(path.join(this.folder, 'mounted-'));
    const [command, ...options] = mount;
    this.run(command, ...options, image, folder);
    this.#mounted.add(folder);
    return `${this.#outside()}${folder}`;
  }

  unmount(folder: string): void {
    const inside = this.#inside(folder);
    this.run('umount', folder);
    this.#mounted.delete(inside);
    // A file system of a process (ntfs-3g) writes its last after its unmount; its command line names the folder.
    const deadline = performance.now() + 120_000;
    while (isNamedByProcess(inside)) {
      if (performance.now() > deadline) throw new Error(`A process does not let go of ${inside}`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }

  async close(): Promise<void> {
    for (const folder of this.#mounted) this.run('umount', '--lazy', folder);
    const ended = once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await ended;
    await rm(this.folder, { recursive: true, force: true });
  }

  #outside(): string {
    return `/proc/${this.#holder.pid}/root`;
  }

  #inside(file: string): string {
    return file.startsWith(`${this.#outside()}/`) ? file.slice(this.#outside().length) : file;
  }
}

function isNamedByProcess(text: string): boolean {
  return readdirSync('/proc').some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(text);
    } catch {
      // It ended in between.
      return false;
    }
  });
}

/** What is compared of a file: everything that the face shows but the time of change. */
interface TreeFact {
  type: string;
  sizeBytes: number;
  modifiedAtMs: number;
  content: string;
}

/** Path → facts, by the machine's own file system. */
export async function readMounted(root: string, under = ''): Promise<Map<string, TreeFact>> {
  const facts = new Map<string, TreeFact>();
  const names = await readdir(path.join(root, under), { encoding: 'buffer' });
  for (const name of names) {
    const file = Buffer.concat([Buffer.from(`${path.join(root, under)}/`), name]);
    const shown = `${under}/${name.toString()}`;
    const stat = await lstat(file, { bigint: true });
    // As a number of milliseconds it would be rounded: 0.9999 ms becomes the next one.
    const fact = { sizeBytes: 0, modifiedAtMs: Number(stat.mtimeNs / NS_PER_MS), content: '' };
    if (stat.isDirectory()) {
      facts.set(shown, { ...fact, type: 'folder' });
      for (const [key, value] of await readMounted(root, shown)) facts.set(key, value);
    } else if (stat.isSymbolicLink()) {
      facts.set(shown, { ...fact, type: 'link', content: await readlink(file) });
    } else if (stat.isFile()) {
      const sizeBytes = Number(stat.size);
      facts.set(shown, { ...fact, type: 'file', sizeBytes, content: hashFile(file, sizeBytes) });
    } else {
      facts.set(shown, { ...fact, type: 'other' });
    }
  }
  return facts;
}

function hashFile(file: Buffer, sizeBytes: number): string {
  const hash = createHash('sha256');
  const descriptor = openSync(file, 'r');
  const buffer = Buffer.alloc(READ_BYTES);
  try {
    for (let at = 0; at < sizeBytes;) {
      const got = readSync(descriptor, buffer, 0, READ_BYTES, at);
      if (got === 0) break;
      hash.update(buffer.subarray(0, got));
      at += got;
    }
  } finally {
    closeSync(descriptor);
  }
  return hash.digest('hex');
}

/** Path → facts, by the reader under test. */
export async function readGuest(fileSystem: GuestFileSystem, under = ''): Promise<Map<string, TreeFact>> {
  const facts = new Map<string, TreeFact>();
  for await (const entry of fileSystem.list(under === '' ? '/' : under)) {
    const shown = `${under}/${entry.name}`;
    let content = entry.linkTarget ?? '';
    if (entry.type === 'file') content = (await hashGuestFile(fileSystem, shown)).digest('hex');
    facts.set(shown, { type: entry.type, sizeBytes: entry.sizeBytes, modifiedAtMs: entry.modifiedAtMs ?? 0, content });
    if (entry.type === 'folder') for (const [key, value] of await readGuest(fileSystem, shown)) facts.set(key, value);
  }
  return facts;
}

async function hashGuestFile(fileSystem: GuestFileSystem, file: string): Promise<Hash> {
  const hash = createHash('sha256');
  const opened = await fileSystem.open(file);
  for (let at = 0; at < opened.sizeBytes; at += READ_BYTES)
    hash.update(await opened.read(at, Math.min(READ_BYTES, opened.sizeBytes - at)));
  return hash;
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** A copy in which nothing is left of what was said to be free. */
export async function blankedCopy(image: string, copy: string, free: readonly Extent[]): Promise<void> {
  await copyFile(image, copy);
  const descriptor = openSync(copy, 'r+');
  try {
    for (const { offsetBytes, lengthBytes } of free) {
      for (let at = 0; at < lengthBytes; at += ZEROS.length)
        writeSync(descriptor, ZEROS, 0, Math.min(ZEROS.length, lengthBytes - at), offsetBytes + at);
    }
  } finally {
    closeSync(descriptor);
  }
}

/** Bytes that tell of any piece that is missing, doubled or out of place. */
export function patterned(lengthBytes: number, seed: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at + 4 <= lengthBytes; at += 4)
    bytes.writeUInt32LE((Math.imul(at + 1, 2654435761) ^ seed) >>> 0, at);
  return bytes;
}

/** A folder within folders, `depth` deep. */
export async function deepFolder(root: string, depth: number): Promise<string> {
  const folder = path.join(root, ...Array.from({ length: depth }, (_, level) => `level ${level}`));
  await mkdir(folder, { recursive: true });
  return folder;
}
