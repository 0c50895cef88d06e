export { shutDownRedis, startEmbeddedRedis } from './embedded-redis.ts';
export { parseRedisUrl, type RedisAddress } from './redis-address.ts';
export { createSealer, loadKeyFile, type Sealer } from './sealed.ts';
export type { NumberedLine, TaskEvent, TaskOutcome } from './task-events.ts';
export { TaskQueue, type TaskSight } from './task-queue.ts';
export { TASK_BYTES } from './worker-capacity.ts';
export { startWorker, type Processors, type TaskContext } from './worker.ts';
