/*
 * Runs one restore in a process of its own, to be killed. Address, repository and task come as the first
 * argument; each step it has passed goes out as a line.
 */
import { openRepository } from '../../server/repository/index.ts';
import { runRestore, type RestoreTask } from '../../server/restore/index.ts';
import { silentLogger, systemClock } from '../../server/runtime/index.ts';
import { connectEsxi, type HostAddress } from '../../server/source/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { QUICK_LIMITS } from './source-scene.ts';

const { address, folder, task } = JSON.parse(process.argv[2] ?? '{}') as {
  address: HostAddress;
  folder: string;
  task: RestoreTask;
};
const repository = await openRepository({ storage: await openLocalStorage({ folder }), threads: 1 });
const source = await connectEsxi(address, { limits: QUICK_LIMITS });
await runRestore({ repository, source, clock: systemClock, logger: silentLogger }, task, {
  progress: () => undefined,
  log: () => undefined,
  signal: new AbortController().signal,
  arrow: async (name) => {
    process.stdout.write(`${name}\n`);
    // The report of a finished restore never gets out.
    if (name === 'finished') await new Promise<never>(() => setInterval(() => undefined, 60_000));
  },
});
