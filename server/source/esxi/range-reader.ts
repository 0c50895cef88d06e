import type { DiskSink, Extent } from '../../disk/index.ts';
import { AppError, isAbort, isAppError, toAppError } from '../../errors/index.ts';
import { KIB, MIB, randomHex, type Clock } from '../../runtime/index.ts';
import { shell, type SshConnection } from '../../ssh/index.ts';
import type { Budget } from '../source.ts';
import { ExactReader } from './exact-reader.ts';
import { askRange, BLOCK_BYTES, EXIT_TOO_SHORT, serveRanges } from './host-programs.ts';
import { isLost, type HostShell } from './host-shell.ts';
import { classifyHostText, lastWords } from './vmkfstools.ts';

/** A part of a disk that lies in one piece in a file of the host. */
export interface RawPiece {
  /** Path for the host's shell. */
  path: string;
  diskOffsetBytes: number;
  fileOffsetBytes: number;
  lengthBytes: number;
}

/** What is read in one step: part of a file, and where its wanted bytes belong. */
export interface ReadWindow {
  path: string;
  fileOffsetBytes: number;
  lengthBytes: number;
  parts: { diskOffsetBytes: number; windowOffsetBytes: number; lengthBytes: number }[];
}

/** A window never crosses a multiple of this on the disk, so chunks are not torn between windows. */
const WINDOW_BYTES = 4 * MIB;
/** Reading this much that nobody asked for costs less than another dd on the host. */
const GAP_BYTES = 128 * KIB;
/** Asked for ahead on a channel, so that the host never waits for us: so many bytes, small windows at most so many. */
const AHEAD_BYTES = 12 * MIB;
const AHEAD_WINDOWS = 32;
/** Failures in a row, without a window between them, after which a transfer gives up. */
const FAILURES_MAX = 5;

/**
 * Cuts extents into windows: at multiples of 4 MiB of the disk, widened to whole blocks of the file,
 * small gaps read over (their bytes are dropped).
 */
export function planWindows(extents: readonly Extent[], pieces: readonly RawPiece[]): ReadWindow[] {
  const windows: (ReadWindow & { slot: string })[] = [];
  for (const extent of extents) {
    for (const piece of pieces) {
      let start = Math.max(extent.offsetBytes, piece.diskOffsetBytes);
      const end = Math.min(extent.offsetBytes + extent.lengthBytes, piece.diskOffsetBytes + piece.lengthBytes);
      while (start < end) {
        const slotIndex = Math.floor(start / WINDOW_BYTES);
        const stop = Math.min(end, (slotIndex + 1) * WINDOW_BYTES);
        addPart(windows, piece, { slot: `${String(slotIndex)} ${piece.path}`, start, stop });
        start = stop;
      }
    }
  }
  return windows.map(({ path, fileOffsetBytes, lengthBytes, parts }) => ({
    path,
    fileOffsetBytes,
    lengthBytes,
    parts,
  }));
}

function addPart(
  windows: (ReadWindow & { slot: string })[],
  piece: RawPiece,
  part: { slot: string; start: number; stop: number },
): void {
  const pieceEnd = piece.fileOffsetBytes + piece.lengthBytes;
  const fileStart = piece.fileOffsetBytes + (part.start - piece.diskOffsetBytes);
  const fileStop = fileStart + (part.stop - part.start);
  const alignedStart = Math.floor(fileStart / BLOCK_BYTES) * BLOCK_BYTES;
  const alignedStop = Math.min(Math.ceil(fileStop / BLOCK_BYTES) * BLOCK_BYTES, pieceEnd);
  const last = windows.at(-1);
  const lengthBytes = part.stop - part.start;
  if (last !== undefined && last.slot === part.slot && fileStart >= last.fileOffsetBytes) {
    const gap = alignedStart - (last.fileOffsetBytes + last.lengthBytes);
    if (gap <= GAP_BYTES) {
      last.lengthBytes = Math.max(last.lengthBytes, alignedStop - last.fileOffsetBytes);
      last.parts.push({
        diskOffsetBytes: part.start,
        windowOffsetBytes: fileStart - last.fileOffsetBytes,
        lengthBytes,
      });
      return;
    }
  }
  windows.push({
    slot: part.slot,
    path: piece.path,
    fileOffsetBytes: alignedStart,
    lengthBytes: alignedStop - alignedStart,
    parts: [{ diskOffsetBytes: part.start, windowOffsetBytes: fileStart - alignedStart, lengthBytes }],
  });
}

export interface RangeTransfer {
  sink: DiskSink;
  signal: AbortSignal;
  /** Bytes of the disk delivered. */
  onDelivered(bytes: number): void;
  /** Bytes that came over the wire for it. */
  onReceived(bytes: number): void;
  budget?: Budget | undefined;
}

/**
 * Reads windows over parallel channels of the host's shell. Each window is delivered once it is whole
 * and proven; a lost channel or connection costs the windows that were under way, which are read again.
 *
 * @throws DISK_READ_REFUSED (locked or gone), DISK_READ_SHORT, HOST_CONNECTION_LOST, HOST_STALLED
 */
export async function readWindowsOverSsh(
  host: HostShell,
  windows: readonly ReadWindow[],
  options: RangeTransfer & { channels: number; hasPython: boolean; clock: Clock },
): Promise<void> {
  const queue = new WindowQueue(windows);
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const count = Math.max(1, Math.min(options.channels, windows.length));
  const workers = Array.from({ length: windows.length === 0 ? 0 : count }, async () => {
    try {
      await readUntilEmpty(host, queue, { ...options, signal });
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  });
  const results = await Promise.allSettled(workers);
  if (options.signal.aborted) throw toAppError(options.signal.reason);
  // The first failure ended the others; their CANCELLED tells nothing.
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  const failure = failures.find((error) => !isAbort(error)) ?? failures[0];
  if (failure !== undefined) throw toAppError(failure);
}

class WindowQueue {
  readonly #left: ReadWindow[];
  readonly #ends = new Map<string, number>();
  #failuresInRow = 0;

  constructor(windows: readonly ReadWindow[]) {
    this.#left = [...windows].reverse();
    for (const { path, fileOffsetBytes, lengthBytes } of windows) {
      this.#ends.set(path, Math.max(this.endOf(path), fileOffsetBytes + lengthBytes));
    }
  }

  /** How long a file must be for all windows of it, in bytes. */
  endOf(path: string): number {
    return this.#ends.get(path) ?? 0;
  }

  take(): ReadWindow | undefined {
    return this.#left.pop();
  }

  giveBack(windows: readonly ReadWindow[]): void {
    this.#left.push(...[...windows].reverse());
  }

  get isEmpty(): boolean {
    return this.#left.length === 0;
  }

  succeeded(): void {
    this.#failuresInRow = 0;
  }

  /** Counts a failure; true when it is one too many. */
  failed(): boolean {
    this.#failuresInRow += 1;
    return this.#failuresInRow > FAILURES_MAX;
  }
}

async function readUntilEmpty(
  host: HostShell,
  queue: WindowQueue,
  options: RangeTransfer & { hasPython: boolean; clock: Clock },
): Promise<void> {
  for (let attempt = 0; !queue.isEmpty; attempt += 1) {
    const connection = await host.usable(options.signal);
    const underWay: ReadWindow[] = [];
    try {
      await serveChannel(connection, queue, underWay, options);
    } catch (error) {
      const failure = error instanceof SinkFailed || error instanceof FileTooShort ? error.cause : error;
      if (options.signal.aborted || error instanceof SinkFailed) throw failure;
      queue.giveBack(underWay);
      const first = underWay[0];
      if (!isLost(error) && first !== undefined) await assertReadable(host, first, options.signal);
      if (error instanceof FileTooShort) throw failure;
      if (queue.failed()) throw error;
      if (isLost(error)) await host.renew(connection, options.signal);
      else await options.clock.sleep(Math.min(250 * 2 ** attempt, 5_000), options.signal);
    }
  }
}

/** The file ends before the disk does. */
class FileTooShort extends Error {}

/** A failure of the receiving side: repeating the read would not help. */
class SinkFailed extends Error {}

async function serveChannel(
  connection: SshConnection,
  queue: WindowQueue,
  underWay: ReadWindow[],
  options: RangeTransfer & { hasPython: boolean },
): Promise<void> {
  const first = queue.take();
  if (first === undefined) return;
  underWay.push(first);
  const token = randomHex(8);
  const { hasPython } = options;
  const command = serveRanges(hasPython, { token, path: first.path, sizeBytes: queue.endOf(first.path) });
  const channel = await connection.open(command, { signal: options.signal });
  try {
    const reader = new ExactReader(channel.stdout);
    // One buffer for all windows of the channel: a sink is done with it when its promise settles.
    let buffer = Buffer.alloc(0);
    let number = 0;
    let askedBytes = 0;
    let aheadBytes = AHEAD_BYTES;
    const ask = async (window: ReadWindow): Promise<void> => {
      const wait = options.budget?.(window.lengthBytes) ?? null;
      // Held to a speed, nothing is gained by asking ahead, and what has come is not to wait.
      aheadBytes = wait === null ? AHEAD_BYTES : 1;
      await wait;
      number += 1;
      askedBytes += window.lengthBytes;
      channel.stdin.write(askRange(hasPython, window.fileOffsetBytes, window.lengthBytes, number));
    };
    await ask(first);
    for (let answered = 1; ; answered += 1) {
      while (askedBytes < aheadBytes && underWay.length < AHEAD_WINDOWS) {
        const next = queue.take();
        if (next === undefined) break;
        if (next.path !== first.path) {
          // Another file: a channel serves one; the next round opens it.
          queue.giveBack([next]);
          break;
        }
        underWay.push(next);
        await ask(next);
      }
      const window = underWay[0];
      if (window === undefined) break;
      if (buffer.length < window.lengthBytes) buffer = Buffer.allocUnsafeSlow(window.lengthBytes);
      const data = buffer.subarray(0, window.lengthBytes);
      await reader.fill(data).catch(async (error: unknown) => {
        const { code } = isLost(error) ? { code: null } : await channel.exit;
        throw code === EXIT_TOO_SHORT ? new FileTooShort('shorter than its disk', { cause: shortRead(window) }) : error;
      });
      const expected = `${token}-${String(answered)}\n`;
      const trailer = Buffer.alloc(expected.length);
      await reader.fill(trailer);
      if (trailer.toString('latin1') !== expected) throw shortRead(window);
      options.onReceived(window.lengthBytes + trailer.length);
      underWay.shift();
      askedBytes -= window.lengthBytes;
      queue.succeeded();
      await deliver(window, data, options);
    }
    channel.stdin.end();
    await reader.drain();
    await channel.exit;
  } finally {
    channel.abort();
  }
}

async function deliver(window: ReadWindow, data: Buffer, options: RangeTransfer): Promise<void> {
  for (const part of window.parts) {
    const bytes = data.subarray(part.windowOffsetBytes, part.windowOffsetBytes + part.lengthBytes);
    try {
      await options.sink.write(part.diskOffsetBytes, bytes);
    } catch (error) {
      throw new SinkFailed('the receiving side failed', { cause: error });
    }
    options.onDelivered(part.lengthBytes);
  }
}

/** Learns why a window could not be read. Returns where it can be read now. */
async function assertReadable(host: HostShell, window: ReadWindow, signal: AbortSignal): Promise<void> {
  const skip = window.fileOffsetBytes / BLOCK_BYTES;
  const blocks = Math.ceil(window.lengthBytes / BLOCK_BYTES);
  const command = shell`dd if=${window.path} bs=65536 skip=${skip} count=${blocks} | wc -c`;
  const { stdout, stderr } = await host.exec(command, { isRepeatable: true, signal });
  const meaning = classifyHostText(stderr);
  if (meaning !== 'other') throw readRefused(window.path, meaning, lastWords(stderr));
  if (Number(stdout.toString('utf8').trim()) < window.lengthBytes) throw shortRead(window);
}

export function readRefused(path: string, meaning: string, words: string): AppError {
  const isGone = meaning === 'missing';
  const reason = isGone ? 'is not there any more' : 'may not be read while the machine uses its disk';
  return new AppError('DISK_READ_REFUSED', `The file ${path} ${reason}.`, {
    hint: 'Another way of reading is chosen where there is one; an NFS staging folder gives one on every host.',
    details: { path, meaning, words },
  });
}

function shortRead(window: ReadWindow): AppError {
  return new AppError('DISK_READ_SHORT', `The host gave fewer bytes of ${window.path} than the disk has.`, {
    hint: 'Check the disk on the host with "vmkfstools -e" and its length with "ls -l".',
    details: { path: window.path, offsetBytes: window.fileOffsetBytes, lengthBytes: window.lengthBytes },
  });
}

/** Whether a raw open of a file works on this host now. @throws what the connection throws */
export async function probeRawRead(host: HostShell, path: string, signal: AbortSignal): Promise<boolean> {
  const command = shell`dd if=${path} of=/dev/null bs=512 count=1`;
  return (await host.exec(command, { isRepeatable: true, signal })).code === 0;
}

/**
 * The same windows by ranges over HTTPS, several at a time.
 * @throws DISK_READ_REFUSED, DISK_RANGE_IGNORED, DISK_READ_SHORT, HOST_CONNECTION_LOST
 */
export async function readWindowsBy(
  read: (window: ReadWindow, signal: AbortSignal) => Promise<Buffer>,
  windows: readonly ReadWindow[],
  options: RangeTransfer & { parallel: number; clock: Clock },
): Promise<void> {
  const queue = new WindowQueue(windows);
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const work = async (): Promise<void> => {
    for (let window = queue.take(); window !== undefined; window = queue.take()) {
      await options.budget?.(window.lengthBytes);
      const data = await readWithRetries(read, window, queue, { clock: options.clock, signal });
      options.onReceived(data.length);
      await deliver(window, data, options).catch((error: unknown) => {
        throw error instanceof SinkFailed ? error.cause : error;
      });
    }
  };
  const workers = Array.from({ length: Math.min(options.parallel, windows.length) }, async () => {
    await work().catch((error: unknown) => {
      stop.abort(error);
      throw error;
    });
  });
  const results = await Promise.allSettled(workers);
  if (options.signal.aborted) throw toAppError(options.signal.reason);
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  const failure = failures.find((error) => !isAbort(error)) ?? failures[0];
  if (failure !== undefined) throw toAppError(failure);
}

async function readWithRetries(
  read: (window: ReadWindow, signal: AbortSignal) => Promise<Buffer>,
  window: ReadWindow,
  queue: WindowQueue,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<Buffer> {
  for (let attempt = 0; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      const data = await read(window, signal);
      if (data.length !== window.lengthBytes) throw shortRead(window);
      queue.succeeded();
      return data;
    } catch (error) {
      if (!isAppError(error) || error.retry !== 'transient' || queue.failed()) throw error;
      await clock.sleep(Math.min(500 * 2 ** attempt, 10_000), signal);
    }
  }
}
