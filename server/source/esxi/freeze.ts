import { descriptorSizeBytes } from '../../disk/index.ts';
import { AppError, cancelled, isAppError, toAppError } from '../../errors/index.ts';
import { formatBytes, GIB } from '../../runtime/index.ts';
import { shell } from '../../ssh/index.ts';
import type {
  Consistency,
  FreezeRequest,
  FrozenDisk,
  FrozenMachine,
  MachineConfiguration,
  MachineDisk,
  MachineIdentity,
} from '../source.ts';
import { CloneStore } from './clone-store.ts';
import { HOLD, loadDatastores, type EsxiContext } from './context.ts';
import { formatDatastorePath, type DatastoreMap, type DatastorePath } from './datastore-path.ts';
import { readChain, type DiskLayer } from './disk-chain.ts';
import { readFilesystems } from './filesystems.ts';
import { EsxiFrozenDisk } from './frozen-disk.ts';
import { findMachine, readMachine, toDisks, type InventoryDisk, type InventoryMachine } from './inventory.ts';
import { readConfiguration, toMachineDisk } from './machine-configuration.ts';
import { watchSpace } from './space-watch.ts';
import {
  findTaken,
  isListed,
  readMachineFiles,
  removeHoldSnapshot,
  takeSnapshot,
  type MachineFiles,
  type TakenSnapshot,
} from './snapshot-control.ts';

/** Share of a machine's disks that a snapshot may grow to before a run usually ends. */
const GROWTH_SHARE = 0.2;
/** The growth that is feared at most; a share of a large disk would forbid every backup. */
const GROWTH_MAX_BYTES = 20 * GIB;

/** See `SourceHost.freeze`. */
export async function freezeMachine(context: EsxiContext, request: FreezeRequest): Promise<FrozenMachine> {
  const datastores = await loadDatastores(context);
  const machine = await findMachine(context.vsphere, datastores, request.machine);
  if (machine.snapshots.some((snapshot) => snapshot.name === request.hold)) {
    // An earlier attempt of the same run left it, and it was not whole enough to be resumed.
    const { hold, signal } = request;
    await removeHoldSnapshot(context, datastores, { machine, hold, deltas: [], signal });
    return await freezeMachine(context, request);
  }
  assertProtectable(machine);
  if (machine.powerState !== 'on') return await openAtRest(context, datastores, machine, request);

  const files = await readMachineFiles(context, datastores, machine, request.signal);
  const nodes = frozenNodes(machine, files);
  await assertSpace(context, datastores, machine, request);
  try {
    const { taken, consistency } = await takeConsistently(context, datastores, { machine, nodes, request });
    return await openFrozen(context, datastores, { machine, files, taken, consistency, request });
  } catch (error) {
    await cleanUp(context, datastores, machine, request, error);
    throw request.signal.aborted && !isAppError(error) ? cancelled(error) : toAppError(error);
  }
}

/** See `SourceHost.resume`. */
export async function resumeMachine(context: EsxiContext, request: FreezeRequest): Promise<FrozenMachine | null> {
  const datastores = await loadDatastores(context);
  const machine = await findMachine(context.vsphere, datastores, request.machine);
  if (machine.powerState !== 'on' || machine.snapshots.every((snapshot) => snapshot.name !== request.hold)) return null;
  const files = await readMachineFiles(context, datastores, machine, request.signal);
  const nodes = frozenNodes(machine, files);
  const { hold, signal } = request;
  const taken = await findTaken(context, datastores, { machine: machine.reference, hold, nodes, signal });
  if (taken === null) return null;
  const consistency = judge(taken, machine, request, '');
  return await openFrozen(context, datastores, { machine, files, taken, consistency, request, isResumed: true });
}

function assertProtectable(machine: InventoryMachine): void {
  const { name } = machine.identity;
  if (machine.isEncrypted) {
    throw notProtectable(
      name,
      'is encrypted; its disks are of no use without the key of the host',
      'Decrypt the machine first.',
    );
  }
  if (machine.question !== null) {
    throw notProtectable(
      name,
      `waits for an answer: ${machine.question.slice(0, 200)}`,
      'Answer the question in the Host Client.',
    );
  }
  if (machine.consolidationNeeded) {
    throw new AppError('SNAPSHOT_CONSOLIDATION_NEEDED', `The disks of "${name}" need consolidation before a backup.`, {
      hint: 'In the Host Client choose Snapshots, Consolidate disks.',
      details: { machine: name },
    });
  }
  const left = machine.snapshots.find((snapshot) => HOLD.test(snapshot.name));
  if (left !== undefined) {
    throw new AppError('SNAPSHOT_LEFTOVER', `"${name}" still has the snapshot ${left.name} of an earlier backup.`, {
      hint: 'It belongs to a backup that is running, perhaps from another NAS, or to one that was forgotten: then remove it in the Host Client.',
      details: { machine: name, snapshot: left.name },
    });
  }
  if (machine.disks.every((disk) => disk.excluded !== null)) {
    const reasons = machine.disks.map((disk) => `${disk.key} ${disk.excluded ?? ''}`).join(', ');
    throw notProtectable(
      name,
      machine.disks.length === 0 ? 'has no disks' : `has no disk that a snapshot covers (${reasons})`,
      'Change the mode of its disks to dependent, or leave the machine out of the job.',
    );
  }
}

function notProtectable(machine: string, why: string, hint: string): AppError {
  return new AppError('MACHINE_NOT_PROTECTABLE', `"${machine}" ${why}.`, { hint, details: { machine } });
}

/** Where the disks are plugged in that a snapshot freezes. */
function frozenNodes(machine: InventoryMachine, files: MachineFiles): string[] {
  const nodes = machine.disks.filter((disk) => disk.excluded === null).map((disk) => disk.key);
  const missing = nodes.find((node) => !files.disks.has(node));
  if (missing !== undefined) {
    throw new AppError(
      'MACHINE_NOT_PROTECTABLE',
      `The disk ${missing} of "${machine.identity.name}" is not in its .vmx file.`,
      {
        hint: 'The machine is being changed; try again. If it stays, unregister and register it again.',
        details: { machine: machine.identity.name, disk: missing },
      },
    );
  }
  return nodes;
}

/** Growing layers fill a datastore, and every machine on it stops. @throws DATASTORE_FULL */
async function assertSpace(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  request: FreezeRequest,
): Promise<void> {
  const filesystems = await readFilesystems(context.shell, request.signal);
  const names = new Set([datastores.parse(machine.identity.path).datastore, ...datastoresOf(machine)]);
  for (const name of names) {
    const root = datastores.rootOf(name);
    const volume = filesystems.find((fs) => fs.root === root || fs.name === name);
    if (volume === undefined) continue;
    const diskBytes = machine.disks
      .filter((disk) => disk.datastore === name && disk.excluded === null)
      .reduce((sum, disk) => sum + disk.sizeBytes, 0);
    const wantedBytes = Math.max(context.limits.freeFloorBytes, Math.min(diskBytes * GROWTH_SHARE, GROWTH_MAX_BYTES));
    const details = { datastore: name, freeBytes: volume.freeBytes, wantedBytes: Math.round(wantedBytes) };
    if (volume.freeBytes < context.limits.freeFloorBytes) throw datastoreFull(details, machine.identity.name);
    if (volume.freeBytes < wantedBytes) {
      const text = `The datastore ${name} has only ${formatBytes(volume.freeBytes)} free. The run is ended if less than ${formatBytes(context.limits.freeFloorBytes)} is left.`;
      request.note({ level: 'warning', code: 'DATASTORE_LOW', text, details });
    }
  }
}

function datastoresOf(machine: InventoryMachine): string[] {
  return machine.disks.flatMap((disk) => (disk.excluded === null && disk.datastore !== '' ? [disk.datastore] : []));
}

function datastoreFull(details: { datastore: string; freeBytes: number }, machine: string): AppError {
  return new AppError(
    'DATASTORE_FULL',
    `The datastore ${details.datastore} has ${formatBytes(details.freeBytes)} free, too little for a snapshot of "${machine}".`,
    { hint: 'Free space on the datastore: a full one stops every machine on it.', details: { ...details, machine } },
  );
}

async function takeConsistently(
  context: EsxiContext,
  datastores: DatastoreMap,
  parts: { machine: InventoryMachine; nodes: string[]; request: FreezeRequest },
): Promise<{ taken: TakenSnapshot; consistency: Consistency }> {
  const { machine, nodes, request } = parts;
  const { hold, signal, quiesce } = request;
  let refusal = '';
  if (quiesce !== 'off') {
    if (machine.toolsRunning) {
      try {
        const taken = await takeSnapshot(context, datastores, { machine, hold, nodes, quiesce: true, signal });
        if (taken.snapshot.isQuiesced || quiesce === 'try') {
          const consistency = judge(taken, machine, request, '');
          if (consistency.level === 'crash') noteNotQuiet(request, consistency.evidence);
          return { taken, consistency };
        }
        refusal = 'the host took the snapshot without asking the guest';
      } catch (error) {
        if (quiesce === 'require' || !isQuiesceTrouble(error)) throw error;
        refusal = String(error.details['words'] ?? error.message);
        await removeHoldSnapshot(context, datastores, {
          machine,
          hold,
          deltas: [],
          settleMs: settleMs(context),
          signal,
        });
      }
    } else {
      refusal = 'VMware Tools are not running in the guest';
    }
    if (quiesce === 'require') {
      throw new AppError(
        'SNAPSHOT_QUIESCE_REFUSED',
        `"${machine.identity.name}" cannot be frozen consistently: ${refusal}.`,
        {
          hint: 'Install or start VMware Tools in the guest, or choose "try" or "off" for this job.',
          details: { machine: machine.identity.name, words: refusal },
        },
      );
    }
    noteNotQuiet(request, refusal);
  }
  const taken = await takeSnapshot(context, datastores, { machine, hold, nodes, quiesce: false, signal });
  return { taken, consistency: judge(taken, machine, request, refusal) };
}

function noteNotQuiet(request: FreezeRequest, evidence: string): void {
  const text = `The version is crash-consistent only: ${evidence}.`;
  request.note({ level: 'warning', code: 'QUIESCE_FAILED', text, details: { evidence } });
}

function isQuiesceTrouble(error: unknown): error is AppError {
  return (
    isAppError(error) && ['SNAPSHOT_QUIESCE_REFUSED', 'SNAPSHOT_NOT_TAKEN', 'SNAPSHOT_FAILED'].includes(error.code)
  );
}

/** From the host's own marks on the snapshot; a request for quiescing proves nothing. */
function judge(
  { snapshot }: TakenSnapshot,
  machine: InventoryMachine,
  request: FreezeRequest,
  refusal: string,
): Consistency {
  const requested = request.quiesce;
  if (snapshot.isQuiesced) {
    const level = snapshot.hasManifest ? 'application' : 'filesystem';
    const evidence = snapshot.hasManifest
      ? 'quiesced, with a backup manifest of the guest'
      : 'the snapshot is marked quiesced';
    return { level, requested, evidence };
  }
  const silent = machine.toolsRunning
    ? 'the snapshot is not marked quiesced'
    : 'VMware Tools are not running in the guest';
  return {
    level: 'crash',
    requested,
    evidence: refusal !== '' ? refusal : requested === 'off' ? 'not asked for' : silent,
  };
}

/** Between an order and the task that it makes lie the start of `vim-cmd` and a busy host's queue. */
function settleMs(context: EsxiContext): number {
  return context.limits.snapshotSettleMs / 3;
}

/** After a failed freeze nothing may be left; what cannot be removed now is named in the error. */
async function cleanUp(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  request: FreezeRequest,
  reason: unknown,
): Promise<void> {
  try {
    const { hold } = request;
    await removeHoldSnapshot(context, datastores, { machine, hold, deltas: [], settleMs: settleMs(context) });
  } catch (error) {
    const text = `After a failed freeze the snapshot ${request.hold} may still be on the host.`;
    const { code } = toAppError(error);
    request.note({ level: 'error', code: 'SNAPSHOT_LEFT', text, details: { hold: request.hold, code } });
    context.logger.error({ error: String(error), reason: String(reason) }, 'a failed freeze could not be cleaned up');
  }
}

async function openFrozen(
  context: EsxiContext,
  datastores: DatastoreMap,
  parts: {
    machine: InventoryMachine;
    files: MachineFiles;
    taken: TakenSnapshot;
    consistency: Consistency;
    request: FreezeRequest;
    isResumed?: boolean;
  },
): Promise<FrozenMachine> {
  const { machine, files, taken, consistency, request, isResumed = false } = parts;
  const frozen = await context.vsphere.retrieveOne(taken.snapshot.reference, ['config.hardware']);
  const atFreeze = toDisks(frozen.properties['config.hardware'], datastores);
  const disks = await openDisks(context, datastores, machine, request.signal, (disk) => {
    const inSnapshot = atFreeze.find((candidate) => candidate.key === disk.key);
    // The change id of the running machine is that of a later moment: none is better than that one.
    return { tip: taken.frozen.get(disk.key) ?? null, changeId: inSnapshot?.changeId ?? null };
  });
  const { hold, signal } = request;
  const configuration = await readConfiguration(context, datastores, { machine, files, disks, hold, signal });
  return new EsxiFrozenMachine(context, datastores, {
    machine,
    request,
    taken,
    consistency,
    configuration,
    disks,
    isResumed,
    frozenAtMs: taken.snapshot.createdAtMs ?? (await hostTimeMs(context, signal)),
  });
}

/** A machine that is off or suspended stands still by itself: no snapshot, only an eye on it. */
async function openAtRest(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  request: FreezeRequest,
): Promise<FrozenMachine> {
  const { hold, signal, quiesce } = request;
  const files = await readMachineFiles(context, datastores, machine, signal);
  const disks = await openDisks(context, datastores, machine, signal, (disk) => ({
    tip: files.disks.get(disk.key) ?? null,
    changeId: disk.changeId,
  }));
  const configuration = await readConfiguration(context, datastores, { machine, files, disks, hold, signal });
  const consistency: Consistency =
    machine.powerState === 'off'
      ? { level: 'off', requested: quiesce, evidence: 'the machine is off' }
      : {
          level: 'crash',
          requested: quiesce,
          evidence: 'the machine is suspended; its memory is not part of the version',
        };
  const frozenAtMs = await hostTimeMs(context, signal);
  return new EsxiFrozenMachine(context, datastores, {
    machine,
    request,
    taken: null,
    consistency,
    configuration,
    disks,
    frozenAtMs,
  });
}

interface OpenDisk {
  disk: InventoryDisk;
  layers: DiskLayer[];
}

async function openDisks(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  signal: AbortSignal,
  locate: (disk: InventoryDisk) => { tip: DatastorePath | null; changeId: string | null },
): Promise<OpenDisk[]> {
  const open: OpenDisk[] = [];
  for (const disk of machine.disks) {
    if (disk.excluded !== null) continue;
    const { tip, changeId } = locate(disk);
    if (tip === null) {
      throw new AppError(
        'MACHINE_NOT_PROTECTABLE',
        `The file of the disk ${disk.key} of "${machine.identity.name}" is not known.`,
        {
          hint: 'The machine is being changed; try again.',
          details: { machine: machine.identity.name, disk: disk.key },
        },
      );
    }
    const layers = await readChain(context.shell, datastores, tip, signal);
    const [top] = layers;
    // SOAP rounds sizes to KiB; the descriptor is the truth.
    const sizeBytes = top === undefined ? disk.sizeBytes : descriptorSizeBytes(top.descriptor);
    const found = { ...disk, sizeBytes, datastore: tip.datastore, path: formatDatastorePath(tip), changeId };
    open.push({ disk: found, layers });
  }
  return open;
}

async function hostTimeMs(context: EsxiContext, signal: AbortSignal): Promise<number> {
  const { stdout } = await context.shell.exec(shell`date +%s`, { isRepeatable: true, signal });
  const seconds = Number(stdout.toString('utf8').trim());
  return Number.isSafeInteger(seconds) && seconds > 0 ? seconds * 1000 : context.clock.nowMs();
}

interface FrozenParts {
  machine: InventoryMachine;
  request: FreezeRequest;
  /** Null for a machine that stands still by itself. */
  taken: TakenSnapshot | null;
  consistency: Consistency;
  configuration: MachineConfiguration;
  disks: OpenDisk[];
  frozenAtMs: number;
  /** The VM snapshot is one of an earlier attempt, which may have left more. */
  isResumed?: boolean;
}

class EsxiFrozenMachine implements FrozenMachine {
  readonly identity: MachineIdentity;
  readonly frozenAtMs: number;
  readonly consistency: Consistency;
  readonly configuration: MachineConfiguration;
  readonly disks: FrozenDisk[];
  readonly excluded: { disk: MachineDisk; reason: NonNullable<MachineDisk['excluded']> }[];
  readonly #context: EsxiContext;
  readonly #datastores: DatastoreMap;
  readonly #parts: FrozenParts;
  readonly #clones: CloneStore;
  readonly #ended = new AbortController();
  /** Length and time of the disks' files; of a machine at rest they must not change. */
  #restingFiles: Promise<string> | null = null;
  #thawing: Promise<void> | null = null;

  constructor(context: EsxiContext, datastores: DatastoreMap, parts: FrozenParts) {
    const { machine, request } = parts;
    this.#context = context;
    this.#datastores = datastores;
    this.#parts = parts;
    this.identity = machine.identity;
    this.frozenAtMs = parts.frozenAtMs;
    this.consistency = parts.consistency;
    this.configuration = parts.configuration;
    this.excluded = machine.disks.flatMap((disk) =>
      disk.excluded === null ? [] : [{ disk: toMachineDisk(disk), reason: disk.excluded }],
    );
    const staging = request.nfsStaging;
    const note = (entry: Parameters<FreezeRequest['note']>[0]): void => request.note(entry);
    const { isResumed = false } = parts;
    this.#clones = new CloneStore({ context, datastores, hold: request.hold, staging, note, isResumed });
    this.disks = parts.disks.map(
      ({ disk, layers }) =>
        new EsxiFrozenDisk(
          {
            disk: toMachineDisk(disk),
            deviceKey: disk.deviceKey,
            changeId: disk.changeId,
            bootedAtMs: machine.bootedAtMs,
            layers,
          },
          {
            context,
            datastores,
            machine: machine.reference,
            snapshot: parts.taken?.snapshot.reference ?? null,
            clones: this.#clones,
            withoutRoutes: request.withoutRoutes ?? [],
            hasNfsStaging: staging !== null,
            note,
            assertFrozen: async (signal) => await this.#assertFrozen(signal),
            ended: this.#ended.signal,
          },
        ),
    );
    if (parts.taken === null) {
      this.#restingFiles = this.#measureFiles(request.signal);
      this.#restingFiles.catch(() => undefined);
    }
    void this.#watch();
  }

  async thaw(signal?: AbortSignal): Promise<void> {
    if (!this.#ended.signal.aborted) this.#ended.abort(new AppError('CANCELLED', 'The machine was thawed.'));
    this.#thawing ??= this.#release(signal);
    try {
      await this.#thawing;
    } catch (error) {
      // A later call tries again; a successful one is final.
      this.#thawing = null;
      throw error;
    }
  }

  async #release(signal?: AbortSignal): Promise<void> {
    const { machine, request, taken } = this.#parts;
    // Copies first: the host merges no layer that somebody reads. Then the snapshot, whatever became of them.
    const copiesLeft = await this.#clones.dispose().then(
      () => null,
      (error: unknown) => toAppError(error),
    );
    if (taken !== null) {
      const { hold } = request;
      const options = { machine, hold, deltas: taken.deltas, ...(signal && { signal }) };
      await removeHoldSnapshot(this.#context, this.#datastores, options);
    }
    if (copiesLeft === null) return;
    const text = `A temporary copy may be left: ${copiesLeft.message}`;
    request.note({ level: 'warning', code: 'COPY_LEFT', text, details: { code: copiesLeft.code } });
    throw copiesLeft;
  }

  async #assertFrozen(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#ended.signal.aborted) throw toAppError(this.#ended.signal.reason);
    await this.#assertSnapshotStands();
    if (this.#restingFiles === null) return;
    const { machine } = this.#parts;
    const now = await readMachine(this.#context.vsphere, machine.reference, this.#datastores);
    const [before, after] = [await this.#restingFiles, await this.#measureFiles(signal)];
    if (now.powerState === machine.powerState && before === after) return;
    throw new AppError(
      'MACHINE_STATE_CHANGED',
      `"${machine.identity.name}" was switched on or changed while it was read.`,
      {
        hint: 'Nothing to do: the next run takes it as it is then.',
        details: { machine: machine.identity.name, powerState: now.powerState },
      },
    );
  }

  /**
   * A host takes a snapshot off its list before it merges the layers: what was read up to a moment at which it was
   * still listed is of one instant.
   */
  async #assertSnapshotStands(): Promise<void> {
    const { machine, request, taken } = this.#parts;
    if (taken === null || (await isListed(this.#context, machine.reference, taken.snapshot))) return;
    throw new AppError(
      'MACHINE_STATE_CHANGED',
      `The VM snapshot ${request.hold} of "${machine.identity.name}" was removed by somebody else while it was read.`,
      {
        hint: 'Leave snapshots named "dozo-…" alone while a backup runs, also with "Delete all". The next run takes a new one.',
        details: { machine: machine.identity.name, snapshot: request.hold },
      },
    );
  }

  async #measureFiles(signal: AbortSignal): Promise<string> {
    const paths = this.#parts.disks.flatMap(({ layers }) =>
      layers.flatMap(({ extentPaths }) =>
        extentPaths.flatMap((path) => (path === null ? [] : [this.#datastores.toShell(path)])),
      ),
    );
    const { stdout } = await this.#context.shell.exec(shell`stat -c ${'%n %s %Y'} -- ${paths}`, {
      isRepeatable: true,
      signal,
    });
    return stdout.toString('utf8');
  }

  /** Ends the run before the growing snapshot fills a datastore and stops every machine on it. */
  async #watch(): Promise<void> {
    const { machine, request, taken } = this.#parts;
    if (taken === null) return;
    // Layers need not lie beside their disks (`workingDir` of the .vmx).
    const names = new Set([...datastoresOf(machine), ...taken.deltas.map(({ datastore }) => datastore)]);
    const volumes = [...names].map((datastore) => ({ datastore, root: this.#datastores.rootOf(datastore) }));
    await watchSpace(this.#context, volumes, this.#ended.signal, async (low) => {
      const error = datastoreFull(low, machine.identity.name);
      const text = `${error.message} The snapshot is removed at once.`;
      request.note({ level: 'error', code: 'DATASTORE_FULL', text, details: low });
      this.#ended.abort(error);
      await this.thaw();
    });
  }
}
