import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runBackup } from '../../server/backup/index.ts';
import type { BackupResult, LogLine } from '../../server/contract/run.ts';
import { SharedPortal } from '../../server/iscsi/index.ts';
import { createRepository, openRepository, type Repository } from '../../server/repository/index.ts';
import { runRestore } from '../../server/restore/index.ts';
import { randomHex, silentLogger, systemClock, type Clock } from '../../server/runtime/index.ts';
import { connectEsxi, type HostAddress, type MachineIdentity, type SourceHost } from '../../server/source/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import type { LabOptions } from '../lab/lab-host.ts';
import { findMachine, QUICK_LIMITS, startScene, type SourceScene } from './source-scene.ts';

/** A lab host, a repository, and backups that read over iSCSI. */
export interface IscsiScene extends SourceScene {
  host: SourceHost;
  repositoryPath: string;
  repository: Repository;
  back(machine: string, options?: BackOptions): Promise<Backup>;
  /** Compares a version with the lab's own copy of the frozen disks. */
  assertEqualsFrozen(pointId: string, machine: string, hold: string): Promise<void>;
  /** Restores a version as a new machine and compares that one's disks. */
  assertRestores(pointId: string, machine: string, hold: string): Promise<void>;
  /** Throws when the host is not as it was before the first backup, iSCSI and firewall included. */
  assertUntouched(): Promise<void>;
}

interface BackOptions {
  hold?: string;
  signal?: AbortSignal;
  host?: SourceHost;
  clock?: Clock;
}

interface Backup {
  hold: string;
  result: BackupResult;
  lines: LogLine[];
}

export async function startIscsiScene(options: Omit<LabOptions, 'directory'>): Promise<IscsiScene> {
  const scene = await startScene(options);
  const folder = await mkdtemp(join(tmpdir(), 'dozo-iscsi-'));
  const repositoryPath = join(folder, 'repository');
  await mkdir(repositoryPath);
  const storage = await openLocalStorage({ folder: repositoryPath });
  const repository = await createRepository({ storage, threads: 1, chunkSizeBytes: 64 * 1024 });
  const host = await scene.connect({ iscsi: { portal: new SharedPortal({ bind: '127.0.0.1' }), address: null } });
  const before = await scene.lab.iscsi();

  async function assertDisks(pointId: string, expected: Record<string, string> | null): Promise<void> {
    assert.ok(expected !== null, 'the lab kept no copy');
    const point = await repository.openPoint(pointId);
    for (const { key, sizeBytes } of point.manifest.disks) {
      const stored = await (await point.openDisk(key)).read(0, sizeBytes);
      assert.ok(stored.equals(await readFile(expected[key] ?? '')), `${key} is not as it was frozen`);
    }
  }

  return {
    ...scene,
    host,
    repositoryPath,
    repository,
    async back(name, { hold = `dozo-${randomHex(8)}`, signal, host: by = host, clock } = {}) {
      const machine = await findMachine(host, name);
      const lines: LogLine[] = [];
      scene.holds.push(hold);
      const result = await backUpOnce(by, repository, machine.identity, hold, {
        log: (line) => void lines.push(line),
        signal: signal ?? new AbortController().signal,
        ...(clock && { clock }),
      });
      return { hold, result, lines };
    },
    async assertEqualsFrozen(pointId, machine, hold) {
      await assertDisks(pointId, await scene.lab.frozenCopy(await scene.lab.vmId(machine), hold));
    },
    async assertRestores(pointId, machine, hold) {
      const name = `restored ${randomHex(4)}`;
      const result = await runRestore(
        { repository, source: host, clock: systemClock, logger: silentLogger },
        {
          runId: `restore-${randomHex(4)}`,
          hold: `dozo-${randomHex(8)}`,
          repository: { path: repositoryPath },
          pointId,
          target: {
            mode: { kind: 'new', name },
            datastore: null,
            provisioning: 'as-source',
            networks: {},
            identity: 'new',
            powerOn: false,
          },
        },
        { progress: () => undefined, log: () => undefined, signal: new AbortController().signal },
      );
      assert.equal(result.state, 'success', JSON.stringify(result.error));
      const restored = await scene.lab.captureTruth(await scene.lab.vmId(name), 'restored');
      const frozen = await scene.lab.frozenCopy(await scene.lab.vmId(machine), hold);
      for (const [key, path] of Object.entries(frozen ?? {})) {
        const restoredPath = restored[key];
        assert.ok(restoredPath !== undefined, `${key} was not restored`);
        assert.ok((await readFile(path)).equals(await readFile(restoredPath)), `${key} was not restored equal`);
      }
    },
    async assertUntouched() {
      await scene.assertClean();
      assert.deepEqual(await scene.lab.iscsi(), before);
    },
    async close() {
      await repository.close();
      await scene.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export async function backUpOnce(
  source: SourceHost,
  repository: Repository,
  identity: MachineIdentity,
  hold: string,
  { clock = systemClock, ...hooks }: { log(line: LogLine): void; signal: AbortSignal } & Pick<BackOptions, 'clock'>,
): Promise<BackupResult> {
  return await runBackup(
    { repository, source, clock, logger: silentLogger },
    {
      runId: `run-${hold}`,
      hold,
      machineId: `m-${identity.instanceUuid ?? ''}`,
      identity,
      repository: { path: '' },
      options: { quiesce: 'off', fullRead: false, verifySample: 0.05, nfsStaging: null, excludedDisks: [] },
    },
    { progress: () => undefined, checkpointEveryBytes: 4 * 1024 * 1024, ...hooks },
  );
}

/** What a process of its own is told, see iscsi-child.ts. */
export interface ChildOrder {
  address: HostAddress;
  repositoryPath: string;
  identity: MachineIdentity;
  hold: string;
  /** Of its portal; any by default. */
  port?: number;
}

/** Backs up once in a process that is going to be killed. */
export async function backUpInChild(order: ChildOrder): Promise<void> {
  const repository = await openRepository({
    storage: await openLocalStorage({ folder: order.repositoryPath }),
    threads: 1,
  });
  const iscsi = { portal: new SharedPortal({ bind: '127.0.0.1', port: order.port ?? null }), address: null };
  const host = await connectEsxi(order.address, { limits: QUICK_LIMITS, iscsi });
  const result = await backUpOnce(host, repository, order.identity, order.hold, {
    log: (line) => console.log(line.code),
    signal: new AbortController().signal,
  });
  console.log(result.state);
  await host.close();
  await repository.close();
}
