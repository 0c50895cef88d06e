import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BackupResult } from '../../server/contract/run.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { LabLink } from './lab-link.ts';
import type { WindowApi, RunView } from './window-api.ts';

const MIB = 2 ** 20;
const MACHINE = 'web';

/** What is done to an installed package while it is at work. */
export interface InstalledPackage {
  repositoryPath: string;
  /** The server's log, on this machine. */
  logPath: string;
  upgrade(): Promise<void>;
  remove(): Promise<void>;
  install(): Promise<void>;
}

/** A lab host with one running machine that keeps writing, and the cable to a NAS. */
export class BackupScene {
  readonly lab: LabHost;
  readonly link: LabLink;
  readonly #folder: string;

  private constructor(folder: string, lab: LabHost, link: LabLink) {
    this.#folder = folder;
    this.lab = lab;
    this.link = link;
  }

  static async open(): Promise<BackupScene> {
    const folder = mkdtempSync(join(tmpdir(), 'dozo-scene-'));
    const lab = await startLabHost({
      directory: join(folder, 'lab'),
      edition: 'free',
      datastores: [{ name: 'ds1', type: 'VMFS-6', capacityBytes: 4096 * MIB }],
      switches: { keepTruth: true },
      vms: [
        {
          name: MACHINE,
          running: true,
          changeTracking: false,
          disks: [{ sizeBytes: 32 * MIB, provisioning: 'thin', fill: { percent: 60, seed: 7 } }],
          writer: { bytesPerSecond: MIB, spanPercent: 60 },
        },
      ],
    });
    return new BackupScene(folder, lab, await LabLink.open(lab));
  }

  async close(): Promise<void> {
    this.link.close();
    await this.lab.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Everything up to a task that can be run. @param path of the repository */
  async configure(api: WindowApi, path: string): Promise<{ hostId: string; repositoryId: string; jobId: string }> {
    const { lab } = this;
    const host = await api.insist<{ id: string }>('/hosts', {
      name: 'lab',
      host: '127.0.0.1',
      sshPort: lab.sshPort,
      httpsPort: lab.httpsPort,
      user: lab.user,
      password: lab.password,
      sshHostKey: lab.sshHostKey,
      tlsCertificate: lab.tlsCertificate,
    });
    const repository = await api.post<{ id: string }>('/repositories', { name: 'main', path });
    const machines = await api.get<{ id: string; name: string }[]>(`/hosts/${host.id}/machines?refresh=true`);
    const job = await api.post<{ id: string }>('/jobs', {
      name: 'nightly',
      machineIds: machines.filter(({ name }) => name === MACHINE).map(({ id }) => id),
      repositoryId: repository.id,
    });
    return { hostId: host.id, repositoryId: repository.id, jobId: job.id };
  }

  /** Starts a task and holds it in the middle of its machine. */
  async #begin(api: WindowApi, jobId: string): Promise<{ id: string }> {
    const held = this.link.holdAfter(3 * MIB);
    const run = await api.post<{ id: string }>(`/jobs/${jobId}/run`, {});
    await held;
    return run;
  }

  /** The host goes on as soon as the server was told to end, in the middle of a machine. */
  async #letGoOnceStopping(logPath: string, act: () => Promise<void>): Promise<void> {
    const timesStopped = (): number => readFileSync(logPath, 'utf8').split('"stopping"').length;
    const before = timesStopped();
    let hasEnded = false;
    const ended = act().finally(() => (hasEnded = true));
    // Looked at below.
    ended.catch(() => undefined);
    while (timesStopped() === before && !hasEnded) await sleep(100);
    this.link.letGo();
    await ended;
  }

  /**
   * Upgrades and removes a package while a backup is at work. What was begun ends well each time, and what it made
   * restores byte for byte.
   */
  async assertSurvives(api: WindowApi, nas: InstalledPackage): Promise<void> {
    const { hostId, jobId, repositoryId } = await this.configure(api, nas.repositoryPath);

    const first = await this.#begin(api, jobId);
    await this.#letGoOnceStopping(nas.logPath, () => nas.upgrade());
    await api.answers();
    const pointId = this.pointOf(await api.ended(first));
    await this.assertRestores(api, { pointId, hostId, name: 'after the upgrade' });

    const second = await this.#begin(api, jobId);
    await this.#letGoOnceStopping(nas.logPath, () => nas.remove());
    await nas.install();
    await api.answers();
    const another = this.pointOf(await api.ended(second));
    await this.assertRestores(api, { pointId: another, hostId, name: 'after the removal' });
    await this.assertClean(api, repositoryId);
  }

  /** Nothing is left on the host, and every byte of the repository is what it should be. */
  async assertClean(api: WindowApi, repositoryId: string): Promise<void> {
    const check = await api.post<{ id: string }>(`/repositories/${repositoryId}/check`, { depth: 'hashes' });
    assert.equal((await api.ended(check)).state, 'success');
    const machine = (await this.lab.state()).vms.find(({ name }) => name === MACHINE);
    assert.ok(machine);
    assert.equal(machine.snapshots, null, 'a snapshot is left on the host');
  }

  /** The version that a run has made. */
  pointOf(run: RunView): string {
    assert.ok(['success', 'warning'].includes(run.state), JSON.stringify(run));
    const result = run.parts[0]?.result as BackupResult | null | undefined;
    assert.ok(result !== undefined && result !== null && result.pointId !== null, JSON.stringify(run));
    return result.pointId;
  }

  /** Restores a version as a new machine and compares its disk with the newest copy of what was frozen. */
  async assertRestores(api: WindowApi, options: { pointId: string; hostId: string; name: string }): Promise<void> {
    const { pointId, hostId, name } = options;
    const truth = await this.#newestTruth();
    // The catalogue hears of a new version a moment after its run has ended.
    await api.until(`the version ${pointId} in the catalogue`, async () => {
      const { status } = await api.send('GET', `/points/${pointId}`);
      return status === 404 ? null : status;
    });
    const body = { pointId, hostId, mode: { kind: 'new', name }, datastore: 'ds1' };
    const run = await api.ended(await api.post<{ id: string }>('/restores', body));
    assert.ok(['success', 'warning'].includes(run.state), JSON.stringify(run));
    const machine = (await this.lab.state()).vms.find((vm) => vm.name === name);
    const disk = machine?.disks[0];
    assert.ok(disk !== undefined, 'the restored machine has no disk');
    const restored = this.lab.localPath((disk.chain[0]?.absolutePath ?? '').replace(/\.vmdk$/, '-flat.vmdk'));
    assert.equal(statSync(restored).size, 32 * MIB);
    execFileSync('cmp', [restored, truth[disk.node] ?? ''], { stdio: 'pipe' });
  }

  async #newestTruth(): Promise<Record<string, string>> {
    const vmId = await this.lab.vmId(MACHINE);
    const root = join(this.lab.directory, 'truth');
    const taken: { name: string; atMs: number }[] = [];
    for (const machine of readdirSync(root)) {
      for (const name of readdirSync(join(root, machine))) {
        taken.push({ name, atMs: statSync(join(root, machine, name)).birthtimeMs });
      }
    }
    const newest = taken.sort((a, b) => b.atMs - a.atMs)[0];
    assert.ok(newest, 'nothing was frozen');
    const files = await this.lab.frozenCopy(vmId, newest.name);
    assert.ok(files);
    return files;
  }
}
