import { createSealer, loadKeyFile } from '../queue/index.ts';
import { SharedPortal } from '../iscsi/index.ts';
import { RecallFolder } from '../recall/index.ts';
import { createLogger, systemClock, type Clock, type Logger } from '../runtime/index.ts';
import type { IscsiAccess } from '../source/index.ts';
import { readWorkerConfiguration, type WorkerConfiguration } from './configuration.ts';
import { runWorkerProcess } from './worker-process.ts';
import { createProcessors } from './worker-tasks/index.ts';

/** A worker process: started by the server, or alone on another machine with an external Redis. */
async function main(): Promise<void> {
  const logger = createLogger('worker');
  const configuration = readWorkerConfiguration(process.env);
  const sealer = createSealer(await loadKeyFile(configuration.keyFile));
  const clock = systemClock;
  const iscsi = openIscsiAccess(configuration.iscsi, { clock, logger });
  const { recallFolder } = configuration;
  const recall = recallFolder === null ? null : new RecallFolder({ folder: recallFolder, clock, logger });
  const processors = createProcessors({ sealer, clock, logger, iscsi, recall });
  runWorkerProcess(configuration, { clock, logger, processors });
}

/** The one portal of this process; it listens while a host is cloning onto it. */
function openIscsiAccess(
  settings: WorkerConfiguration['iscsi'],
  parts: { clock: Clock; logger: Logger },
): IscsiAccess | null {
  if (settings === null) return null;
  const { address, port, bind } = settings;
  return { portal: new SharedPortal({ port, ...(bind !== null && { bind }), ...parts }), address };
}

main().catch((error: unknown) => {
  createLogger('worker').fatal({ err: error }, 'the worker cannot start');
  process.exit(1);
});
