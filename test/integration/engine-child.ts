/*
 * Runs one backup in a process of its own, to be killed. The host lives in the parent; the task and
 * the repository's folder come as the first argument.
 */
import { runBackup, type BackupDeps, type BackupTask } from '../../server/backup/index.ts';
import { openRepository } from '../../server/repository/index.ts';
import { KIB, silentLogger, systemClock } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { connectSourceHost } from '../fakes/remote-source-host.ts';

const { folder, task } = JSON.parse(process.argv[2] ?? '{}') as { folder: string; task: BackupTask };
const repository = await openRepository({ storage: await openLocalStorage({ folder }), threads: 1 });
const source = connectSourceHost() as BackupDeps['source'];
const result = await runBackup({ repository, source, clock: systemClock, logger: silentLogger }, task, {
  progress: () => undefined,
  log: () => undefined,
  signal: new AbortController().signal,
  checkpointEveryBytes: 512 * KIB,
});
process.send?.({ result });
await repository.close();
process.disconnect();
