import type { KeyObject } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { AppError } from '../errors/index.ts';
import { createCodecWork, type CodecWork } from './codec-work.ts';
import { siblingModule, systemClock, type Clock } from '../runtime/index.ts';
import { TAG_BYTES, type ChunkIdentity } from './chunk-codec.ts';
import type {
  CodecAnswer,
  CodecRequest,
  CodecThreadData,
  DecodePart,
  EncodedPart,
  EncodePart,
  Proof,
} from './codec-message.ts';
import { CompressionLevel } from './compression-level.ts';

/** Work worth a message to another thread; a single larger chunk is a batch of its own. */
const BATCH_BYTES = 1024 * 1024;
/** One batch being filled, one waiting, one in work, one being written: a thread never idles. */
const SLOTS_PER_THREAD = 4;
/** Jobs given to a thread ahead, so that it need not wait for this one to turn around. */
const JOBS_AHEAD = 2;

/** Memory shared with the threads for one batch: content in `input`, stored forms in `output`. */
export interface CodecSlot {
  readonly number: number;
  readonly input: Buffer;
  readonly output: Buffer;
}

interface Job {
  request: CodecRequest;
  transfer: ArrayBuffer[];
  resolve(result: NonNullable<CodecAnswer['result']>): void;
  reject(error: unknown): void;
}

interface Thread {
  worker: Worker;
  jobs: Map<number, Job>;
}

/**
 * Threads that hash, compress, encrypt and the reverse. Each is started when those before it have enough to do, since a
 * start costs 60 ms of a processor and a clean-up seldom needs two; they keep a process alive only while they work.
 * Memory: 4 slots of twice the batch a thread. With no threads the work is done here, one job a turn of the event loop:
 * for tests and for tools that must stay one file.
 */
export class CodecPool {
  readonly #identity: ChunkIdentity;
  readonly #threadCount: number;
  readonly #slots: CodecSlot[] = [];
  readonly #free: CodecSlot[] = [];
  readonly #slotWaiters: ((slot: CodecSlot) => void)[] = [];
  readonly #inputs: SharedArrayBuffer[] = [];
  readonly #outputs: SharedArrayBuffer[] = [];
  readonly #batchBytes: number;
  readonly #level: CompressionLevel;
  readonly #threads: Thread[] = [];
  /** Jobs that finish a batch (and free its slot) go before those that begin one. */
  readonly #urgent: Job[] = [];
  readonly #waiting: Job[] = [];
  #inline: CodecWork | null = null;
  #inlineRuns = false;
  #nextJob = 0;
  #closed = false;

  constructor(options: { threads: number; chunkSizeBytes: number; identity: ChunkIdentity; clock?: Clock }) {
    this.#identity = options.identity;
    this.#threadCount = options.threads;
    this.#batchBytes = Math.max(BATCH_BYTES, options.chunkSizeBytes);
    this.#level = new CompressionLevel({ threads: options.threads, clock: options.clock ?? systemClock });
  }

  get threadCount(): number {
    return this.#threadCount;
  }

  /** Whether identities are the plain SHA-256 of contents, which anybody can compute. */
  get identifiesBySha256(): boolean {
    return this.#identity.algorithm === 'sha256' && this.#identity.identityKey === null;
  }

  get batchBytes(): number {
    return this.#batchBytes;
  }

  /** Starts so many threads, all unless told, while their first work is still being fetched. */
  prepare(threads = this.#threadCount): void {
    if (this.#closed) return;
    this.#start();
    while (this.#threads.length < Math.min(threads, this.#threadCount)) this.#addThread();
  }

  /** Waits for a slot; that is where a fast writer is slowed down. */
  async acquireSlot(): Promise<CodecSlot> {
    this.#start();
    const slot = this.#free.pop();
    if (slot !== undefined) return slot;
    return new Promise((resolve) => this.#slotWaiters.push(resolve));
  }

  releaseSlot(slot: CodecSlot): void {
    const waiter = this.#slotWaiters.shift();
    if (waiter === undefined) this.#free.push(slot);
    else waiter(slot);
  }

  /** Identities of the chunks that lie one after the other in the slot's input, joined. */
  async hash(slot: CodecSlot, lengths: number[]): Promise<Buffer> {
    const result = await this.#run({ type: 'hash', job: this.#nextJob++, slot: slot.number, lengths }, this.#waiting);
    return bufferOf(result as Uint8Array);
  }

  async encode(slot: CodecSlot, packKey: KeyObject | null, parts: EncodePart[]): Promise<EncodedPart[]> {
    const { level } = this.#level;
    const request: CodecRequest = { type: 'encode', job: this.#nextJob++, slot: slot.number, packKey, level, parts };
    return (await this.#run(request, this.#urgent)) as EncodedPart[];
  }

  /**
   * Contents of chunks in `range`, each proven, or a sentence about what is wrong with it.
   * @param range moved to the thread where it has an ArrayBuffer of its own: gone from here afterwards
   */
  async decode(range: Buffer, packKey: KeyObject | null, parts: DecodePart[]): Promise<(Buffer | string)[]> {
    return this.#decode({ type: 'decode', job: this.#nextJob++, wanted: 'content', range, packKey, parts });
  }

  /** As `decode`, for a proof alone: null, or what is wrong. */
  async verify(
    range: Buffer,
    packKey: KeyObject | null,
    parts: DecodePart[],
    wanted: Proof,
  ): Promise<(string | null)[]> {
    const results = await this.#decode({ type: 'decode', job: this.#nextJob++, wanted, range, packKey, parts });
    return results.map((result) => (typeof result === 'string' ? result : null));
  }

  async #decode(request: CodecRequest & { type: 'decode' }): Promise<(Buffer | string)[]> {
    this.#start();
    const { range } = request;
    const transfer = range.length === range.buffer.byteLength ? [range.buffer as ArrayBuffer] : [];
    const result = (await this.#run(request, this.#waiting, transfer)) as (Uint8Array | string)[];
    return result.map((one) => (typeof one === 'string' ? one : bufferOf(one)));
  }

  /** Its workers, for tests that end one. */
  threadsForTest(): readonly Worker[] {
    return this.#threads.map((thread) => thread.worker);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const failure = new AppError('CANCELLED', 'The repository was closed.');
    for (const job of [...this.#urgent.splice(0), ...this.#waiting.splice(0)]) job.reject(failure);
    await Promise.all(this.#threads.splice(0).map((thread) => thread.worker.terminate()));
  }

  #start(): void {
    if (this.#slots.length > 0) return;
    for (let number = 0; number < Math.max(1, this.#threadCount) * SLOTS_PER_THREAD; number += 1) {
      const input = new SharedArrayBuffer(this.#batchBytes);
      const output = new SharedArrayBuffer(this.#batchBytes + 64 * TAG_BYTES);
      this.#inputs.push(input);
      this.#outputs.push(output);
      const slot = { number, input: Buffer.from(input), output: Buffer.from(output) };
      this.#slots.push(slot);
      this.#free.push(slot);
    }
    if (this.#threadCount === 0) this.#inline = createCodecWork(this.#threadData(), () => undefined);
  }

  #threadData(): CodecThreadData {
    const { algorithm, identityKey } = this.#identity;
    return { algorithm, identityKey, inputs: this.#inputs, outputs: this.#outputs };
  }

  #addThread(): Thread {
    const workerData = this.#threadData();
    const worker = new Worker(siblingModule(import.meta.url, './codec-thread'), { workerData, name: 'dozo-codec' });
    const thread: Thread = { worker, jobs: new Map() };
    worker.on('message', (answer: CodecAnswer) => this.#settle(thread, answer));
    worker.on('error', (error) => this.#replace(thread, error));
    worker.on('exit', () => this.#replace(thread, new Error('a codec thread ended')));
    // After the listeners: the first one for messages makes a worker hold the process again.
    worker.unref();
    this.#threads.push(thread);
    return thread;
  }

  #replace(thread: Thread, error: unknown): void {
    const index = this.#threads.indexOf(thread);
    if (index >= 0) this.#threads.splice(index, 1);
    const failure = new AppError('INTERNAL', 'A thread that compresses and hashes has ended unexpectedly.', {
      hint: 'Start the run again: it goes on where it stopped. If it happens again, the machine may be out of memory.',
      cause: error,
    });
    for (const job of thread.jobs.values()) job.reject(failure);
    thread.jobs.clear();
    if (this.#closed || index < 0) return;
    this.#addThread();
    this.#pump();
  }

  async #run(
    request: CodecRequest,
    queue: Job[],
    transfer: ArrayBuffer[] = [],
  ): Promise<NonNullable<CodecAnswer['result']>> {
    if (this.#closed) throw new AppError('CANCELLED', 'The repository was closed.');
    return new Promise((resolve, reject) => {
      queue.push({ request, transfer, resolve, reject });
      this.#pump();
    });
  }

  #pumpInline(work: CodecWork): void {
    if (this.#inlineRuns) return;
    const job = this.#urgent.shift() ?? this.#waiting.shift();
    if (job === undefined) return;
    this.#inlineRuns = true;
    setImmediate(() => {
      this.#inlineRuns = false;
      try {
        job.resolve(work(job.request, []));
      } catch (error) {
        job.reject(error);
      }
      this.#pumpInline(work);
    });
  }

  #pump(): void {
    if (this.#inline !== null) {
      this.#pumpInline(this.#inline);
      return;
    }
    for (;;) {
      if (this.#urgent.length + this.#waiting.length === 0) return;
      const thread = this.#leastBusy() ?? (this.#threads.length < this.#threadCount ? this.#addThread() : null);
      if (thread === null) return;
      const job = this.#urgent.shift() ?? this.#waiting.shift();
      if (job === undefined) return;
      if (thread.jobs.size === 0) thread.worker.ref();
      thread.jobs.set(job.request.job, job);
      try {
        thread.worker.postMessage(job.request, job.transfer);
      } catch (error) {
        thread.jobs.delete(job.request.job);
        if (thread.jobs.size === 0) thread.worker.unref();
        job.reject(error);
      }
    }
  }

  #leastBusy(): Thread | null {
    let best: Thread | null = null;
    for (const thread of this.#threads) {
      if (thread.jobs.size < JOBS_AHEAD && thread.jobs.size < (best?.jobs.size ?? JOBS_AHEAD)) best = thread;
    }
    return best;
  }

  #settle(thread: Thread, answer: CodecAnswer): void {
    const job = thread.jobs.get(answer.job);
    if (job === undefined) return;
    thread.jobs.delete(answer.job);
    if (thread.jobs.size === 0) thread.worker.unref();
    this.#level.worked(answer.busyMs);
    this.#pump();
    if (answer.result !== undefined) job.resolve(answer.result);
    else job.reject(new AppError('INTERNAL', `A codec thread failed: ${answer.error ?? 'unknown'}`));
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
