/**
 * One backup or restore with the product's code, alone in a process so that its time and memory can
 * be measured: what a worker does between taking a task and reporting its end, without the queue.
 * Usage: node dozo-task.ts TASK.json; prints a `DozoOutcome`.
 */
import { subscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { DEFAULT_VERIFY_SAMPLE, runBackup } from '../../server/backup/index.ts';
import type { LogLine, MachineProgress } from '../../server/contract/run.ts';
import { createRepository, openRepository } from '../../server/repository/index.ts';
import { runRestore } from '../../server/restore/index.ts';
import { createLogger, randomHex, systemClock } from '../../server/runtime/index.ts';
import { connectEsxi } from '../../server/source/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import type { DozoOutcome, DozoTask } from './dozo-protocol.ts';

/** How long each stage of the run took; the first counts from the start of the process. */
class StageClock {
  readonly seconds: Record<string, number> = {};
  #name = 'starting';
  #sinceMs = 0;

  enter(name: string): void {
    if (name === this.#name) return;
    this.end();
    this.#name = name;
  }

  end(): void {
    const nowMs = performance.now();
    this.seconds[this.#name] = (this.seconds[this.#name] ?? 0) + (nowMs - this.#sinceMs) / 1000;
    this.#sinceMs = nowMs;
  }
}

const sockets: Socket[] = [];
subscribe('net.client.socket', (message) => sockets.push((message as { socket: Socket }).socket));

const task = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as DozoTask;
const clock = systemClock;
const logger = createLogger('bench', 'warn');
const storage = await openLocalStorage({ folder: task.repository });
if (task.kind === 'create') {
  await (await createRepository({ storage })).close();
} else {
  process.stdout.write(JSON.stringify(await carryOut(task)));
}

async function carryOut(work: Exclude<DozoTask, { kind: 'create' }>): Promise<DozoOutcome> {
  const stages = new StageClock();
  const log: string[] = [];
  const hooks = {
    progress: ({ stage }: MachineProgress): void => stages.enter(stage),
    log: ({ level, code, text }: LogLine): void => void log.push(`${level} ${code} ${text}`),
    signal: new AbortController().signal,
  };
  const repository = await openRepository({ storage, clock, logger });
  const source = await connectEsxi(work.address, { clock, logger });
  const deps = { repository, source, clock, logger };
  const outcome: DozoOutcome = {
    state: '',
    pointId: null,
    readKind: null,
    route: null,
    bottleneck: null,
    wireBytes: 0,
    stages: stages.seconds,
    log,
  };
  if (work.kind === 'backup') {
    const { hold, machineId, identity } = work;
    const options = {
      quiesce: 'off' as const,
      fullRead: false,
      verifySample: DEFAULT_VERIFY_SAMPLE,
      nfsStaging: null,
      excludedDisks: [],
    };
    const repositoryAddress = { path: work.repository };
    const result = await runBackup(
      deps,
      { runId: randomHex(8), hold, machineId, identity, repository: repositoryAddress, options },
      hooks,
    );
    const [disk] = result.disks;
    outcome.state = result.state;
    outcome.pointId = result.pointId;
    outcome.readKind = disk?.kind ?? null;
    outcome.route = disk?.route ?? null;
    outcome.bottleneck = disk?.bottleneck ?? null;
  } else {
    const { hold, pointId, name, datastore } = work;
    const target = {
      mode: { kind: 'new' as const, name },
      datastore,
      provisioning: 'thin' as const,
      networks: {},
      identity: 'new' as const,
      powerOn: false,
    };
    const repositoryAddress = { path: work.repository };
    const result = await runRestore(
      deps,
      { runId: randomHex(8), hold, repository: repositoryAddress, pointId, target },
      hooks,
    );
    outcome.state = result.state;
  }
  await source.close();
  await repository.close();
  stages.end();
  outcome.wireBytes = sockets.reduce((sum, { bytesRead, bytesWritten }) => sum + bytesRead + bytesWritten, 0);
  return outcome;
}
