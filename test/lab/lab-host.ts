import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { LabOptions, LabReady, MachineOptions } from './hostd/lab-options.ts';
import type {
  AutostartEntry,
  ChangedAreas,
  ChangedAreasRequest,
  Fault,
  IscsiState,
  LabState,
  Switches,
} from './hostd/protocol.ts';

export type { DatastoreOptions, DiskOptions, LabOptions, MachineOptions, WriterOptions } from './hostd/lab-options.ts';
export type { IscsiState, LabState, Switches } from './hostd/protocol.ts';

const CLONE_WAITS_WITHIN_MS = 120_000;

/** A running lab host. Needs root, Debian's busybox, openssh-server, gcc and libc6-dev. */
export interface LabHost {
  readonly directory: string;
  readonly address: string;
  readonly sshPort: number;
  /** Null when the HTTPS front is not part of this lab. */
  readonly httpsPort: number | null;
  readonly user: string;
  readonly password: string;
  /** `SHA256:…` */
  readonly sshHostKey: string;
  /** SHA-256 of the DER, lower-case hex. */
  readonly tlsCertificate: string | null;
  state(): Promise<LabState>;
  /** Id of the machine with that name today. */
  vmId(name: string): Promise<number>;
  /** Faults and choices; in force when this resolves. */
  set(switches: Partial<Switches>): Promise<void>;
  createVm(options: MachineOptions): Promise<number>;
  /** The guest writes so many blocks at random places, now. */
  write(
    vmId: number,
    options: { count: number; blockBytes: number; seed: number; node?: string; spanPercent?: number },
  ): Promise<number>;
  /** The guest writes exactly this, now. */
  writeAt(vmId: number, node: string, writes: readonly { offsetBytes: number; data: Buffer }[]): Promise<void>;
  power(vmId: number, to: 'on' | 'off' | 'shutdown' | 'reset' | 'suspend'): Promise<void>;
  createSnapshot(
    vmId: number,
    name: string,
    options?: { memory?: boolean; quiesce?: boolean; description?: string },
  ): Promise<number>;
  removeSnapshot(vmId: number, snapshotId: number, withChildren?: boolean): Promise<void>;
  changedAreas(vmId: number, request: ChangedAreasRequest): Promise<ChangedAreas>;
  /**
   * Raw copies of the disks as a snapshot froze them, by node (`scsi0:0`), made by the daemon at that
   * moment. Needs the switch `keepTruth`. Null when no snapshot of that name was copied.
   */
  frozenCopy(vmId: number, snapshotName: string): Promise<Record<string, string> | null>;
  /** The same of the disks as they are now (of a machine that is off, or whose writer is paused). */
  captureTruth(vmId: number, label: string): Promise<Record<string, string>>;
  /** Where a file of the host lies on this machine. Not for mounts made while the lab runs. */
  localPath(absolutePath: string): string;
  /** A datastore is gone at once, as when somebody pulls its disk; machines on it stay registered. */
  loseDatastore(name: string): Promise<void>;
  /** The host starts the machine when it starts itself, until it is unregistered. */
  setAutostart(vmId: number, entry: AutostartEntry): Promise<void>;
  /** Ends every SSH session at once; gives how many there were. */
  killSessions(): Promise<number>;
  /**
   * The host loses its power: SSH, HTTPS, machines, running commands, iSCSI sessions and devices are gone at once. What
   * is on disks stays, and so do its settings.
   */
  losePower(): Promise<void>;
  /**
   * Starts it again at the same ports, and the machines that ran before unless told not to. Targets are logged in to
   * at the next rescan.
   */
  boot(options?: { autostart: boolean }): Promise<void>;
  /** Resolves when a clone stands still, as the switch `cloneWaitsAtPercent` has it. */
  cloneWaits(): Promise<void>;
  /**
   * Changes of iSCSI and firewall settings since the start, and how many of them stand still (`iscsiChangeWaitsAt`).
   */
  iscsiChanges(): Promise<{ begun: number; waiting: number }>;
  /** What software iSCSI and the firewall have in force. */
  iscsi(): Promise<IscsiState>;
  /** Loses the connections of all iSCSI sessions once; gives how many there were. */
  cutIscsi(): Promise<number>;
  loginFailures(user?: string): Promise<number>;
  unlockAccounts(): Promise<void>;
  /** Any request of hostd/protocol.ts. @throws LabFault */
  call<T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T>;
  close(): Promise<void>;
}

/** The host answered with a fault of vSphere's API. */
export class LabFault extends Error {
  readonly fault: Fault['fault'];

  constructor(fault: Fault['fault']) {
    super(`${fault.type}: ${fault.message}`);
    this.fault = fault;
  }
}

/** Starts a lab host in its own process; it ends with `close`, and with this process however that ends. */
export async function startLabHost(options: LabOptions): Promise<LabHost> {
  mkdirSync(options.directory, { recursive: true });
  const password = options.password ?? 'lab-Password-1';
  const daemon = spawn(process.execPath, [join(import.meta.dirname, 'hostd', 'main.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  daemon.stdin.on('error', () => undefined);
  daemon.stdin.write(JSON.stringify({ ...options, password }) + '\n');
  const ready = await readyLine(daemon);
  return labHost({ ...options, password }, ready, daemon);
}

function readyLine(daemon: ChildProcessByStdio<Writable, Readable, null>): Promise<LabReady> {
  return new Promise((resolve, reject) => {
    daemon.once('error', reject);
    daemon.once('exit', (code) => reject(new Error(`the lab host did not start (status ${String(code)})`)));
    createInterface({ input: daemon.stdout }).once('line', (line) => resolve(JSON.parse(line) as LabReady));
  });
}

function labHost(
  options: LabOptions & { password: string },
  ready: LabReady,
  daemon: ChildProcessByStdio<Writable, Readable, null>,
): LabHost {
  const socketPath = join(options.directory, 'run', 'hostd.sock');
  const call = <T>(method: string, path: string, body?: unknown) => hostdCall<T>(socketPath, method, path, body);
  return {
    directory: options.directory,
    address: options.listenAddress ?? '127.0.0.1',
    sshPort: ready.sshPort,
    httpsPort: ready.httpsPort,
    user: options.user ?? 'root',
    password: options.password,
    sshHostKey: ready.sshHostKey,
    tlsCertificate: ready.tlsCertificate,
    call,
    state: () => call<LabState>('GET', '/state'),
    async vmId(name) {
      const { vms } = await call<LabState>('GET', '/state');
      const vm = vms.find((candidate) => candidate.name === name);
      if (vm === undefined) throw new Error(`the lab has no machine ${name}`);
      return vm.id;
    },
    async set(switches) {
      await call('PUT', '/switches', switches);
    },
    async createVm(machine) {
      return (await call<{ id: number }>('POST', '/lab/vms', machine)).id;
    },
    async write(vmId, request) {
      return (await call<{ writtenBytes: number }>('POST', `/lab/vms/${vmId}/write`, request)).writtenBytes;
    },
    async writeAt(vmId, node, writes) {
      const encoded = writes.map(({ offsetBytes, data }) => ({ offsetBytes, base64: data.toString('base64') }));
      await call('POST', `/lab/vms/${vmId}/write-at`, { node, writes: encoded });
    },
    async power(vmId, to) {
      await call('POST', `/vms/${vmId}/power`, { to });
    },
    async createSnapshot(vmId, name, { memory = false, quiesce = false, description = '' } = {}) {
      const request = { name, description, memory, quiesce };
      return (await call<{ id: number }>('POST', `/vms/${vmId}/snapshots`, request)).id;
    },
    async removeSnapshot(vmId, snapshotId, withChildren = false) {
      await call('DELETE', `/vms/${vmId}/snapshots/${snapshotId}?children=${withChildren ? 1 : 0}`);
    },
    changedAreas: (vmId, request) => call<ChangedAreas>('POST', `/vms/${vmId}/changed-areas`, request),
    async frozenCopy(vmId, snapshotName) {
      const path = `/lab/vms/${vmId}/truth?label=${encodeURIComponent(snapshotName)}`;
      return (await call<{ files: Record<string, string> | null }>('GET', path)).files;
    },
    async captureTruth(vmId, label) {
      return (await call<{ files: Record<string, string> }>('POST', `/lab/vms/${vmId}/truth`, { label })).files;
    },
    localPath: (absolutePath) => join(options.directory, 'root', absolutePath),
    async loseDatastore(name) {
      await call('DELETE', `/lab/datastores/${encodeURIComponent(name)}`);
    },
    async setAutostart(vmId, entry) {
      await call('POST', `/lab/vms/${vmId}/autostart`, entry);
    },
    async killSessions() {
      return (await call<{ killed: number }>('POST', '/lab/sessions/kill')).killed;
    },
    async losePower() {
      await call('POST', '/lab/power/lose');
    },
    async boot(options = { autostart: true }) {
      await call('POST', '/lab/power/boot', options);
    },
    async cloneWaits() {
      const untilMs = performance.now() + CLONE_WAITS_WITHIN_MS;
      while ((await call<{ waiting: number }>('GET', '/lab/clones')).waiting === 0) {
        if (performance.now() > untilMs) throw new Error('no clone came as far as it is to wait');
        await delay(50);
      }
    },
    iscsiChanges: () => call<{ begun: number; waiting: number }>('GET', '/lab/iscsi/changes'),
    iscsi: () => call<IscsiState>('GET', '/lab/iscsi'),
    async cutIscsi() {
      return (await call<{ cut: number }>('POST', '/lab/iscsi/cut')).cut;
    },
    async loginFailures(user = 'root') {
      return (await call<{ count: number }>('GET', `/lab/failures?user=${encodeURIComponent(user)}`)).count;
    },
    async unlockAccounts() {
      await call('POST', '/lab/unlock');
    },
    async close() {
      if (daemon.exitCode !== null || daemon.signalCode !== null) return;
      const ended = new Promise((resolve) => daemon.once('exit', resolve));
      daemon.stdin.end();
      await ended;
    },
  };
}

function hostdCall<T>(socketPath: string, method: string, path: string, body?: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? '' : JSON.stringify(body);
    const request = httpRequest(
      {
        socketPath,
        method,
        path,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const value = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Partial<Fault> & { error?: string };
          if (response.statusCode !== 200)
            reject(new Error(value.error ?? `hostd answers ${String(response.statusCode)}`));
          else if (value.fault !== undefined && typeof value.fault === 'object' && !('descriptionId' in value)) {
            reject(new LabFault(value.fault));
          } else resolve(value as T);
        });
      },
    );
    request.on('error', reject);
    request.end(text);
  });
}
