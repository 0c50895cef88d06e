import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readDescriptor, sectorsOf, touchContentId, writeDescriptor } from '../disks/descriptor.ts';
import { ChainError, DiskChain, readLinks, type Run } from '../disks/disk-chain.ts';
import { mapFileSync } from '../disks/map-file.ts';
import { areasSince, ChangeTracker, type FrozenMap } from './change-tracker.ts';
import { backingOf, controllers, type DiskNode, diskNodes, nics } from './devices.ts';
import type { Datastores } from './datastores.ts';
import { HostFault } from './fault.ts';
import { GuestWriter, blockOf, seededRandom, type WritableDisk } from './guest-writer.ts';
import type { HostProfile } from './host-profile.ts';
import {
  createLayer,
  deleteLayer,
  extentPaths,
  layerBytes,
  layersBelow,
  mergeIntoParent,
  mergeIntoParentNow,
} from './layer-forest.ts';
import type { WriterOptions } from './lab-options.ts';
import type { FileLock, LockTable } from './lock-table.ts';
import type {
  ChangedAreas,
  ChangedAreasRequest,
  CreateSnapshotRequest,
  DiskDevice,
  LayoutFile,
  PowerState,
  Question,
  ReconfigureRequest,
  Snapshot,
  Switches,
  VirtualMachine as MachineState,
} from './protocol.ts';
import { SnapshotTree, type SnapshotRecord } from './snapshot-tree.ts';
import type { RunningTask, TaskList } from './tasks.ts';
import { copyMerged } from './truth.ts';
import { VmxFile } from './vmx-file.ts';

/** What a machine needs of its host. */
export interface HostContext {
  readonly datastores: Datastores;
  readonly tasks: TaskList;
  readonly locks: LockTable;
  readonly profile: HostProfile;
  readonly uuid: string;
  readonly mapTool: string;
  readonly truthFolder: string;
  switches(): Switches;
  rawFrozenRead(datastore: string): 'refuse' | 'allow';
  /** Something in the state changed; locks are to be computed again. */
  changed(): void;
}

interface OpenDisk {
  node: DiskNode;
  chain: DiskChain;
  /** Written since it was opened: the content id is a new one. */
  touched: boolean;
}

/** Smaller layers are merged at once while the guest stands still. */
const STUN_MERGE_BYTES = 16 * 1024 * 1024;
const HELPERS_MAX = 10;
const QUESTION_DEFAULT_MS = 240_000;
const FREE_RESERVE_BYTES = 1024 * 1024;

export class VirtualMachine {
  readonly id: number;
  readonly vmxPath: string;
  power: PowerState = 'poweredOff';
  vmx = new VmxFile();
  tree = new SnapshotTree();
  question: Question | null = null;
  consolidationNeeded = false;
  writerOptions: WriterOptions | undefined;
  hasTools = true;
  registeredName: string | null = null;
  bootTimeMs: number | null = null;
  readonly #host: HostContext;
  #open: OpenDisk[] = [];
  readonly #trackers = new Map<string, ChangeTracker>();
  #writer: GuestWriter | null = null;
  #isPausedByHost = false;
  #answer: ((choice: string) => void) | null = null;
  readonly #truth = new Map<string, Promise<Record<string, string>>>();
  #nextQuestion = 26;
  #swapFile: string | null = null;
  #isTrackingStale = false;
  #isUnderstood = true;

  constructor(host: HostContext, id: number, vmxPath: string) {
    this.#host = host;
    this.id = id;
    this.vmxPath = vmxPath;
    this.loadConfig();
  }

  get folder(): string {
    return dirname(this.vmxPath);
  }

  get name(): string {
    return this.registeredName ?? this.vmx.get('displayName') ?? basename(this.vmxPath, '.vmx');
  }

  /** Of hardware that the host does not know it stays invalid until its files are read anew. */
  get isValid(): boolean {
    return existsSync(this.vmxPath) && this.#isUnderstood;
  }

  /** Reads .vmx and .vmsd from disk: at registration, at reload, at power on. */
  loadConfig(): void {
    if (!existsSync(this.vmxPath)) return;
    this.vmx = VmxFile.parse(readFileSync(this.vmxPath, 'utf8'));
    this.#isUnderstood = Number(this.vmx.get('virtualHW.version') ?? 0) <= this.#host.profile.hardwareVersionMax;
    const maps = new Map(this.tree.records.map((record) => [record.id, record]));
    const vmsd = this.#vmsdPath();
    this.tree = existsSync(vmsd)
      ? SnapshotTree.parse(readFileSync(vmsd, 'utf8'), this.vmx.toRecord())
      : new SnapshotTree();
    for (const record of this.tree.records) {
      const known = maps.get(record.id);
      if (known === undefined) continue;
      record.maps = known.maps;
      record.quiesced = known.quiesced;
      record.manifest = known.manifest;
      record.config = known.config;
    }
  }

  // --- paths

  readonly resolve = (path: string): string => this.#host.datastores.local(path, '/');

  diskPath(fileName: string): string {
    return fileName.startsWith('/') ? this.resolve(fileName) : join(this.folder, fileName);
  }

  #fileNameOf(path: string): string {
    return dirname(path) === this.folder ? basename(path) : (this.#host.datastores.absolute(path) ?? path);
  }

  #vmsdPath(): string {
    return this.vmxPath.replace(/\.vmx$/, '.vmsd');
  }

  #saveVmx(): void {
    writeFileSync(this.vmxPath, this.vmx.encode(), { mode: 0o755 });
    this.#host.changed();
  }

  #saveTree(): void {
    writeFileSync(this.#vmsdPath(), this.tree.encode(), { mode: 0o644 });
    this.#host.changed();
  }

  #datastoreName(path: string): string {
    return this.#host.datastores.volumeOf(path)?.name ?? '';
  }

  // --- power

  startPowerOn(): RunningTask {
    this.#assertIdle();
    if (this.power === 'poweredOn') throw this.#powerFault('poweredOff');
    return this.#task('VirtualMachine.powerOn', async () => {
      this.loadConfig();
      await this.#askMovedOrCopied();
      this.#openDisks();
      this.#activateTracking();
      this.#startGuest();
      return null;
    });
  }

  startPowerOff(isGraceful: boolean): RunningTask {
    if (this.power !== 'poweredOn' && !(this.power === 'suspended' && !isGraceful)) throw this.#powerFault('poweredOn');
    if (isGraceful && !this.hasTools) throw this.#toolsFault();
    this.#assertIdle();
    return this.#task(isGraceful ? 'VirtualMachine.shutdownGuest' : 'VirtualMachine.powerOff', async () => {
      if (isGraceful) await delay(200);
      this.#stopGuest('poweredOff');
      return null;
    });
  }

  startSuspend(): RunningTask {
    if (this.power !== 'poweredOn') throw this.#powerFault('poweredOn');
    this.#assertIdle();
    return this.#task('VirtualMachine.suspend', async () => {
      this.#stopGuest('suspended');
      return null;
    });
  }

  startReset(): RunningTask {
    if (this.power !== 'poweredOn') throw this.#powerFault('poweredOn');
    this.#assertIdle();
    return this.#task('VirtualMachine.reset', async () => {
      this.bootTimeMs = Date.now();
      return null;
    });
  }

  /** Ends without ado, as the host's power would. */
  halt(): void {
    this.#writer?.stop();
    this.#closeDisks();
  }

  /** The host lost its power: what is on the disks is all that is left. The swap file stays, as on a real host. */
  losePower(): void {
    if (this.power !== 'poweredOn') return;
    this.halt();
    this.#writer = null;
    this.#swapFile = null;
    this.question = null;
    this.power = 'poweredOff';
    this.bootTimeMs = null;
    this.#trackers.clear();
    for (const record of this.tree.records) record.maps.clear();
    this.loadConfig();
    this.#host.changed();
  }

  #openDisks(): void {
    const opened: OpenDisk[] = [];
    try {
      for (const node of diskNodes(this.vmx)) {
        const path = this.diskPath(node.fileName);
        if (!existsSync(path)) {
          throw new HostFault('FileNotFound', `File ${this.#host.datastores.bracketed(path)} was not found`, {
            file: this.#host.datastores.bracketed(path),
          });
        }
        for (const link of readLinks(path, this.resolve)) {
          for (const extent of extentPaths(link.path, link.descriptor, this.resolve)) {
            if (this.#host.locks.ofPath(extent) !== undefined) {
              throw new HostFault(
                'FileLocked',
                `Unable to access file ${this.#host.datastores.bracketed(path)} since it is locked`,
                {
                  file: this.#host.datastores.bracketed(path),
                },
              );
            }
          }
        }
        opened.push({ node, chain: DiskChain.open(path, this.resolve, true), touched: false });
      }
    } catch (error) {
      for (const disk of opened) disk.chain.close();
      if (error instanceof ChainError) {
        throw new HostFault(
          error.kind === 'missing' ? 'FileNotFound' : 'GenericVmConfigFault',
          error.kind === 'parent-modified'
            ? 'The parent virtual disk has been modified since the child was created. The content ID of the parent virtual disk does not match the corresponding parent content ID in the child'
            : `Cannot open the disk '${this.#host.datastores.absolute(error.path) ?? error.path}' or one of the snapshot disks it depends on.`,
        );
      }
      throw error;
    }
    this.#open = opened;
  }

  #closeDisks(): void {
    for (const disk of this.#open) disk.chain.close();
    this.#open = [];
  }

  #startGuest(): void {
    const memoryBytes = Number(this.vmx.get('memSize') ?? 1024) * 1024 * 1024;
    const hash = createHash('sha256').update(this.vmxPath).digest('hex').slice(0, 8);
    this.#swapFile = join(this.folder, `${basename(this.vmxPath, '.vmx')}-${hash}.vswp`);
    const swap = openSync(this.#swapFile, 'w', 0o600);
    ftruncateSync(swap, memoryBytes);
    closeSync(swap);
    const absoluteSwap = this.#host.datastores.absolute(this.#swapFile);
    if (absoluteSwap !== undefined) this.vmx.set('sched.swap.derivedName', absoluteSwap);
    this.#settleIdentity();
    this.vmx.set('cleanShutdown', 'FALSE');
    const nvram = join(this.folder, this.vmx.get('nvram') ?? `${basename(this.vmxPath, '.vmx')}.nvram`);
    if (!existsSync(nvram)) {
      writeFileSync(nvram, randomBytes(this.vmx.get('firmware') === 'efi' ? 270_840 : 8684), { mode: 0o600 });
    }
    writeFileSync(join(this.folder, 'vmware.log'), `${new Date().toISOString()} In(05) vmx - Log for VMware ESX\n`, {
      flag: 'a',
    });
    this.power = 'poweredOn';
    this.bootTimeMs = Date.now();
    this.#saveVmx();
    if (this.writerOptions !== undefined && this.writerOptions.bytesPerSecond > 0) {
      this.#writer = new GuestWriter(
        this.writableDisks(),
        this.writerOptions,
        () => this.#isPausedByHost || this.question !== null || this.#host.switches().writersPaused,
        (error) => this.#outOfSpace(error),
      );
      this.#writer.start();
    }
  }

  #stopGuest(to: PowerState): void {
    this.#writer?.stop();
    this.#writer = null;
    this.#closeDisks();
    if (this.#swapFile !== null) rmSync(this.#swapFile, { force: true });
    this.#swapFile = null;
    this.question = null;
    this.power = to;
    this.bootTimeMs = null;
    this.vmx.set('cleanShutdown', 'TRUE');
    this.#saveVmx();
  }

  /** Identifiers that hostd writes into a .vmx that lacks them. */
  #settleIdentity(): void {
    if (this.vmx.get('uuid.bios') === undefined)
      this.vmx.set('uuid.bios', spaced('564d' + randomBytes(14).toString('hex')));
    if (this.vmx.get('vc.uuid') === undefined) this.vmx.set('vc.uuid', spaced('52' + randomBytes(15).toString('hex')));
    this.vmx.set('uuid.location', this.#locationUuid());
    const bios = (this.vmx.get('uuid.bios') ?? '').replace(/[^0-9a-f]/gi, '');
    for (const nic of nics(this.vmx, false)) {
      const prefix = `ethernet${nic.key - 4000}`;
      if (nic.addressType !== 'generated' || this.vmx.get(`${prefix}.generatedAddress`) !== undefined) continue;
      const last = ((parseInt(bios.slice(-6), 16) + (nic.key - 4000) * 10) & 0xffffff).toString(16).padStart(6, '0');
      this.vmx.set(`${prefix}.generatedAddress`, `00:0c:29:${last.match(/../g)?.join(':') ?? ''}`);
      this.vmx.set(`${prefix}.generatedAddressOffset`, String((nic.key - 4000) * 10));
    }
  }

  /** Derived from host and place; not the same after a move or a copy. */
  #locationUuid(): string {
    const place = this.#host.datastores.absolute(this.vmxPath) ?? this.vmxPath;
    return spaced('564d' + createHash('sha256').update(`${this.#host.uuid} ${place}`).digest('hex').slice(0, 28));
  }

  async #askMovedOrCopied(): Promise<void> {
    const location = this.vmx.get('uuid.location');
    if (location === undefined || location === this.#locationUuid()) return;
    const action = this.vmx.get('uuid.action')?.toLowerCase();
    const prepared = this.vmx.get('answer.msg.uuid.altered')?.toLowerCase() ?? '';
    const choice =
      action === 'keep' || prepared.includes('moved')
        ? '1'
        : action === 'create' || prepared.includes('copied')
          ? '2'
          : await this.#ask({
              id: String(++this.#nextQuestion),
              messageId: 'msg.uuid.altered',
              text:
                'This virtual machine may have been moved or copied.\n' +
                'In order to configure certain management and networking features, VMware ESX needs to know if this virtual machine was moved or copied.\n' +
                'If you don\'t know, answer "I copied it".',
              choices: [
                { key: '0', label: 'Cancel', summary: 'Cancel' },
                { key: '1', label: 'I _moved it', summary: 'I _moved it' },
                { key: '2', label: 'I _copied it', summary: 'I _copied it' },
              ],
              defaultIndex: 2,
            });
    if (choice === '0') throw new HostFault('GenericVmConfigFault', 'Power on failed: the question was cancelled.');
    if (choice === '2') {
      for (const key of this.vmx.keys()) {
        if (/^(uuid\.bios|vc\.uuid|ethernet\d+\.generatedAddress(Offset)?)$/i.test(key)) this.vmx.remove(key);
      }
    }
    this.vmx.remove('uuid.action');
  }

  async #ask(question: Question): Promise<string> {
    this.question = question;
    this.#host.changed();
    const fallback = question.choices[question.defaultIndex]?.key ?? '0';
    let timer: NodeJS.Timeout | undefined;
    const choice = await new Promise<string>((resolve) => {
      this.#answer = resolve;
      timer = setTimeout(() => resolve(fallback), QUESTION_DEFAULT_MS);
      timer.unref();
    });
    clearTimeout(timer);
    this.#answer = null;
    this.question = null;
    this.#host.changed();
    return choice;
  }

  answer(questionId: string, choice: string): void {
    const question = this.question;
    if (question === null || question.id !== questionId || !question.choices.some(({ key }) => key === choice)) {
      throw new HostFault('InvalidArgument', 'A specified parameter was not correct: questionId', {
        invalidProperty: 'questionId',
      });
    }
    this.#answer?.(choice);
  }

  #outOfSpace(error: unknown): void {
    if (!(error instanceof HostFault)) throw error;
    if (this.question !== null) return;
    void this.#ask({
      id: String(++this.#nextQuestion),
      messageId: 'msg.hbacommon.outofspace',
      text: `There is no more space for virtual disk '${basename(this.#open[0]?.chain.top.path ?? '')}'. You might be able to continue this session by freeing disk space on the relevant volume, and clicking Retry. Click Cancel to terminate this session.`,
      choices: [
        { key: '0', label: 'Retry', summary: 'Retry' },
        { key: '1', label: 'Cancel', summary: 'Cancel' },
      ],
      defaultIndex: 0,
    }).then((choice) => {
      if (choice === '1' && this.power === 'poweredOn') this.#stopGuest('poweredOff');
    });
  }

  // --- what the guest writes

  writableDisks(): WritableDisk[] {
    return this.#open.map((disk) => ({
      node: disk.node.node,
      sizeBytes: disk.chain.sizeBytes,
      write: (offsetBytes, data) => this.#guestWrite(disk.node.node, offsetBytes, data),
    }));
  }

  #guestWrite(node: string, offsetBytes: number, data: Uint8Array): void {
    const disk = this.#open.find((candidate) => candidate.node.node === node);
    if (disk === undefined) throw new Error(`${node} is not open`);
    const volume = this.#host.datastores.volumeOf(disk.chain.top.path);
    if (volume !== undefined && this.#host.datastores.freeBytes(volume) < FREE_RESERVE_BYTES) {
      throw new HostFault('NoDiskSpace', 'There is not enough space on the file system for the selected operation', {
        datastore: volume.name,
      });
    }
    if (!disk.touched) {
      const descriptor = readDescriptor(disk.chain.top.path);
      touchContentId(descriptor);
      writeDescriptor(disk.chain.top.path, descriptor);
      disk.touched = true;
    }
    disk.chain.write(offsetBytes, data);
    this.#trackers.get(node)?.mark(offsetBytes, data.length);
  }

  /** The guest writes so many blocks at random places, now. Gives the bytes written. */
  writeBlocks(options: {
    count: number;
    blockBytes: number;
    seed: number;
    node?: string;
    spanPercent?: number;
  }): number {
    if (this.power !== 'poweredOn') throw this.#powerFault('poweredOn');
    const disks = this.writableDisks().filter((disk) => options.node === undefined || disk.node === options.node);
    const random = seededRandom(options.seed);
    let written = 0;
    for (let block = 0; block < options.count; block++) {
      const disk = disks[block % disks.length];
      if (disk === undefined) break;
      const span = Math.floor((disk.sizeBytes * (options.spanPercent ?? 100)) / 100);
      const places = Math.max(1, Math.floor(span / options.blockBytes));
      const offsetBytes = Math.floor(random() * places) * options.blockBytes;
      const length = Math.min(options.blockBytes, disk.sizeBytes - offsetBytes);
      disk.write(offsetBytes, blockOf(length, random, options.seed * 1_000_003 + block));
      written += length;
    }
    return written;
  }

  /** The guest writes exactly this, now. */
  writeAt(node: string, writes: readonly { offsetBytes: number; base64: string }[]): void {
    if (this.power !== 'poweredOn') throw this.#powerFault('poweredOn');
    for (const { offsetBytes, base64 } of writes) this.#guestWrite(node, offsetBytes, Buffer.from(base64, 'base64'));
  }

  // --- change tracking

  #wantsTracking(node: DiskNode): boolean {
    if (node.isIndependent || node.sharing !== 'sharingNone' || this.vmx.isTrue('ctkDisallowed')) return false;
    return this.vmx.isTrue('ctkEnabled') && this.vmx.isTrue(`${node.node}.ctkEnabled`);
  }

  #activateTracking(): void {
    this.#isTrackingStale = false;
    for (const node of diskNodes(this.vmx)) {
      const top = this.diskPath(node.fileName);
      const known = this.#trackers.get(node.node);
      const wants = this.#wantsTracking(node);
      const sizeBytes = sectorsOf(readDescriptor(top)) * 512;
      if (!wants) {
        if (known !== undefined) this.#trackers.delete(node.node);
        continue;
      }
      if (known !== undefined && known.sizeBytes === sizeBytes) continue;
      const tracker = new ChangeTracker(sizeBytes, this.#allocated(top));
      this.#trackers.set(node.node, tracker);
      const tracking = top.replace(/\.vmdk$/, '-ctk.vmdk');
      tracker.writeFile(tracking);
      const descriptor = readDescriptor(top);
      descriptor.changeTrackPath = basename(tracking);
      writeDescriptor(top, descriptor);
    }
  }

  #allocated(top: string): Run[] {
    const chain = DiskChain.open(top, this.resolve);
    try {
      return chain.links.flatMap(
        ({ layer, extentPaths: files }) =>
          layer.allocatedRuns() ?? files.flatMap((file) => mapFileSync(this.#host.mapTool, file)),
      );
    } finally {
      chain.close();
    }
  }

  changedAreas(request: ChangedAreasRequest): ChangedAreas {
    const node = diskNodes(this.vmx).find(({ key }) => key === request.deviceKey);
    if (node === undefined) throw invalidArgument('deviceKey');
    let map: FrozenMap | undefined;
    let path = this.diskPath(node.fileName);
    if (request.snapshot === null) {
      if (this.power === 'poweredOn') throw invalidArgument('snapshot');
      map = this.#trackers.get(node.node)?.live();
    } else {
      const record = this.tree.byId(request.snapshot);
      if (record === undefined) {
        throw new HostFault(
          'ManagedObjectNotFound',
          'The object has already been deleted or has not been completely created',
        );
      }
      map = record.maps.get(node.node);
      path = this.diskPath(record.disks.find((disk) => disk.node === node.node)?.fileName ?? node.fileName);
    }
    const { changedAreas, changedAreasMax } = this.#host.switches();
    if (map === undefined || changedAreas === 'noTrack') throw this.#trackingFault(path, 'noTrack');
    if (changedAreas === 'cannotGetChanges') throw this.#trackingFault(path, 'cannotGetChanges');
    if (request.startOffset < 0 || request.startOffset >= map.sizeBytes) throw invalidArgument('startOffset');
    let since: number | null = null;
    if (request.changeId === '*') {
      if (changedAreas === 'noEpoch') throw this.#trackingFault(path, 'noEpoch');
      const type = this.#host.datastores.volumeOf(path)?.type;
      if (type === 'NFS') {
        const length = map.sizeBytes - request.startOffset;
        return { startOffset: request.startOffset, length, areas: [{ start: request.startOffset, length }] };
      }
    } else {
      const match = /^((?:[0-9a-f]{2} ){7}[0-9a-f]{2}-(?:[0-9a-f]{2} ){7}[0-9a-f]{2})\/(\d+)$/i.exec(request.changeId);
      if (match === null) throw invalidArgument('changeId');
      const [epoch, sequence] = map.changeId.split('/');
      if (match[1] !== epoch || Number(match[2]) > Number(sequence)) {
        throw this.#trackingFault(path, 'cannotGetChanges');
      }
      since = Number(match[2]);
    }
    const areasMax = changedAreas === 'partial' ? 3 : changedAreasMax;
    const { lengthBytes, areas } = areasSince(map, since, request.startOffset, areasMax);
    if (changedAreas === 'overlap' && areas.length > 0) {
      const first = areas[0];
      if (first !== undefined) areas.push({ start: first.start, length: first.length });
    }
    if (changedAreas === 'short') areas.splice(Math.floor(areas.length / 2));
    return { startOffset: request.startOffset, length: lengthBytes, areas };
  }

  #trackingFault(path: string, key: string): HostFault {
    const file = this.#host.datastores.absolute(path) ?? path;
    return new HostFault('FileFault', `Error caused by file ${file}`, { file }, [
      { key: `vim.hostd.vmsvc.cbt.${key}`, message: key },
    ]);
  }

  // --- snapshots

  startCreateSnapshot(request: CreateSnapshotRequest): RunningTask {
    this.#assertIdle();
    const shared = controllers(this.vmx).find(({ sharedBus }) => sharedBus !== 'none');
    if (shared !== undefined || diskNodes(this.vmx).some(({ sharing }) => sharing !== 'sharingNone')) {
      throw new HostFault('SnapshotFault', 'A snapshot operation cannot be performed: a disk or bus is shared.');
    }
    if (this.tree.depth() >= 32) throw new HostFault('SnapshotFault', 'The snapshot limit of 32 was reached.');
    return this.#task('VirtualMachine.createSnapshot', async (progress) => {
      const switches = this.#host.switches();
      await this.#whileHanging(() => this.#host.switches().snapshotCreate === 'hang');
      if (switches.snapshotCreate === 'fail') {
        throw new HostFault('SnapshotFault', 'An error occurred while taking a snapshot: msg.snapshot.error-DISKLIB.');
      }
      await delay(switches.snapshotCreateMs);
      progress(30);
      if (switches.snapshotCreate === 'lost') return null;
      const quiesced = request.quiesce && this.power === 'poweredOn' && this.hasTools ? await this.#quiesce() : false;
      progress(60);
      this.#assertRoom();
      return this.#takeSnapshot(request, quiesced).id;
    });
  }

  async #quiesce(): Promise<boolean> {
    await this.#whileHanging(() => this.#host.switches().quiesce === 'hang');
    const { quiesce, quiesceMs } = this.#host.switches();
    await delay(quiesceMs);
    if (quiesce === 'fail-application') {
      throw new HostFault(
        'ApplicationQuiesceFault',
        "An error occurred while quiescing the virtual machine. See the virtual machine's event log for details.",
        {},
        [
          {
            key: 'msg.checkpoint.save.fail2.std3',
            message: 'An error occurred while saving the snapshot: Failed to quiesce the virtual machine.',
          },
        ],
      );
    }
    if (quiesce === 'fail-filesystem') {
      throw new HostFault('FilesystemQuiesceFault', 'Failed to quiesce the virtual machine.', {}, [
        {
          key: 'msg.snapshot.quiesce.vmerr',
          message:
            'The guest OS has reported an error during quiescing. The error code was: 3 The error message was: Error when enabling the sync provider.',
        },
      ]);
    }
    return quiesce === 'works';
  }

  #takeSnapshot(request: CreateSnapshotRequest, quiesced: boolean): SnapshotRecord {
    // From here to the end nothing waits: to the guest it is one instant.
    const config = this.vmx.toRecord();
    if (this.#isTrackingStale && this.power === 'poweredOn') this.#activateTracking();
    const id = this.tree.lastId + 1;
    const withMemory = (request.memory && this.power === 'poweredOn') || this.power === 'suspended';
    const stem = basename(this.vmxPath, '.vmx');
    const record: SnapshotRecord = {
      id,
      parent: this.tree.currentId,
      name: request.name,
      description: request.description,
      createTimeMs: Date.now(),
      state: withMemory ? (this.power === 'suspended' ? 'suspended' : 'poweredOn') : 'poweredOff',
      quiesced,
      manifest:
        quiesced && /windows/i.test(this.vmx.get('guestOS') ?? '')
          ? '<?xml version="1.0"?><backupManifest><writer name="System Writer"/></backupManifest>'
          : null,
      stateFile: `${stem}-Snapshot${id}.vmsn`,
      disks: [],
      config,
      maps: new Map(),
    };
    const frozen: { node: string; path: string }[] = [];
    for (const node of diskNodes(this.vmx)) {
      const top = this.diskPath(node.fileName);
      if (node.isIndependent || readDescriptor(top).createType === 'vmfsPassthroughRawDeviceMap') continue;
      record.disks.push({ node: node.node, fileName: node.fileName });
      frozen.push({ node: node.node, path: top });
      const tracker = this.#trackers.get(node.node);
      if (tracker !== undefined) record.maps.set(node.node, tracker.freeze());
      this.#pushLayer(node.node, top);
    }
    writeFileSync(join(this.folder, record.stateFile), this.vmx.encode());
    if (withMemory) {
      writeFileSync(join(this.folder, record.stateFile.replace(/\.vmsn$/, '.vmem')), randomBytes(65536));
    }
    this.tree.add(record);
    this.#saveTree();
    this.#saveVmx();
    if (this.#host.switches().keepTruth) this.captureTruth(request.name, frozen);
    return record;
  }

  /** Puts an empty layer over a disk; the guest writes into it from now on. */
  #pushLayer(node: string, top: string): string {
    const type = this.#host.datastores.volumeOf(top)?.type;
    const layer = createLayer(top, type === 'VMFS-6' ? 'seSparse' : 'vmfsSparse', this.#trackers.has(node));
    this.#trackers.get(node)?.writeFile(layer.replace(/\.vmdk$/, '-ctk.vmdk'));
    this.vmx.set(`${node}.fileName`, this.#fileNameOf(layer));
    this.#reopen(node);
    return layer;
  }

  #reopen(node: string): void {
    const disk = this.#open.find((candidate) => candidate.node.node === node);
    const now = diskNodes(this.vmx).find((candidate) => candidate.node === node);
    if (disk === undefined || now === undefined) return;
    disk.chain.close();
    disk.node = now;
    disk.chain = DiskChain.open(this.diskPath(now.fileName), this.resolve, true);
    disk.touched = false;
  }

  startRemoveSnapshot(id: number, withChildren: boolean): RunningTask {
    this.#assertIdle();
    const record = this.tree.byId(id);
    if (record === undefined) throw new HostFault('NotFound', 'The object or item referred to could not be found.');
    return this.#task('VirtualMachine.removeSnapshot', async (progress) => {
      const ids = [...(withChildren ? this.tree.descendantsOf(id) : []), record].map((each) => each.id);
      await this.#removeSnapshots(ids, progress);
      return null;
    });
  }

  startRemoveAllSnapshots(): RunningTask {
    this.#assertIdle();
    return this.#task('VirtualMachine.removeAllSnapshots', async (progress) => {
      await this.#removeSnapshots(
        this.tree.records.map((record) => record.id),
        progress,
      );
      return null;
    });
  }

  startConsolidate(): RunningTask {
    this.#assertIdle();
    return this.#task('VirtualMachine.consolidateDisks', async (progress) => {
      await this.#consolidate(this.#tops(), progress);
      this.consolidationNeeded = false;
      this.#host.changed();
      return null;
    });
  }

  async #removeSnapshots(ids: readonly number[], progress: (percent: number) => void): Promise<void> {
    const { snapshotRemove } = this.#host.switches();
    // A test may make it shorter while it lasts.
    const begunMs = performance.now();
    while (performance.now() - begunMs < this.#host.switches().snapshotRemoveMs) await delay(20);
    // "Delete all" with nothing to delete does not consolidate either; a new snapshot helps.
    if (ids.length === 0) return;
    if (snapshotRemove === 'fail') {
      throw new HostFault('SnapshotFault', 'An error occurred while deleting the snapshot: the operation failed.');
    }
    // Copies of the truth still read the layers.
    await Promise.allSettled(this.#truth.values());
    const tops = this.#tops();
    for (const id of ids) {
      const record = this.tree.byId(id);
      if (record === undefined) continue;
      this.tree.remove(id);
      rmSync(join(this.folder, record.stateFile), { force: true });
      rmSync(join(this.folder, record.stateFile.replace(/\.vmsn$/, '.vmem')), { force: true });
    }
    this.#saveTree();
    if (snapshotRemove === 'stays') {
      this.consolidationNeeded = true;
      this.#host.changed();
      return;
    }
    try {
      await this.#consolidate(tops, progress);
      this.consolidationNeeded = false;
      this.#host.changed();
    } catch (error) {
      this.consolidationNeeded = true;
      this.#host.changed();
      throw error;
    }
  }

  /** Descriptors of the running disks and of every snapshot. */
  #tops(): string[] {
    const names = [
      ...diskNodes(this.vmx).map(({ fileName }) => fileName),
      ...this.tree.records.flatMap(({ disks }) => disks.map(({ fileName }) => fileName)),
    ];
    return [...new Set(names.map((name) => this.diskPath(name)))];
  }

  /** Merges or deletes every layer that no snapshot needs any more. */
  async #consolidate(before: readonly string[], progress: (percent: number) => void): Promise<void> {
    for (;;) {
      const layers = layersBelow(
        before.filter((path) => existsSync(path)),
        this.resolve,
      );
      const live = new Set(diskNodes(this.vmx).map(({ fileName }) => this.diskPath(fileName)));
      const needed = new Set(
        this.tree.records.flatMap(({ disks }) => disks.map(({ fileName }) => this.diskPath(fileName))),
      );
      const free = [...layers].find(([path, children]) => !live.has(path) && !needed.has(path) && children.size < 2);
      if (free === undefined) return;
      const [layer, children] = free;
      const child = [...children][0];
      for (const path of child === undefined ? [layer] : [layer, child]) this.#assertNotCloned(path);
      if (child === undefined) {
        deleteLayer(layer, this.resolve);
        continue;
      }
      const isLive = live.has(child);
      const isWritten = isLive && this.power === 'poweredOn';
      if (isWritten) await this.#mergeLive(child, progress);
      else {
        const above = [...(layers.get(child) ?? [])];
        const parent = await this.#merge(child, above, progress);
        this.#rename(child, parent);
        deleteLayer(child, this.resolve);
        for (const disk of this.#open) this.#reopen(disk.node.node);
        this.#saveVmx();
        this.#saveTree();
      }
    }
  }

  /** A clone that still reads a layer keeps it from being merged. */
  #assertNotCloned(path: string): void {
    for (const extent of extentPaths(path, readDescriptor(path), this.resolve)) {
      if (!this.#host.locks.isCloning(extent)) continue;
      const file = this.#host.datastores.bracketed(path);
      throw new HostFault('FileLocked', `Unable to access file ${file} since it is locked`, { file });
    }
  }

  /** Snapshots and disks that name a layer name another from now on. */
  #rename(from: string, to: string): void {
    for (const node of diskNodes(this.vmx)) {
      if (this.diskPath(node.fileName) === from) this.vmx.set(`${node.node}.fileName`, this.#fileNameOf(to));
    }
    for (const record of this.tree.records) {
      for (const disk of record.disks) {
        if (this.diskPath(disk.fileName) === from) disk.fileName = this.#fileNameOf(to);
      }
    }
  }

  async #merge(child: string, above: readonly string[], progress: (percent: number) => void): Promise<string> {
    return mergeIntoParent(child, above, {
      resolve: this.resolve,
      bytesPerSecond: this.#host.switches().consolidateBytesPerSecond,
      progress: (done, total) => progress(Math.min(99, Math.floor((done / Math.max(1, total)) * 100))),
    });
  }

  /**
   * Merges the layer that the guest writes into: helper layers take the writes meanwhile, each smaller
   * than the one before, and the last is merged while the guest stands still.
   */
  async #mergeLive(top: string, progress: (percent: number) => void): Promise<void> {
    const node = diskNodes(this.vmx).find(({ fileName }) => this.diskPath(fileName) === top)?.node;
    if (node === undefined) throw new Error(`${top} is not in use`);
    for (let helpers = 0; helpers < HELPERS_MAX && this.power === 'poweredOn'; helpers++) {
      if (helpers > 0 && layerBytes(top, this.resolve) < STUN_MERGE_BYTES) break;
      const helper = this.#pushLayer(node, top);
      this.#saveVmx();
      await this.#merge(top, [helper], progress);
      this.#reopen(node);
      deleteLayer(top, this.resolve);
      top = helper;
      this.#host.changed();
    }
    // The guest stands still until the end of this block.
    const wasTouched = this.#open.find((disk) => disk.node.node === node)?.touched ?? false;
    const parent = mergeIntoParentNow(top, this.resolve);
    this.#rename(top, parent);
    this.#reopen(node);
    const disk = this.#open.find((candidate) => candidate.node.node === node);
    if (disk !== undefined) disk.touched = wasTouched;
    deleteLayer(top, this.resolve);
    this.#saveVmx();
    this.#saveTree();
  }

  startRevert(id: number): RunningTask {
    this.#assertIdle();
    const record = this.tree.byId(id);
    if (record === undefined) throw new HostFault('NotFound', 'The object or item referred to could not be found.');
    return this.#task('VirtualMachine.revertToSnapshot', async () => {
      const wasOn = this.power === 'poweredOn';
      if (wasOn) this.#stopGuest('poweredOff');
      const before = this.#tops();
      for (const disk of record.disks) {
        this.vmx.set(`${disk.node}.fileName`, disk.fileName);
        const layer = this.#pushLayer(disk.node, this.diskPath(disk.fileName));
        this.vmx.set(`${disk.node}.fileName`, this.#fileNameOf(layer));
      }
      this.tree.currentId = id;
      this.#trackers.clear();
      if (this.#host.switches().revertTracking === 'as-in-snapshot') {
        for (const [node, map] of record.maps) this.#trackers.set(node, ChangeTracker.from(map));
      }
      this.#saveVmx();
      this.#saveTree();
      await this.#consolidate([...before, ...this.#tops()], () => undefined);
      if (wasOn && record.state === 'poweredOn') {
        this.#openDisks();
        this.#activateTracking();
        this.#startGuest();
      }
      return null;
    });
  }

  // --- truth for tests

  /** Copies the merged content of the given disks to `truth/<machine>/<label>/<node>.raw`. */
  captureTruth(label: string, disks?: { node: string; path: string }[]): void {
    const wanted = disks ?? diskNodes(this.vmx).map(({ node, fileName }) => ({ node, path: this.diskPath(fileName) }));
    const folder = join(this.#host.truthFolder, fileSafe(this.name), fileSafe(label));
    const copies = (async () => {
      const files: Record<string, string> = {};
      for (const { node, path } of wanted) {
        const target = join(folder, `${node}.raw`);
        await copyMerged(path, target, this.resolve);
        files[node] = target;
      }
      return files;
    })();
    copies.catch(() => undefined);
    this.#truth.set(label, copies);
  }

  async truth(label: string): Promise<Record<string, string> | null> {
    return (await this.#truth.get(label)) ?? null;
  }

  // --- configuration

  startReconfigure(request: ReconfigureRequest): RunningTask {
    this.#assertIdle();
    return this.#task('VirtualMachine.reconfigure', async () => {
      for (const [key, value] of Object.entries(request.vmx ?? {})) {
        if (value === null) this.vmx.remove(key);
        else this.vmx.set(key, value);
      }
      if (request.name !== undefined) {
        this.vmx.set('displayName', request.name);
        this.registeredName = null;
      }
      if (request.annotation !== undefined) this.vmx.set('annotation', request.annotation);
      if (request.changeTrackingEnabled !== undefined) {
        const isWanted = request.changeTrackingEnabled;
        if (isWanted && this.tree.records.length > 0 && !this.vmx.isTrue('ctkEnabled')) {
          throw new HostFault('InvalidState', 'The operation is not allowed in the current state: snapshots exist.');
        }
        this.vmx.set('ctkEnabled', isWanted ? 'TRUE' : 'FALSE');
        for (const node of diskNodes(this.vmx)) {
          if (!node.isIndependent) this.vmx.set(`${node.node}.ctkEnabled`, isWanted ? 'TRUE' : 'FALSE');
        }
        this.#isTrackingStale = true;
        if (this.power !== 'poweredOn') this.#activateTracking();
      }
      this.#saveVmx();
      return null;
    });
  }

  /** Re-reads an edited .vmx. Of a running machine the daemon's own copy counts. */
  reload(): void {
    if (this.power !== 'poweredOn') this.loadConfig();
    this.#host.changed();
  }

  startDestroy(forget: () => void): RunningTask {
    if (this.power === 'poweredOn') throw this.#powerFault('poweredOff');
    this.#assertIdle();
    return this.#task('VirtualMachine.destroy', async () => {
      for (const path of layersBelow(
        this.#tops().filter((top) => existsSync(top)),
        this.resolve,
      ).keys()) {
        deleteLayer(path, this.resolve);
      }
      const stem = basename(this.vmxPath, '.vmx');
      const named = [this.vmx.get('nvram'), this.vmx.get('extendedConfigFile')];
      for (const name of readdirSync(this.folder)) {
        if (name.startsWith(stem) || named.includes(name) || /^(vmware.*\.log|vmx-.*\.vswp)$/.test(name)) {
          rmSync(join(this.folder, name), { force: true });
        }
      }
      forget();
      try {
        rmdirSync(this.folder);
      } catch {
        // Something else lies in the folder: it stays.
      }
      return null;
    });
  }

  // --- locks

  /** What this machine holds while it runs. */
  heldLocks(): FileLock[] {
    if (this.power !== 'poweredOn') return [];
    const held: FileLock[] = [];
    if (this.#swapFile !== null) held.push({ path: this.#swapFile, mode: 'exclusive', rawRead: false });
    for (const disk of this.#open) {
      disk.chain.links.forEach((link, index) => {
        const mode = index === 0 ? 'exclusive' : 'shared';
        const rawRead = this.#host.rawFrozenRead(this.#datastoreName(link.path)) === 'allow';
        for (const path of link.extentPaths) held.push({ path, mode, rawRead });
        held.push({ path: link.path.replace(/\.vmdk$/, '-ctk.vmdk'), mode: 'exclusive', rawRead: false });
      });
    }
    return held.filter(({ path }) => existsSync(path));
  }

  // --- state

  toState(): MachineState {
    const isOn = this.power === 'poweredOn';
    const { datastores } = this.#host;
    const isRunningTools = isOn && this.hasTools;
    return {
      id: this.id,
      name: this.name,
      vmxPath: datastores.bracketed(this.vmxPath),
      vmxAbsolutePath: datastores.absolute(this.vmxPath) ?? this.vmxPath,
      valid: this.isValid,
      datastore: this.#datastoreName(this.vmxPath),
      powerState: this.power,
      bootTimeMs: this.bootTimeMs,
      tools: {
        status: !this.hasTools ? 'toolsNotInstalled' : isOn ? 'toolsOk' : 'toolsNotRunning',
        runningStatus: isRunningTools ? 'guestToolsRunning' : 'guestToolsNotRunning',
        versionStatus2: this.hasTools ? 'guestToolsUnmanaged' : 'guestToolsNotInstalled',
      },
      guestId: guestIdOf(this.vmx.get('guestOS') ?? 'other'),
      guestFullName: GUEST_NAMES[this.vmx.get('guestOS') ?? ''] ?? 'Other (64-bit)',
      annotation: this.vmx.get('annotation') ?? '',
      hardwareVersion: `vmx-${(this.vmx.get('virtualHW.version') ?? '8').padStart(2, '0')}`,
      memoryMib: Number(this.vmx.get('memSize') ?? 1024),
      cpus: Number(this.vmx.get('numvcpus') ?? 1),
      firmware: this.vmx.get('firmware') === 'efi' ? 'efi' : 'bios',
      biosUuid: dashed(this.vmx.get('uuid.bios')),
      instanceUuid: dashed(this.vmx.get('vc.uuid')),
      changeTrackingEnabled: this.vmx.isTrue('ctkEnabled'),
      changeTrackingSupported: Number(this.vmx.get('virtualHW.version') ?? 8) >= 7,
      config: this.vmx.toRecord(),
      controllers: controllers(this.vmx),
      disks: this.#devices(),
      nics: nics(this.vmx, isOn),
      snapshots:
        this.tree.records.length === 0 ? null : { currentId: this.tree.currentId, roots: this.#snapshotStates(null) },
      consolidationNeeded: this.consolidationNeeded,
      question: this.question,
      layout: this.#layout(),
    };
  }

  #snapshotStates(parent: number | null): Snapshot[] {
    return this.tree.childrenOf(parent).map((record) => ({
      id: record.id,
      name: record.name,
      description: record.description,
      createTimeMs: record.createTimeMs,
      state: record.state,
      quiesced: record.quiesced,
      backupManifest: record.manifest,
      disks: this.#devices(record),
      config: record.config,
      children: this.#snapshotStates(record.id),
    }));
  }

  /** Disks as they are, or as a snapshot froze them. */
  #devices(record?: SnapshotRecord): DiskDevice[] {
    const { datastores } = this.#host;
    return diskNodes(this.vmx).flatMap((node, index): DiskDevice[] => {
      const frozen = record?.disks.find((disk) => disk.node === node.node);
      const top = this.diskPath(frozen?.fileName ?? node.fileName);
      let links;
      try {
        links = readLinks(top, this.resolve);
      } catch {
        links = null;
      }
      const first = links?.[0]?.descriptor;
      const base = links?.at(-1)?.descriptor;
      if (links === null || first === undefined || base === undefined) return [];
      return [
        {
          key: node.key,
          node: node.node,
          controllerKey: node.controllerKey,
          unit: node.unit,
          label: `Hard disk ${index + 1}`,
          capacityBytes: sectorsOf(first) * 512,
          backing: backingOf(first.createType),
          diskMode: node.mode,
          sharing: node.sharing,
          thinProvisioned: base.ddb['ddb.thinProvisioned'] === '1',
          eagerlyScrub: false,
          chain: links.map(({ path }) => ({
            fileName: datastores.bracketed(path),
            absolutePath: datastores.absolute(path) ?? path,
          })),
          uuid: base.ddb['ddb.uuid'] ?? null,
          contentId: first.ddb['ddb.longContentID'] ?? first.cid,
          changeId:
            record === undefined
              ? (this.#trackers.get(node.node)?.changeId ?? null)
              : (record.maps.get(node.node)?.changeId ?? null),
        },
      ];
    });
  }

  #layout(): LayoutFile[] {
    const files: string[] = [];
    const add = (path: string) => {
      if (existsSync(path) && !files.includes(path)) files.push(path);
    };
    if (existsSync(this.folder)) for (const name of readdirSync(this.folder).sort()) add(join(this.folder, name));
    for (const top of this.#tops()) {
      try {
        for (const link of readLinks(top, this.resolve)) {
          add(link.path);
          for (const extent of extentPaths(link.path, link.descriptor, this.resolve)) add(extent);
        }
      } catch {
        // A broken chain shows what is left of it.
      }
    }
    return files.flatMap((path, key): LayoutFile[] => {
      const stat = lstatSync(path, { throwIfNoEntry: false });
      if (stat === undefined || !stat.isFile()) return [];
      return [
        {
          key,
          name: this.#host.datastores.bracketed(path),
          type: layoutType(basename(path)),
          sizeBytes: stat.size,
          uniqueSizeBytes: stat.blocks * 512,
          accessible: true,
        },
      ];
    });
  }

  // --- guards

  #task(descriptionId: string, work: (progress: (percent: number) => void) => Promise<number | null>): RunningTask {
    return this.#host.tasks.start(
      descriptionId,
      { type: 'VirtualMachine', value: String(this.id), name: this.name },
      work,
    );
  }

  #assertIdle(): void {
    if (this.#host.tasks.isBusy(String(this.id))) {
      throw new HostFault(
        'TaskInProgress',
        'The operation is not allowed in the current state: another task is already in progress.',
      );
    }
  }

  #assertRoom(): void {
    for (const node of diskNodes(this.vmx)) {
      const volume = this.#host.datastores.volumeOf(this.diskPath(node.fileName));
      if (volume !== undefined && this.#host.datastores.freeBytes(volume) < FREE_RESERVE_BYTES) {
        throw new HostFault(
          'NoDiskSpace',
          'An error occurred while taking a snapshot: There is not enough space on the file system for the selected operation.',
          { datastore: volume.name },
        );
      }
    }
  }

  async #whileHanging(hangs: () => boolean): Promise<void> {
    while (hangs()) await delay(50);
  }

  #powerFault(requested: PowerState): HostFault {
    return new HostFault(
      'InvalidPowerState',
      'The attempted operation cannot be performed in the current state' +
        ` (${this.power === 'poweredOn' ? 'Powered on' : this.power === 'suspended' ? 'Suspended' : 'Powered off'}).`,
      {
        requestedState: requested,
        existingState: this.power,
      },
    );
  }

  #toolsFault(): HostFault {
    return new HostFault(
      'ToolsUnavailable',
      'Cannot complete operation because VMware Tools is not running in this virtual machine.',
    );
  }
}

function invalidArgument(property: string): HostFault {
  return new HostFault('InvalidArgument', `A specified parameter was not correct: ${property}`, {
    invalidProperty: property,
  });
}

/** 32 hex digits as in a .vmx: `56 4d … -…`. */
function spaced(hex: string): string {
  const bytes = hex.match(/../g) ?? [];
  return `${bytes.slice(0, 8).join(' ')}-${bytes.slice(8).join(' ')}`;
}

/** The same as in the API: `564d….-….-….-….-….`. */
function dashed(uuid: string | undefined): string | null {
  const hex = uuid?.replace(/[^0-9a-fA-F]/g, '').toLowerCase();
  if (hex === undefined || hex.length !== 32) return null;
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function fileSafe(name: string): string {
  return name.replace(/[/\0]/g, '_');
}

const GUEST_NAMES: Record<string, string> = {
  'ubuntu-64': 'Ubuntu Linux (64-bit)',
  'debian12-64': 'Debian GNU/Linux 12 (64-bit)',
  'windows2019srv-64': 'Microsoft Windows Server 2019 (64-bit)',
  'other-64': 'Other (64-bit)',
};

/** `ubuntu-64` in a .vmx is `ubuntu64Guest` in the API. */
export function guestIdOf(guestOs: string): string {
  return guestOs.replace(/-64$/, /(\d|srv)-64$/.test(guestOs) ? '_64' : '64').replace(/-/g, '') + 'Guest';
}

function layoutType(name: string): string {
  if (/-ctk\.vmdk$/.test(name)) return 'digestDescriptor';
  if (/-(flat|delta|sesparse|rdmp?)\.vmdk$/.test(name)) return 'diskExtent';
  if (/\.vmdk$/.test(name)) return 'diskDescriptor';
  const types: Record<string, string> = {
    vmx: 'config',
    vmxf: 'extendedConfig',
    nvram: 'nvram',
    vmsd: 'snapshotList',
    vmsn: 'snapshotData',
    vmem: 'snapshotMemory',
    vswp: 'swap',
    log: 'log',
  };
  return types[name.slice(name.lastIndexOf('.') + 1)] ?? 'uwswap';
}
