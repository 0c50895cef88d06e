import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DiskSink, Extent } from '../../server/disk/index.ts';
import { randomHex, systemClock, type Clock } from '../../server/runtime/index.ts';
import {
  connectEsxi,
  type Budget,
  type ConnectEsxiOptions,
  type FreezeRequest,
  type FrozenMachine,
  type HostAddress,
  type MachineSummary,
  type Note,
  type SourceHost,
} from '../../server/source/index.ts';
import { freePort } from '../lab/free-port.ts';
import { startLabHost, type LabHost, type LabOptions } from '../lab/lab-host.ts';

export const MIB = 1024 * 1024;

/** A lab host with what tests of the source room need around it. */
export interface SourceScene {
  lab: LabHost;
  address: HostAddress;
  notes: Note[];
  connect(options?: ConnectEsxiOptions): Promise<SourceHost>;
  /** Every hold that was asked for. */
  holds: string[];
  /** The request of a new hold for a machine. */
  request(machine: MachineSummary, change?: Partial<FreezeRequest>): FreezeRequest;
  /** Throws when anything of ours is on the host: snapshots, folders, mounts, processes' files. */
  assertClean(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Short waits where the lab's faults are waited out. Long ones, which an overloaded machine does not come near, for
 * what is sure to come.
 */
export const QUICK_LIMITS = {
  pollIntervalMs: 200,
  snapshotSettleMs: 3_000,
  snapshotTimeoutMs: 120_000,
  consolidateTimeoutMs: 120_000,
  removeIdleMs: 4_000,
  deviceTimeoutMs: 60_000,
  freeFloorBytes: 64 * MIB,
};

/** Waits of minutes pass in seconds. */
export const HURRIED_CLOCK: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 100, signal) };

export async function startScene(options: Omit<LabOptions, 'directory'>): Promise<SourceScene> {
  const directory = await mkdtemp(join(tmpdir(), 'dz'));
  const [sshPort, httpsPort] = [await freePort(), await freePort()];
  const lab = await startLabHost({
    ...options,
    sshPort,
    httpsPort,
    directory,
    switches: { keepTruth: true, ...options.switches },
  });
  assert.ok(lab.httpsPort !== null, 'the lab has no HTTPS front');
  const address: HostAddress = {
    host: lab.address,
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: lab.user,
    password: lab.password,
    sshHostKey: lab.sshHostKey,
    tlsCertificate: lab.tlsCertificate,
  };
  const notes: Note[] = [];
  const holds: string[] = [];
  const open = new Set<SourceHost>();
  return {
    lab,
    address,
    notes,
    holds,
    async connect(given = {}) {
      const host = await connectEsxi(address, { ...given, limits: { ...QUICK_LIMITS, ...given.limits } });
      open.add(host);
      return host;
    },
    request(machine, change = {}) {
      const hold = `dozo-${randomHex(8)}`;
      holds.push(hold);
      return {
        machine: machine.identity,
        hold,
        quiesce: 'off',
        nfsStaging: null,
        note: (note) => void notes.push(note),
        signal: new AbortController().signal,
        ...change,
      };
    },
    async assertClean() {
      const state = await lab.state();
      for (const vm of state.vms) {
        const names = flatten(vm.snapshots?.roots ?? []).map((snapshot) => snapshot.name);
        assert.deepEqual(
          names.filter((name) => /^dozo-[0-9a-f]{16}$/.test(name)),
          [],
          `snapshots left on ${vm.name}`,
        );
        assert.equal(vm.consolidationNeeded, false);
      }
      assert.deepEqual(
        state.datastores.filter((datastore) => datastore.name.startsWith('dozo-')).map((d) => d.name),
        [],
      );
      const { readdir } = await import('node:fs/promises');
      for (const datastore of state.datastores) {
        const left = (await readdir(datastore.localPath)).filter((name) => name.startsWith('.dozo-'));
        assert.deepEqual(left, [], `left on ${datastore.name}`);
      }
    },
    async close() {
      for (const host of open) await host.close();
      await lab.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function flatten<T extends { children: T[] }>(snapshots: T[]): T[] {
  return snapshots.flatMap((snapshot) => [snapshot, ...flatten(snapshot.children)]);
}

export async function findMachine(host: SourceHost, name: string): Promise<MachineSummary> {
  const found = (await host.listMachines()).find((machine) => machine.identity.name === name);
  assert.ok(found !== undefined, `no machine ${name}`);
  return found;
}

/** Keeps a disk's image as a repository would: starts from the previous version, takes what comes. */
export class ImageSink implements DiskSink {
  readonly image: Buffer;
  readonly delivered: Extent[] = [];

  constructor(sizeBytes: number, previous?: Buffer) {
    this.image = Buffer.alloc(sizeBytes);
    previous?.copy(this.image);
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    assert.ok(offsetBytes + data.length <= this.image.length, 'bytes beyond the disk');
    data.copy(this.image, offsetBytes);
    this.delivered.push({ offsetBytes, lengthBytes: data.length });
    await Promise.resolve();
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    assert.ok(offsetBytes + lengthBytes <= this.image.length, 'zeros beyond the disk');
    this.image.fill(0, offsetBytes, offsetBytes + lengthBytes);
    this.delivered.push({ offsetBytes, lengthBytes });
    await Promise.resolve();
  }
}

export interface ReadBack {
  image: Buffer;
  kind: string;
  route: string;
  why: string;
  token: string | null;
  readBytes: number;
}

/** Reads every disk of a frozen machine, over the previous version where the plan says so. */
export async function readAll(
  frozen: FrozenMachine,
  previous?: Record<string, ReadBack>,
  budget?: Budget,
): Promise<Record<string, ReadBack>> {
  const signal = new AbortController().signal;
  const disks: Record<string, ReadBack> = {};
  for (const disk of frozen.disks) {
    const before = previous?.[disk.disk.key];
    const since =
      before === undefined || before.token === null
        ? null
        : { changeToken: before.token, sizeBytes: before.image.length };
    const plan = await disk.plan(since, signal);
    const sink = new ImageSink(disk.disk.sizeBytes, plan.kind === 'changed' ? before?.image : undefined);
    const report = await plan.transfer(sink, { signal, ...(budget === undefined ? {} : { budget }) });
    disks[disk.disk.key] = {
      image: sink.image,
      kind: plan.kind,
      route: plan.route,
      why: plan.why.code,
      token: disk.changeToken,
      readBytes: report.readBytes,
    };
  }
  return disks;
}

/** Compares with the lab's own copies of the disks, byte for byte. */
export async function assertTruth(
  disks: Record<string, ReadBack>,
  truth: Record<string, string> | null,
): Promise<void> {
  assert.ok(truth !== null, 'the lab kept no copy');
  for (const [key, { image }] of Object.entries(disks)) {
    const path: string | undefined = truth[key];
    assert.ok(path !== undefined, `no copy of ${key}`);
    const wanted: Buffer = await readFile(path);
    assert.equal(image.length, wanted.length, `size of ${key}`);
    if (image.equals(wanted)) continue;
    const at = image.findIndex((byte, index) => byte !== wanted[index]);
    assert.fail(`${key} differs first at ${String(at)}`);
  }
}
