import { createHash } from 'node:crypto';
import { AppError, isAbort, isAppError, toAppError } from '../../errors/index.ts';
import { MIB, ownsMemory, randomHex, releaseMemory, SECTOR_BYTES, type Clock } from '../../runtime/index.ts';
import { shell, type SshConnection } from '../../ssh/index.ts';
import type { HashedExtent } from '../source.ts';
import { announceRun, blocksOf, serveRuns } from './host-programs.ts';
import { commandFailed, isLost, type HostShell } from './host-shell.ts';
import { classifyHostText, lastWords } from './vmkfstools.ts';

/** Writes that touch are joined up to this. Each is a line for the host's Python, and a process for its shell. */
const RUN_BYTES_MAX = { python: MIB, shell: 2 * MIB, commands: 2 * MIB };
/** Bytes taken from the caller and not yet known to be on the host. */
const PENDING_BYTES_MAX = 8 * MIB;
/** Places where writes may go on side by side before the oldest is sent off. */
const OPEN_RUNS_MAX = 4;
const AHEAD = 2;
/** A channel without work stays open so long: another costs a process on the host and a turn to it. */
const IDLE_MS = 100;
const FAILURES_MAX = 5;

const SERVE_HASHES = 'while read -r b s c; do dd if="$1" bs="$b" skip="$s" count="$c" 2>/dev/null | sha256sum; done';
/**
 * The same by the Python of ESXi (3.5 or later), whose hash uses the processor's own instructions: BusyBox's
 * takes four times as long, and a process a range. Reading and hashing let go of Python's lock, so that two threads,
 * which take the ranges in turns, keep two processors busy.
 */
const SERVE_HASHES_FAST = `import hashlib, sys, threading
ranges = [tuple(map(int, line.split())) for line in sys.stdin]
hashes = [None] * len(ranges)
turns = iter(range(len(ranges)))
lock = threading.Lock()
def work():
    f = open(sys.argv[1], 'rb')
    while True:
        with lock:
            i = next(turns, None)
        if i is None:
            return
        offset, left, chunk = ranges[i]
        f.seek(offset)
        h = hashlib.sha256()
        while left > 0:
            b = f.read(min(left, chunk or 1048576))
            if not b:
                return
            h.update(hashlib.sha256(b).digest() if chunk else b)
            left -= len(b)
        hashes[i] = h.hexdigest()
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if None in hashes:
    sys.exit(3)
print('\\n'.join(hashes))
`;

interface Run {
  offsetBytes: number;
  data: Buffer[];
  lengthBytes: number;
}

/** How runs are written: by one program of the host's Python or shell, or by a command each. */
export type RunsBy = 'python' | 'shell' | 'commands';

/**
 * Writes a flat disk file on the host over parallel channels. Bytes count as written when the host
 * said so; a lost connection costs the runs under way, which are written again.
 *
 * Errors, from `write` or `flush`: DATASTORE_FULL, DISK_WRITE_FAILED, HOST_CONNECTION_LOST
 */
export class DiskWriter {
  readonly #host: HostShell;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #channels: number;
  readonly #by: RunsBy;
  readonly #open: Run[] = [];
  readonly #queue: Run[] = [];
  readonly #underWay = new Set<Run>();
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  /** Resolved when there is something for a channel to send. */
  #sealed = Promise.withResolvers<void>();
  #workers = 0;
  #pendingBytes = 0;
  #failuresInRow = 0;
  #failure: unknown = undefined;

  constructor(parts: { host: HostShell; path: string; clock: Clock; channels: number; by: RunsBy }) {
    this.#host = parts.host;
    this.#path = parts.path;
    this.#clock = parts.clock;
    this.#channels = parts.channels;
    this.#by = parts.by;
  }

  /** @param data given away: memory that is all its own is released when the host has it */
  async write(offsetBytes: number, data: Buffer, signal?: AbortSignal): Promise<void> {
    if (data.length === 0) return;
    await this.#until(() => !this.#overlaps(offsetBytes, data.length), signal);
    this.#add(offsetBytes, data);
    await this.#until(() => this.#pendingBytes <= PENDING_BYTES_MAX, signal);
  }

  /** Resolves when every byte given so far is on the host. */
  async flush(signal?: AbortSignal): Promise<void> {
    this.#sealAll();
    await this.#until(() => this.#pendingBytes === 0, signal);
  }

  /** Ends all work, with this error for whoever waits; what was under way may or may not be on the host. */
  end(error: AppError): void {
    this.#fail(error);
  }

  #add(offsetBytes: number, data: Buffer): void {
    this.#pendingBytes += data.length;
    let run = this.#open.find((open) => open.offsetBytes + open.lengthBytes === offsetBytes);
    if (run === undefined) {
      run = { offsetBytes, data: [], lengthBytes: 0 };
      this.#open.push(run);
    }
    run.data.push(data);
    run.lengthBytes += data.length;
    if (run.lengthBytes >= RUN_BYTES_MAX[this.#by]) this.#seal(run);
    else if (this.#open.length > OPEN_RUNS_MAX) this.#seal(this.#open[0] ?? run);
  }

  #seal(run: Run): void {
    this.#open.splice(this.#open.indexOf(run), 1);
    this.#queue.push(run);
    this.#start();
    this.#sealed.resolve();
    this.#sealed = Promise.withResolvers();
  }

  #sealLargest(): void {
    const [first, ...others] = this.#open;
    if (first === undefined) return;
    this.#seal(others.reduce((largest, run) => (run.lengthBytes > largest.lengthBytes ? run : largest), first));
  }

  #sealAll(): void {
    for (const run of [...this.#open]) this.#seal(run);
  }

  /** Two writes of the same place must reach the host in their order: the second waits for the first. */
  #overlaps(offsetBytes: number, lengthBytes: number): boolean {
    const isHit = (run: Run): boolean =>
      run.offsetBytes < offsetBytes + lengthBytes && offsetBytes < run.offsetBytes + run.lengthBytes;
    const openHit = this.#open.find(isHit);
    if (openHit !== undefined) this.#seal(openHit);
    return openHit !== undefined || this.#queue.some(isHit) || [...this.#underWay].some(isHit);
  }

  async #until(isReached: () => boolean, signal?: AbortSignal): Promise<void> {
    for (;;) {
      if (this.#failure !== undefined) throw toAppError(this.#failure);
      signal?.throwIfAborted();
      if (isReached()) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      const onAbort = (): void => resolve();
      signal?.addEventListener('abort', onAbort, { once: true });
      // Runs that are still open never end by themselves, and the host must not wait for them.
      if (this.#queue.length === 0) this.#sealLargest();
      await promise;
      signal?.removeEventListener('abort', onAbort);
      this.#waiting.delete(resolve);
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#stop.abort(error);
    this.#wake();
  }

  #start(): void {
    while (this.#workers < Math.min(this.#channels, this.#queue.length) && this.#failure === undefined) {
      this.#workers += 1;
      void this.#work()
        .catch((error: unknown) => this.#fail(error))
        .finally(() => {
          this.#workers -= 1;
          if (this.#queue.length > 0) this.#start();
        });
    }
  }

  async #work(): Promise<void> {
    while (this.#queue.length > 0) {
      const connection = await this.#host.usable(this.#stop.signal);
      const taken: Run[] = [];
      try {
        if (this.#by !== 'commands') await this.#serve(connection, taken);
        else await this.#writeOne(connection, taken);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        for (const run of taken) this.#underWay.delete(run);
        this.#queue.unshift(...taken);
        this.#failuresInRow += 1;
        if (isLost(error)) await this.#host.renew(connection, this.#stop.signal);
        else await this.#explain(taken[0]);
        if (this.#failuresInRow > FAILURES_MAX) throw error;
      }
    }
  }

  #take(taken: Run[]): Run | undefined {
    const run = this.#queue.shift();
    if (run === undefined) return undefined;
    taken.push(run);
    this.#underWay.add(run);
    return run;
  }

  #done(run: Run, taken: Run[]): void {
    taken.splice(taken.indexOf(run), 1);
    this.#underWay.delete(run);
    this.#pendingBytes -= run.lengthBytes;
    // A part of something larger may be somebody's.
    for (const data of run.data) if (ownsMemory(data)) releaseMemory(data);
    this.#failuresInRow = 0;
    this.#wake();
  }

  async #serve(connection: SshConnection, taken: Run[]): Promise<void> {
    const token = randomHex(8);
    const signal = this.#stop.signal;
    const hasPython = this.#by === 'python';
    const channel = await connection.open(serveRuns(hasPython, { token, path: this.#path }), { signal });
    try {
      const answers = lines(channel.stdout);
      let number = 0;
      let answered = 0;
      let coming: Promise<IteratorResult<string, void>> | null = null;
      const send = (): boolean => {
        const run = this.#queue[0];
        if (run === undefined) return false;
        const isWhole = run.offsetBytes % SECTOR_BYTES === 0 && run.lengthBytes % SECTOR_BYTES === 0;
        if (!isWhole && !hasPython) return false;
        this.#take(taken);
        number += 1;
        channel.stdin.write(announceRun(hasPython, run.offsetBytes, run.lengthBytes, number));
        for (const data of run.data) channel.stdin.write(data);
        return true;
      };
      for (;;) {
        while (taken.length < AHEAD && send());
        const more = this.#sealed.promise.then(() => 'more' as const);
        const run = taken[0];
        if (run === undefined) {
          // Bytes keep coming while a restore runs. What is left to be sent now is not for this channel.
          if (this.#queue.length > 0) break;
          const idle = this.#clock.sleep(IDLE_MS, signal).then(() => 'idle' as const);
          if ((await Promise.race([idle, more])) === 'idle' && this.#queue.length === 0) break;
          continue;
        }
        coming ??= answers.next();
        const answer = await (taken.length < AHEAD ? Promise.race([coming, more]) : coming);
        if (answer === 'more') continue;
        coming = null;
        answered += 1;
        if (answer.done === true || answer.value !== `${token}-${String(answered)}`) throw writeFailed(this.#path, '');
        this.#done(run, taken);
      }
      channel.stdin.end();
      // A channel tells its status only after its last byte was read.
      for (let next = await answers.next(); next.done !== true;) next = await answers.next();
      await channel.exit;
    } finally {
      channel.abort();
    }
    // What is left is not made of whole sectors and goes the slow way.
    if (this.#queue.length > 0) await this.#writeOne(connection, taken);
  }

  /** One run by a command of its own, in as many parts as its alignment needs. */
  async #writeOne(connection: SshConnection, taken: Run[]): Promise<void> {
    const run = this.#take(taken);
    if (run === undefined) return;
    await this.#writeRun(connection, run);
    this.#done(run, taken);
  }

  async #writeRun(connection: SshConnection, run: Run): Promise<void> {
    const data = Buffer.concat(run.data);
    const headBytes = Math.min(data.length, (SECTOR_BYTES - (run.offsetBytes % SECTOR_BYTES)) % SECTOR_BYTES);
    const bodyBytes = Math.floor((data.length - headBytes) / SECTOR_BYTES) * SECTOR_BYTES;
    for (const [from, to] of [
      [0, headBytes],
      [headBytes, headBytes + bodyBytes],
      [headBytes + bodyBytes, data.length],
    ] as const) {
      if (to === from) continue;
      const offsetBytes = run.offsetBytes + from;
      const block = blocksOf(offsetBytes, 0).block;
      const command = shell`dd of=${this.#path} bs=${block} seek=${offsetBytes / block} conv=notrunc`;
      const stdin = data.subarray(from, to);
      const result = await connection.exec(command, { stdin, signal: this.#stop.signal });
      if (result.code !== 0) throw writeFailed(this.#path, result.stderr);
    }
  }

  /** Writes the failed run once more with its words kept: they say whether the datastore is full. */
  async #explain(run: Run | undefined): Promise<void> {
    if (run === undefined) return;
    try {
      await this.#writeRun(await this.#host.usable(this.#stop.signal), run);
    } catch (error) {
      if (isAppError(error) && (error.code === 'DATASTORE_FULL' || error.code === 'DISK_WRITE_FAILED')) throw error;
      if (!isLost(error) && !isAbort(error)) throw error;
    }
  }
}

function hashLines(output: Buffer): string[] {
  return output.toString('utf8').match(/^[0-9a-f]{64}\b/gm) ?? [];
}

/**
 * SHA-256 of each extent of a file, computed on the host; here, where the host has no way to.
 * @param extents with `chunkBytes` only for a host that has Python
 */
export async function hashOnHost(
  host: HostShell,
  path: string,
  extents: readonly HashedExtent[],
  signal?: AbortSignal,
): Promise<string[]> {
  if (extents.length === 0) return [];
  const options = { isRepeatable: true, ...(signal && { signal }) };
  const lines = extents.map(
    ({ offsetBytes, lengthBytes, chunkBytes }) => `${[offsetBytes, lengthBytes, chunkBytes ?? 0].join(' ')}\n`,
  );
  const command = shell`python3 -I -S -c ${SERVE_HASHES_FAST} ${path} 2>/dev/null`;
  const fast = await host.exec(command, { ...options, stdin: lines.join('') });
  const found = hashLines(fast.stdout);
  if (fast.code === 0 && found.length === extents.length) return found;
  if (extents.some(({ chunkBytes }) => chunkBytes !== null)) throw commandFailed('hash what was written', fast);
  const stdin = extents
    .map(({ offsetBytes, lengthBytes }) => {
      const { block, first, count } = blocksOf(offsetBytes, lengthBytes);
      return `${String(block)} ${String(first)} ${String(count)}\n`;
    })
    .join('');
  const result = await host.exec(shell`sh -c ${SERVE_HASHES} dozo ${path}`, { ...options, stdin });
  const hashes = hashLines(result.stdout);
  if (hashes.length === extents.length) return hashes;
  const local: string[] = [];
  for (const { offsetBytes, lengthBytes } of extents) {
    const { block, first, count } = blocksOf(offsetBytes, lengthBytes);
    const command = shell`dd if=${path} bs=${block} skip=${first} count=${count} 2>/dev/null`;
    const connection = await host.usable(signal);
    const channel = await connection.open(command, signal === undefined ? {} : { signal });
    const hash = createHash('sha256');
    for await (const chunk of channel.stdout as AsyncIterable<Buffer>) hash.update(chunk);
    await channel.exit;
    local.push(hash.digest('hex'));
  }
  return local;
}

function writeFailed(path: string, words: string): AppError {
  const details = { path, words: lastWords(words) };
  if (classifyHostText(words) === 'full') {
    return new AppError('DATASTORE_FULL', `The datastore is full; ${path} cannot be written to its end.`, {
      hint: 'Free space on the datastore, or restore to another one. The original machine is as it was.',
      details,
    });
  }
  return new AppError('DISK_WRITE_FAILED', `The host could not write ${path}.`, {
    hint: 'See the words of the host in the details, and vmkernel.log on the host.',
    details,
  });
}

async function* lines(stream: AsyncIterable<unknown>): AsyncGenerator<string, void, void> {
  let rest = '';
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest += chunk.toString('latin1');
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      yield rest.slice(0, end);
      rest = rest.slice(end + 1);
    }
  }
}
