import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runBackup, type BackupHooks, type BackupTask } from '../../server/backup/index.ts';
import type { BackupResult, LogLine, RestoreResult } from '../../server/contract/run.ts';
import { createRepository, openRepository, type Repository } from '../../server/repository/index.ts';
import { runRestore, type RestoreHooks, type RestoreTask } from '../../server/restore/index.ts';
import { KIB, randomHex, silentLogger, systemClock, type Clock } from '../../server/runtime/index.ts';
import type { MachineSummary, SourceHost } from '../../server/source/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { assertTruth, findMachine, type ReadBack, type SourceScene } from './source-scene.ts';

/** Backups and restores of a lab host's machines with a real repository, in this process. */
export interface HostEngine {
  repository: Repository;
  repositoryPath: string;
  lines: LogLine[];
  back(machine: string, more?: BackOptions): Promise<BackupResult & { hold: string; frozen: FrozenDisks }>;
  restoreTask(pointId: string, target: Partial<RestoreTask['target']>, hold?: string): RestoreTask;
  restore(task: RestoreTask, hooks?: Partial<RestoreHooks>): Promise<RestoreResult>;
  /** Restores a version as a new machine, compares every disk with the frozen one, and deletes it. */
  assertRestores(pointId: string, frozen: FrozenDisks): Promise<void>;
  /** The bytes that a machine of the host has now are those that were frozen. */
  assertBytes(restored: MachineSummary, frozen: FrozenDisks): Promise<void>;
  assertStoreIsClean(): Promise<void>;
  close(): Promise<void>;
}

/** Files with the disks as the host froze them, by key; null when it froze none. */
export type FrozenDisks = Record<string, string> | null;

interface BackOptions {
  hold?: string;
  options?: Partial<BackupTask['options']>;
  hooks?: Partial<BackupHooks>;
}

export async function openHostEngine(
  scene: SourceScene,
  host: SourceHost,
  clock: Clock = systemClock,
): Promise<HostEngine> {
  const folder = await mkdtemp(join(tmpdir(), 'dozo-engine-'));
  const repositoryPath = join(folder, 'repository');
  await mkdir(repositoryPath);
  const storage = await openLocalStorage({ folder: repositoryPath });
  await (await createRepository({ storage, chunkSizeBytes: 64 * KIB, threads: 1 })).close();
  const repository = await openRepository({ storage: await openLocalStorage({ folder: repositoryPath }), threads: 1 });
  const lines: LogLine[] = [];
  const deps = { repository, source: host, clock, logger: silentLogger };
  const hooks = {
    progress: () => undefined,
    log: (line: LogLine) => void lines.push(line),
    signal: new AbortController().signal,
  };
  const engine: HostEngine = {
    repository,
    repositoryPath,
    lines,
    async back(name, more = {}) {
      const { identity, hostId } = await findMachine(host, name);
      const hold = more.hold ?? `dozo-${randomHex(8)}`;
      const task: BackupTask = {
        runId: `run-${hold}`,
        hold,
        machineId: `m-${name}`,
        identity,
        repository: { path: repositoryPath },
        options: {
          quiesce: 'off',
          fullRead: false,
          verifySample: 0.05,
          nfsStaging: null,
          excludedDisks: [],
          ...more.options,
        },
      };
      const result = await runBackup(deps, task, { ...hooks, ...more.hooks });
      return { ...result, hold, frozen: await scene.lab.frozenCopy(Number(hostId), hold) };
    },
    restoreTask(pointId, target, hold = `dozo-${randomHex(8)}`) {
      return {
        runId: `restore-${hold}`,
        hold,
        repository: { path: repositoryPath },
        pointId,
        target: {
          mode: { kind: 'new', name: `restored-${randomHex(4)}` },
          datastore: null,
          provisioning: 'thin',
          networks: {},
          identity: 'new',
          powerOn: false,
          ...target,
        },
      };
    },
    restore: (task, more = {}) => runRestore(deps, task, { ...hooks, ...more }),
    async assertRestores(pointId, frozen) {
      const result = await engine.restore(engine.restoreTask(pointId, {}));
      assert.equal(result.state, 'success', JSON.stringify(result.error));
      assert.ok(result.machine !== null);
      const restored = result.machine as MachineSummary;
      await engine.assertBytes(restored, frozen);
      await scene.lab.call('DELETE', `/vms/${restored.hostId}?files=1`);
    },
    async assertBytes(restored, frozen) {
      const now = await scene.lab.captureTruth(Number(restored.hostId), `check-${randomHex(4)}`);
      const disks: Record<string, ReadBack> = {};
      for (const [key, path] of Object.entries(now)) {
        disks[key] = { image: await readFile(path), kind: '', route: '', why: '', token: null, readBytes: 0 };
      }
      assert.deepEqual(Object.keys(disks).sort(), Object.keys(frozen ?? {}).sort());
      await assertTruth(disks, frozen);
    },
    async assertStoreIsClean() {
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
    },
    async close() {
      await repository.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return engine;
}
