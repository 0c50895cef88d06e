import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { runBackup, type BackupHooks, type BackupTask } from '../../server/backup/index.ts';
import type { BackupResult, LogLine } from '../../server/contract/run.ts';
import type { RecallFolder } from '../../server/recall/index.ts';
import { createRepository, openRepository, type Repository } from '../../server/repository/index.ts';
import { runRestore, type RestoreHooks, type RestoreTask } from '../../server/restore/index.ts';
import { randomHex, silentLogger, systemClock } from '../../server/runtime/index.ts';
import { openLocalStorage, type Storage } from '../../server/storage/index.ts';
import { FakeSourceHost, type FakeMachine } from '../fakes/fake-source-host.ts';

export const CHUNK_BYTES = 64 * 1024;

/** An engine with a real repository in a temporary folder and a host that does as it is told. */
export interface Scene {
  folder: string;
  host: FakeSourceHost;
  repository: Repository;
  /** Opened anew, as after a crash: nothing in memory is carried over. */
  reopen(wrap?: (storage: Storage) => Storage): Promise<Repository>;
  back(machine: FakeMachine, options?: Partial<BackupTask['options']>, more?: BackOptions): Promise<BackupResult>;
  restore(
    pointId: string,
    target?: Partial<RestoreTask['target']>,
    hooks?: Partial<RestoreHooks>,
  ): ReturnType<typeof runRestore>;
  lines: LogLine[];
  end(): Promise<void>;
}

interface BackOptions {
  hold?: string;
  hooks?: Partial<BackupHooks>;
  repository?: Repository;
  recall?: RecallFolder;
}

export async function openScene(): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'dozo-engine-'));
  // Also after a test that failed before its end.
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  process.setMaxListeners(0);
  const path = join(folder, 'repository');
  mkdirSync(path);
  const host = new FakeSourceHost();
  const lines: LogLine[] = [];
  const clock = { ...systemClock, sleep: () => Promise.resolve() };
  const opened: Repository[] = [];
  const first = await createRepository({
    storage: await openLocalStorage({ folder: path }),
    chunkSizeBytes: CHUNK_BYTES,
    threads: 1,
  });
  opened.push(first);
  const scene: Scene = {
    folder,
    host,
    repository: first,
    lines,
    reopen: async (wrap = (storage) => storage) => {
      scene.repository = await openRepository({ storage: wrap(await openLocalStorage({ folder: path })), threads: 1 });
      opened.push(scene.repository);
      return scene.repository;
    },
    back: (machine, options = {}, { hold = newHold(), hooks = {}, repository = scene.repository, recall } = {}) =>
      runBackup(
        { repository, source: host, clock, logger: silentLogger, recall: recall ?? null },
        backupTask(machine, hold, options),
        {
          progress: () => undefined,
          log: (line) => lines.push(line),
          signal: new AbortController().signal,
          ...hooks,
        },
      ),
    restore: (pointId, target = {}, hooks = {}) =>
      runRestore(
        { repository: scene.repository, source: host, clock, logger: silentLogger },
        {
          runId: `restore-${randomHex(4)}`,
          hold: newHold(),
          repository: { path },
          pointId,
          target: {
            mode: { kind: 'new', name: `restored-${randomHex(4)}` },
            datastore: null,
            provisioning: 'as-source',
            networks: {},
            identity: 'new',
            powerOn: false,
            ...target,
          },
        },
        { progress: () => undefined, log: (line) => lines.push(line), signal: new AbortController().signal, ...hooks },
      ),
    end: async () => {
      for (const repository of opened) await repository.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return scene;
}

export function newHold(): string {
  return `dozo-${randomHex(8)}`;
}

export function backupTask(
  machine: FakeMachine,
  hold: string,
  options: Partial<BackupTask['options']> = {},
): BackupTask {
  return {
    runId: `run-${hold}`,
    hold,
    machineId: `m-${machine.identity.instanceUuid ?? ''}`,
    identity: machine.identity,
    repository: { path: '' },
    options: { quiesce: 'off', fullRead: false, verifySample: 0.05, nfsStaging: null, excludedDisks: [], ...options },
  };
}

/** Every disk of the machine as its bytes are now. */
export function copyDisks(machine: FakeMachine): Map<string, Buffer> {
  return new Map([...machine.disks].map(([key, disk]) => [key, Buffer.from(disk.content)]));
}

/** Restores a point as a new machine and compares every byte, then has the store check itself. */
export async function assertRestores(
  scene: Scene,
  pointId: string,
  expected: ReadonlyMap<string, Buffer>,
): Promise<void> {
  const before = new Set(scene.host.machines);
  const result = await scene.restore(pointId);
  assert.equal(result.state, 'success', JSON.stringify(result.error));
  const restored = scene.host.machines.find((machine) => !before.has(machine));
  assert.deepEqual([...(restored?.disks.keys() ?? [])], [...expected.keys()]);
  for (const [key, content] of expected) {
    assert.ok(restored?.diskAt(key).content.equals(content), `disk ${key} of ${pointId} is not as it was frozen`);
  }
  scene.host.machines.splice(
    scene.host.machines.findIndex((machine) => machine === restored),
    1,
  );
}

export async function assertStoreIsClean(repository: Repository): Promise<void> {
  const report = await repository.check({ depth: 'hashes' });
  assert.deepEqual(report.damages, []);
}

const abandoned: ((value: never) => void)[] = [];

/**
 * Never settles: what waits for it is as dead as in a process that was killed. Kept reachable, since
 * open files of a dead run would otherwise be closed, with a warning, when they are collected.
 */
export function never(): Promise<never> {
  return new Promise((resolve) => {
    abandoned.push(resolve);
  });
}
