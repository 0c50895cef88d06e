export { shutDownRedis, startEmbeddedRedis, type EmbeddedRedis } from './embedded-redis.ts';
export { parseRedisUrl, type RedisAddress } from './redis-address.ts';
export { createSealer, loadKeyFile, type Sealer } from './sealed.ts';
export type { NumberedLine, TaskEvent, TaskOutcome } from './task-events.ts';
export { TaskQueue, type TaskSight, type WorkerSight } from './task-queue.ts';
export { startWorker, type Processor, type Processors, type RunningWorker, type TaskContext } from './worker.ts';
