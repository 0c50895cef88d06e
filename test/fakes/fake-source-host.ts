import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

import { normalizeExtents, type DiskSink, type Extent } from '../../server/disk/index.ts';
import { AppError } from '../../server/errors/index.ts';
import { KIB, randomHex } from '../../server/runtime/index.ts';
import type {
  DatastoreSummary,
  FreezeRequest,
  FrozenDisk,
  FrozenMachine,
  HostFacts,
  MachineDisk,
  MachineIdentity,
  MachineSummary,
  MachineTarget,
  ReadPlan,
  RouteName,
  SourceHost,
  SweepReport,
  TargetRequest,
  TransferOptions,
  TransferReport,
} from '../../server/source/index.ts';

/** Granularity of the fake's change tracking and of its allocation map. */
const TRACKING_BYTES = 64 * KIB;
/** The size in which a transfer is delivered. */
const DELIVERY_BYTES = 128 * KIB;

/** A disk whose every guest write is tracked, as ESXi does it. */
export class FakeDisk {
  content: Buffer;
  disk: MachineDisk;
  /** Goes up with each freeze; a write belongs to the generation that it is made in. */
  generation = 1;
  writes: { generation: number; extent: Extent }[] = [];
  trackingId = randomHex(8);

  constructor(disk: Partial<MachineDisk> & { key: string }, content: Buffer) {
    this.content = content;
    this.disk = {
      label: `Hard disk ${disk.key}`,
      sizeBytes: content.length,
      datastore: 'datastore1',
      path: `[datastore1] vm/${disk.key}.vmdk`,
      diskUuid: `6000C29${randomHex(12)}`,
      provisioning: 'thin',
      excluded: null,
      ...disk,
    };
  }

  /** A write of the guest. */
  write(offsetBytes: number, data: Buffer): void {
    this.content.set(data, offsetBytes);
    this.writes.push({ generation: this.generation, extent: { offsetBytes, lengthBytes: data.length } });
  }

  /** Grown or shrunk by the administrator; the tracking goes on. */
  resize(sizeBytes: number): void {
    const content = Buffer.alloc(sizeBytes);
    this.content.copy(content, 0, 0, Math.min(sizeBytes, this.content.length));
    this.content = content;
    this.disk = { ...this.disk, sizeBytes };
  }

  /** The host loses its tracking: a new id, so that earlier tokens are no longer answered. */
  resetTracking(): void {
    this.trackingId = randomHex(8);
    this.writes = [];
  }
}

export class FakeMachine {
  identity: MachineIdentity;
  disks = new Map<string, FakeDisk>();
  excluded: { disk: MachineDisk; reason: NonNullable<MachineDisk['excluded']> }[] = [];
  powerState: MachineSummary['powerState'] = 'on';
  hostId: string;
  /** The hold of the restore that made it. */
  restoredBy: string | null = null;

  constructor(name: string, hostId = '1') {
    this.hostId = hostId;
    this.identity = {
      name,
      instanceUuid: randomHex(16),
      biosUuid: randomHex(16),
      path: `[datastore1] ${name}/${name}.vmx`,
      diskUuids: [],
    };
  }

  addDisk(key: string, content: Buffer, facts: Partial<MachineDisk> = {}): FakeDisk {
    const disk = new FakeDisk({ ...facts, key }, content);
    this.disks.set(key, disk);
    return disk;
  }

  diskAt(key: string): FakeDisk {
    const disk = this.disks.get(key);
    if (disk === undefined) throw new Error(`The fake machine has no disk ${key}`);
    return disk;
  }
}

/** What shall go wrong. Set by a test at any time; used up where it says so. */
export interface FakeFaults {
  /** Thrown by freeze, once each. */
  freeze: AppError[];
  quiesceRefused: boolean;
  /** Thrown by thaw, once each; `sweepFails` keeps the second way shut as well. */
  thaw: AppError[];
  sweepFails: boolean;
  /** Datastores that do not answer a sweep. */
  unseen: string[];
  /** resume answers null although the snapshot stands. */
  resumeUnavailable: boolean;
  /** Each ends one transfer after so many bytes, with the error, or by ending as if all were done. */
  cuts: { key?: string; afterBytes: number; error: AppError | 'short' }[];
  /** Reads of a disk fail for good. */
  unreadable: Map<string, AppError>;
  plan: Map<string, AppError>;
  /** What of a change map is told; the rest is kept secret. */
  changeMap: ((extents: Extent[]) => Extent[]) | null;
  /** Waits before each delivery. */
  delayMs: number;
  /** Called before each delivery, with what was delivered so far. */
  beforeDelivery: ((key: string, deliveredBytes: number) => Promise<void> | void) | null;
  createTarget: AppError[];
  /** Fails the write that passes this many bytes in total. */
  targetWriteAfterBytes: number | null;
  /** Flips a bit of what is written to this offset of a target's disk. */
  targetFlipAtBytes: number | null;
  finish: AppError[];
}

interface FakeSnapshot {
  machine: FakeMachine;
  identity: MachineIdentity;
  frozenAtMs: number;
  level: FrozenMachine['consistency']['level'];
  requested: FreezeRequest['quiesce'];
  disks: { disk: MachineDisk; content: Buffer; token: string; generation: number; live: FakeDisk }[];
}

/**
 * A hypervisor in memory: freezes copies of its disks, tracks every write, and fails as it is told.
 * Refuses what a real host would refuse (a second snapshot under one hold, a token of another
 * tracking, reads past the end) and records what it was asked.
 */
export class FakeSourceHost implements SourceHost {
  readonly facts: HostFacts = {
    product: 'Fake ESXi',
    version: '8.0.3',
    build: '1',
    edition: 'free',
    licenseName: 'Fake Hypervisor',
    hostName: 'fake',
    sshHostKey: 'SHA256:fake',
    tlsCertificate: '00',
    soapWrites: 'refused',
    changeTracking: 'answered',
    routes: {},
    warnings: [],
  };
  readonly machines: FakeMachine[] = [];
  readonly snapshots = new Map<string, FakeSnapshot>();
  readonly targets = new Map<string, Map<string, Buffer>>();
  changeTracking = true;
  /** False: the host cannot tell which areas are allocated. */
  allocationMap = true;
  route: RouteName = 'ssh-raw';
  clockMs = 1_700_000_000_000;
  readonly faults: FakeFaults = {
    freeze: [],
    quiesceRefused: false,
    thaw: [],
    sweepFails: false,
    unseen: [],
    resumeUnavailable: false,
    cuts: [],
    unreadable: new Map(),
    plan: new Map(),
    changeMap: null,
    delayMs: 0,
    beforeDelivery: null,
    createTarget: [],
    targetWriteAfterBytes: null,
    targetFlipAtBytes: null,
    finish: [],
  };
  /** What was asked of the host. */
  readonly asked = {
    freezes: 0,
    resumes: 0,
    thaws: 0,
    sweeps: 0,
    tokens: [] as (string | null)[],
    reads: [] as { key: string; offsetBytes: number; lengthBytes: number }[],
  };

  addMachine(name: string): FakeMachine {
    const machine = new FakeMachine(name, String(this.machines.length + 1));
    this.machines.push(machine);
    return machine;
  }

  /** Bytes read from disks since the last call. */
  takeReadBytes(): number {
    const bytes = this.asked.reads.reduce((sum, read) => sum + read.lengthBytes, 0);
    this.asked.reads.length = 0;
    return bytes;
  }

  listMachines(): Promise<MachineSummary[]> {
    return Promise.resolve(this.machines.map((machine) => summarize(machine)));
  }

  listDatastores(): Promise<DatastoreSummary[]> {
    const capacityBytes = 2 ** 40;
    return Promise.resolve([
      { name: 'datastore1', type: 'VMFS-6', capacityBytes, freeBytes: capacityBytes, accessible: true },
    ]);
  }

  listNetworks(): Promise<string[]> {
    return Promise.resolve(['VM Network']);
  }

  async freeze(request: FreezeRequest): Promise<FrozenMachine> {
    await Promise.resolve();
    request.signal.throwIfAborted();
    this.asked.freezes += 1;
    const fault = this.faults.freeze.shift();
    if (fault !== undefined) throw fault;
    const machine = this.#find(request.machine);
    if (this.snapshots.has(request.hold)) throw new Error(`The fake host has a snapshot ${request.hold} already`);
    this.clockMs += 1000;
    const quiet = request.quiesce !== 'off' && !this.faults.quiesceRefused;
    this.snapshots.set(request.hold, {
      machine,
      identity: { ...machine.identity },
      frozenAtMs: this.clockMs,
      level: machine.powerState === 'off' ? 'off' : quiet ? 'filesystem' : 'crash',
      requested: request.quiesce,
      disks: [...machine.disks.values()].map((live) => {
        const generation = live.generation;
        live.generation += 1;
        const token = `${live.trackingId}/${String(generation)}`;
        return { disk: { ...live.disk }, content: Buffer.from(live.content), token, generation, live };
      }),
    });
    return this.#frozen(request.hold);
  }

  async resume(request: FreezeRequest): Promise<FrozenMachine | null> {
    await Promise.resolve();
    this.asked.resumes += 1;
    if (this.faults.resumeUnavailable || !this.snapshots.has(request.hold)) return null;
    return this.#frozen(request.hold);
  }

  async sweep(holds: readonly string[]): Promise<SweepReport> {
    await Promise.resolve();
    this.asked.sweeps += 1;
    const report: SweepReport = { removed: [], failed: [], unseen: this.faults.unseen };
    for (const hold of holds) {
      if (!this.snapshots.has(hold) && !this.targets.has(hold)) continue;
      if (this.faults.sweepFails) {
        report.failed.push({ hold, what: `snapshot ${hold}`, message: 'The fake host refuses.' });
      } else {
        this.snapshots.delete(hold);
        this.targets.delete(hold);
        report.removed.push({ hold, what: `snapshot ${hold}` });
      }
    }
    return report;
  }

  async findRestored(request: TargetRequest): Promise<MachineSummary | null> {
    await Promise.resolve();
    const restored = this.machines.find((machine) => machine.restoredBy === request.hold);
    return restored === undefined ? null : summarize(restored);
  }

  async createTarget(request: TargetRequest): Promise<MachineTarget> {
    await Promise.resolve();
    const fault = this.faults.createTarget.shift();
    if (fault !== undefined) throw fault;
    const { mode, configuration, hold } = request;
    if (mode.kind === 'new' && this.machines.some((machine) => machine.identity.name === mode.name)) {
      throw new AppError('RESTORE_NAME_TAKEN', `A machine is called ${mode.name} already.`);
    }
    const original = mode.kind === 'replace' ? this.#find(mode.machine) : null;
    const disks = new Map(configuration.neutral.disks.map((disk) => [disk.key, Buffer.alloc(disk.sizeBytes)]));
    this.targets.set(hold, disks);
    let writtenBytes = 0;
    const { faults } = this;
    return {
      disks: [...disks].map(([key, content]) => ({
        key,
        sizeBytes: content.length,
        write: async (offsetBytes, data, signal) => {
          await delay(0);
          signal?.throwIfAborted();
          if (offsetBytes + data.length > content.length) throw new Error('The fake disk ends before');
          writtenBytes += data.length;
          if (faults.targetWriteAfterBytes !== null && writtenBytes > faults.targetWriteAfterBytes) {
            throw new AppError('DISK_WRITE_FAILED', 'The fake host cut the write.');
          }
          content.set(data, offsetBytes);
          const flip = faults.targetFlipAtBytes;
          if (flip !== null && flip >= offsetBytes && flip < offsetBytes + data.length) {
            content[flip] = (content[flip] ?? 0) ^ 1;
          }
        },
        flush: () => Promise.resolve(),
        hashesChunks: true,
        hash: (extents) =>
          Promise.resolve(
            extents.map(({ offsetBytes, lengthBytes, chunkBytes }) => {
              const hash = createHash('sha256');
              const range = content.subarray(offsetBytes, offsetBytes + lengthBytes);
              if (chunkBytes === null) return hash.update(range).digest('hex');
              for (let at = 0; at < range.length; at += chunkBytes) {
                hash.update(
                  createHash('sha256')
                    .update(range.subarray(at, at + chunkBytes))
                    .digest(),
                );
              }
              return hash.digest('hex');
            }),
          ),
      })),
      finish: async () => {
        await Promise.resolve();
        const failed = faults.finish.shift();
        if (failed !== undefined) throw failed;
        if (!this.targets.delete(hold)) throw new Error('The target was aborted');
        const machine = new FakeMachine(
          mode.kind === 'new' ? mode.name : configuration.neutral.name,
          String(this.machines.length + 1),
        );
        machine.restoredBy = hold;
        if (original !== null) machine.identity = { ...original.identity };
        for (const disk of configuration.neutral.disks) {
          machine.addDisk(disk.key, disks.get(disk.key) ?? Buffer.alloc(0), disk);
        }
        if (original !== null) this.machines.splice(this.machines.indexOf(original), 1);
        this.machines.push(machine);
        return summarize(machine);
      },
      abort: async () => {
        await Promise.resolve();
        this.targets.delete(hold);
      },
    };
  }

  async close(): Promise<void> {}

  #find(identity: MachineIdentity): FakeMachine {
    const found = this.machines.find((machine) => machine.identity.instanceUuid === identity.instanceUuid);
    if (found === undefined) throw new AppError('MACHINE_NOT_FOUND', `The fake host has no ${identity.name}.`);
    return found;
  }

  #frozen(hold: string): FrozenMachine {
    const snapshot = this.snapshots.get(hold);
    if (snapshot === undefined) throw new Error(`The fake host has no snapshot ${hold}`);
    const { machine, identity } = snapshot;
    return {
      identity,
      frozenAtMs: snapshot.frozenAtMs,
      consistency: { level: snapshot.level, requested: snapshot.requested, evidence: `fake: ${snapshot.level}` },
      configuration: {
        files: [{ name: 'vm.vmx', kind: 'vmx', content: Buffer.from(`displayName = "${identity.name}"\n`) }],
        neutral: {
          name: identity.name,
          guest: 'otherLinux64Guest',
          firmware: 'bios',
          cpus: 1,
          memoryMib: 1024,
          hardwareVersion: 'vmx-19',
          disks: [
            ...snapshot.disks.map(({ disk }) => ({ ...disk, adapter: 'pvscsi' })),
            ...machine.excluded.map(({ disk }) => ({ ...disk, adapter: 'pvscsi' })),
          ],
          networks: [{ key: 'ethernet0', adapter: 'vmxnet3', network: 'VM Network', mac: '00:0c:29:00:00:01' }],
          snapshots: [],
        },
      },
      disks: snapshot.disks.map((disk) => this.#frozenDisk(hold, disk)),
      excluded: machine.excluded,
      thaw: async (signal) => {
        await Promise.resolve();
        signal?.throwIfAborted();
        this.asked.thaws += 1;
        const fault = this.faults.thaw.shift();
        if (fault !== undefined) throw fault;
        this.snapshots.delete(hold);
      },
    };
  }

  #frozenDisk(hold: string, frozen: FakeSnapshot['disks'][number]): FrozenDisk {
    return {
      disk: frozen.disk,
      changeToken: this.changeTracking ? frozen.token : null,
      plan: async (since) => {
        await Promise.resolve();
        const fault = this.faults.plan.get(frozen.disk.key);
        if (fault !== undefined) throw fault;
        this.asked.tokens.push(since?.changeToken ?? null);
        return this.#plan(hold, frozen, since);
      },
    };
  }

  #plan(
    hold: string,
    frozen: FakeSnapshot['disks'][number],
    since: { changeToken: string; sizeBytes: number } | null,
  ): ReadPlan {
    const { disk, content, live, generation } = frozen;
    const transfer = (sink: DiskSink, options: TransferOptions): Promise<TransferReport> =>
      this.#transfer(hold, frozen, options.extents ?? extents, sink, options);
    const [trackingId, sinceGeneration] = since?.changeToken.split('/') ?? [];
    let extents: Extent[];
    if (since !== null && this.changeTracking && trackingId === live.trackingId) {
      const changes = live.writes.filter(
        (write) => write.generation > Number(sinceGeneration) && write.generation <= generation,
      );
      extents = tracked(
        changes.map((write) => write.extent),
        disk.sizeBytes,
      );
      if (this.faults.changeMap !== null) extents = this.faults.changeMap(extents);
      const why = { level: 'info', code: 'FAKE_CHANGED', text: 'The fake host knows what changed.' } as const;
      return { kind: 'changed', extents, why, route: this.route, transfer };
    }
    if (this.allocationMap) {
      extents = allocated(content);
      const why = { level: 'info', code: 'FAKE_ALLOCATED', text: 'The fake host knows what is allocated.' } as const;
      return { kind: 'allocated', extents, why, route: this.route, transfer };
    }
    extents = content.length === 0 ? [] : [{ offsetBytes: 0, lengthBytes: content.length }];
    const why = { level: 'info', code: 'FAKE_EVERYTHING', text: 'The fake host knows nothing.' } as const;
    return { kind: 'everything', extents, why, route: this.route, transfer };
  }

  async #transfer(
    hold: string,
    frozen: FakeSnapshot['disks'][number],
    extents: readonly Extent[],
    sink: DiskSink,
    options: TransferOptions,
  ): Promise<TransferReport> {
    const { key } = frozen.disk;
    const unreadable = this.faults.unreadable.get(key);
    if (unreadable !== undefined) throw unreadable;
    const cutIndex = this.faults.cuts.findIndex((cut) => cut.key === undefined || cut.key === key);
    const [cut] = cutIndex < 0 ? [] : this.faults.cuts.splice(cutIndex, 1);
    let deliveredBytes = 0;
    for (const extent of extents) {
      const end = extent.offsetBytes + extent.lengthBytes;
      if (end > frozen.content.length) throw new Error('Read past the end of the fake disk');
      for (let at = extent.offsetBytes; at < end;) {
        if (!this.snapshots.has(hold)) throw new Error('Read of a thawed fake machine');
        if (this.faults.delayMs > 0) await delay(this.faults.delayMs, undefined, { signal: options.signal });
        await this.faults.beforeDelivery?.(key, deliveredBytes);
        options.signal.throwIfAborted();
        if (cut !== undefined && deliveredBytes >= cut.afterBytes) {
          if (cut.error === 'short') return { readBytes: deliveredBytes, wireBytes: deliveredBytes };
          throw cut.error;
        }
        const lengthBytes = Math.min(DELIVERY_BYTES, end - at);
        this.asked.reads.push({ key, offsetBytes: at, lengthBytes });
        const data = Buffer.from(frozen.content.subarray(at, at + lengthBytes));
        if (data.every((byte) => byte === 0)) await sink.zero(at, lengthBytes);
        else await sink.write(at, data);
        deliveredBytes += lengthBytes;
        options.progress?.(lengthBytes);
        at += lengthBytes;
      }
    }
    if (cut !== undefined && cut.error !== 'short' && deliveredBytes >= cut.afterBytes) throw cut.error;
    return { readBytes: deliveredBytes, wireBytes: deliveredBytes };
  }
}

function tracked(extents: readonly Extent[], sizeBytes: number): Extent[] {
  const blocks: Extent[] = [];
  for (const { offsetBytes, lengthBytes } of extents) {
    const start = Math.floor(offsetBytes / TRACKING_BYTES) * TRACKING_BYTES;
    const end = Math.min(sizeBytes, Math.ceil((offsetBytes + lengthBytes) / TRACKING_BYTES) * TRACKING_BYTES);
    if (end > start) blocks.push({ offsetBytes: start, lengthBytes: end - start });
  }
  return normalizeExtents(blocks);
}

function allocated(content: Buffer): Extent[] {
  const blocks: Extent[] = [];
  const zeros = Buffer.alloc(TRACKING_BYTES);
  for (let at = 0; at < content.length; at += TRACKING_BYTES) {
    const block = content.subarray(at, at + TRACKING_BYTES);
    if (!block.equals(zeros.subarray(0, block.length))) blocks.push({ offsetBytes: at, lengthBytes: block.length });
  }
  return normalizeExtents(blocks);
}

function summarize(machine: FakeMachine): MachineSummary {
  return {
    identity: { ...machine.identity, diskUuids: [...machine.disks.values()].map((disk) => disk.disk.diskUuid ?? '') },
    hostId: machine.hostId,
    powerState: machine.powerState,
    guest: 'otherLinux64Guest',
    hardwareVersion: 'vmx-19',
    changeTracking: true,
    toolsRunning: true,
    hasSnapshots: false,
    consolidationNeeded: false,
    annotation: '',
    networks: ['VM Network'],
    disks: [...machine.disks.values()].map((disk) => disk.disk),
  };
}
