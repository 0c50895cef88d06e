import { createSealer, loadKeyFile } from '../queue/index.ts';
import { createLogger, systemClock } from '../runtime/index.ts';
import { readWorkerConfiguration } from './configuration.ts';
import { runWorkerProcess } from './worker-process.ts';
import { createProcessors } from './worker-tasks/index.ts';

/** A worker process: started by the server, or alone on another machine with an external Redis. */
async function main(): Promise<void> {
  const logger = createLogger('worker');
  const configuration = readWorkerConfiguration(process.env);
  const sealer = createSealer(await loadKeyFile(configuration.keyFile));
  const clock = systemClock;
  runWorkerProcess(configuration, { clock, logger, processors: createProcessors({ sealer, clock, logger }) });
}

main().catch((error: unknown) => {
  createLogger('worker').fatal({ err: error }, 'the worker cannot start');
  process.exit(1);
});
