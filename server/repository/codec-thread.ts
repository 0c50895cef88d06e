import { parentPort, workerData } from 'node:worker_threads';
import type { CodecAnswer, CodecRequest, CodecThreadData } from './codec-message.ts';
import { createCodecWork } from './codec-work.ts';
import { releaseMemory } from '../runtime/index.ts';

/** Hashes, compresses and decompresses for the pool of `codec-pool.ts`; started, never imported. */

const port = parentPort;
if (port === null) throw new Error('codec-thread is started as a worker thread');
const work = createCodecWork(workerData as CodecThreadData, releaseMemory);

port.on('message', (request: CodecRequest) => {
  const transfer: ArrayBuffer[] = [];
  const beganMs = performance.now();
  let answer: Omit<CodecAnswer, 'busyMs'>;
  try {
    answer = { job: request.job, result: work(request, transfer) };
  } catch (error) {
    answer = { job: request.job, error: error instanceof Error ? error.message : String(error) };
  }
  port.postMessage({ ...answer, busyMs: performance.now() - beganMs } satisfies CodecAnswer, transfer);
});
