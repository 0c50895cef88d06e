import { probePython } from './host-programs.ts';
import { setTimeout as delay } from 'node:timers/promises';
import { open, type FileHandle } from 'node:fs/promises';
import {
  descriptorSizeBytes,
  normalizeExtents,
  subtractExtents,
  totalBytes,
  type DiskSink,
  type Extent,
} from '../../disk/index.ts';
import { AppError, isAppError } from '../../errors/index.ts';
import { formatBytes } from '../../runtime/index.ts';
import { shell } from '../../ssh/index.ts';
import type { Reference } from '../../vsphere/index.ts';
import type { FrozenDisk, MachineDisk, Note, ReadPlan, RouteName, TransferOptions, TransferReport } from '../source.ts';
import { distrust, encodeChangeToken, explainQueryFailure, parseChangeToken, queryChanges } from './change-map.ts';
import type { CloneStore } from './clone-store.ts';
import type { EsxiContext } from './context.ts';
import { formatDatastorePath, type DatastoreMap } from './datastore-path.ts';
import type { DiskLayer } from './disk-chain.ts';
import { readFilesystems } from './filesystems.ts';
import {
  planWindows,
  probeRawRead,
  readWindowsBy,
  readWindowsOverSsh,
  type RangeTransfer,
  type RawPiece,
} from './range-reader.ts';
import { addRate, chooseRoute, contentBytes } from './route-rates.ts';
import { parseBlockMap } from './vmkfstools.ts';

/** Parallel ranges over HTTPS; each is a connection of its own on the host. */
const FOLDER_PARALLEL = 4;
/** One piece of a local file at a time; large, since spinning disks read it. */
const LOCAL_READ_BYTES = 4 * 1024 * 1024;

/** All that a frozen disk needs to know of the machine around it. */
export interface FrozenSurroundings {
  context: EsxiContext;
  datastores: DatastoreMap;
  machine: Reference;
  /** Null for a machine that is off. */
  snapshot: Reference | null;
  clones: CloneStore;
  withoutRoutes: readonly RouteName[];
  hasNfsStaging: boolean;
  note(note: Note): void;
  /** Throws why the machine is not frozen any more: thawed, datastore running full, switched on. */
  assertFrozen(signal: AbortSignal): Promise<void>;
  /** Fires when it is not frozen any more. */
  ended: AbortSignal;
}

export interface FrozenDiskParts {
  disk: MachineDisk;
  deviceKey: number;
  changeId: string | null;
  /** When the machine was switched on; null: it is off, or the host does not say. */
  bootedAtMs: number | null;
  /** The frozen chain, tip first. */
  layers: DiskLayer[];
}

/** A frozen disk: what to read of it, and by which of the ways that this host leaves open. */
export class EsxiFrozenDisk implements FrozenDisk {
  readonly disk: MachineDisk;
  readonly changeToken: string | null;
  readonly #parts: FrozenDiskParts;
  readonly #around: FrozenSurroundings;
  readonly #pieces: RawPiece[] | null;
  #routes: Promise<RouteName[]> | null = null;
  /** Type of the datastore, '' where the host does not tell. */
  #volumeType = '';
  /** The route that is taken to learn how fast it is. */
  #trial: RouteName | null = null;
  #isMeasured = false;

  constructor(parts: FrozenDiskParts, around: FrozenSurroundings) {
    this.disk = parts.disk;
    this.#parts = parts;
    this.#around = around;
    this.#pieces = rawPieces(parts.layers, around.datastores);
    this.changeToken =
      parts.changeId === null || around.context.facts.changeTracking === 'refused'
        ? null
        : encodeChangeToken({
            changeId: parts.changeId,
            diskUuid: parts.disk.diskUuid ?? '',
            tip: parts.disk.path,
            bootedAtMs: parts.bootedAtMs,
          });
  }

  async plan(since: { changeToken: string; sizeBytes: number } | null, signal: AbortSignal): Promise<ReadPlan> {
    const both = AbortSignal.any([signal, this.#around.ended]);
    await this.#around.assertFrozen(signal);
    const routes = await this.#openRoutes(both);
    const what = await this.#planExtents(since, both);
    this.#orderRoutes(routes, totalBytes(what.extents));
    const disk = this;
    return {
      ...what,
      get route() {
        return routes[0] ?? 'host-clone';
      },
      transfer: async (sink, options) => await disk.#transfer(what.extents, routes, sink, options),
    };
  }

  async #planExtents(
    since: { changeToken: string; sizeBytes: number } | null,
    signal: AbortSignal,
  ): Promise<Pick<ReadPlan, 'kind' | 'extents' | 'why'>> {
    const tracked = await this.#planByTracking(since, signal);
    if ('kind' in tracked) return tracked;
    const written = await this.#readBlockMap(signal);
    if (written !== null) return { kind: 'allocated', extents: written, why: tracked.refusal };
    const all = [{ offsetBytes: 0, lengthBytes: this.disk.sizeBytes }];
    return { kind: 'everything', extents: all, why: tracked.refusal };
  }

  /** What the host's change tracking answers; else why it does not help. */
  async #planByTracking(
    since: { changeToken: string; sizeBytes: number } | null,
    signal: AbortSignal,
  ): Promise<Pick<ReadPlan, 'kind' | 'extents' | 'why'> | { refusal: Note }> {
    const { changeId } = this.#parts;
    if (this.#around.context.facts.changeTracking === 'refused') {
      return { refusal: info('CHANGES_LICENSE', 'The licence of the host does not answer for changed areas.') };
    }
    if (changeId === null) {
      return { refusal: info('CHANGES_NOT_TRACKED', 'Change tracking is off for this disk.') };
    }
    const why = since === null ? CHANGES_FIRST : await this.#planChanged(since, changeId, signal);
    if ('kind' in why) return why;
    const allocated = await this.#query('*', signal);
    if ('extents' in allocated) return { kind: 'allocated', extents: allocated.extents, why };
    return { refusal: since === null ? allocated.refusal : why };
  }

  /** The changes since a point in time, or why they must not or cannot be used. */
  async #planChanged(
    since: { changeToken: string; sizeBytes: number },
    changeId: string,
    signal: AbortSignal,
  ): Promise<Pick<ReadPlan, 'kind' | 'extents' | 'why'> | Note> {
    const chain = this.#parts.layers.map((layer) => formatDatastorePath(layer.path));
    const { sizeBytes } = this.disk;
    const { bootedAtMs } = this.#parts;
    const doubt = distrust(since, { changeId, diskUuid: this.disk.diskUuid ?? '', sizeBytes, chain, bootedAtMs });
    const token = parseChangeToken(since.changeToken);
    if (doubt !== null || token === null) return doubt ?? CHANGES_FIRST;
    const answer = await this.#query(token.changeId, signal);
    if (!('extents' in answer)) return answer.refusal;
    const changedBytes = totalBytes(answer.extents);
    const text = `The host named what changed since the last version: ${formatBytes(changedBytes)}.`;
    return { kind: 'changed', extents: answer.extents, why: info('CHANGES_KNOWN', text, { changedBytes }) };
  }

  async #query(changeId: string, signal: AbortSignal): Promise<{ extents: Extent[] } | { refusal: Note }> {
    const { context, machine, snapshot } = this.#around;
    const { deviceKey } = this.#parts;
    try {
      const request = { machine, snapshot, deviceKey, sizeBytes: this.disk.sizeBytes, changeId, signal };
      const extents = await queryChanges(context.vsphere, request);
      context.facts.changeTracking = 'answered';
      return { extents };
    } catch (error) {
      const refusal = explainQueryFailure(error);
      if (refusal === null) throw error;
      if (isAppError(error) && error.code === 'HOST_LICENSE_REFUSES') context.facts.changeTracking = 'refused';
      return { refusal: { ...refusal, details: { ...refusal.details, disk: this.disk.key } } };
    }
  }

  /** Only the base of a chain has a map of its own that is the whole truth. */
  async #readBlockMap(signal: AbortSignal): Promise<Extent[] | null> {
    const [layer, ...others] = this.#parts.layers;
    if (layer === undefined || others.length > 0 || layer.descriptor.createType !== 'vmfs') return null;
    const path = this.#around.datastores.toShell(layer.path);
    const { code, stdout } = await this.#around.context.shell.exec(shell`vmkfstools -t0 ${path}`, {
      isRepeatable: true,
      outputBytesMax: BLOCK_MAP_BYTES_MAX,
      signal,
    });
    if (code !== 0) return null;
    const extents = parseBlockMap(stdout.toString('utf8'), this.disk.sizeBytes);
    return extents === null ? null : normalizeExtents(extents);
  }

  /** Brings the open ways into the order of what former transfers told, and says why where that changes anything. */
  #orderRoutes(routes: RouteName[], wantedBytes: number): void {
    const { clock, facts, limits } = this.#around.context;
    const choice = chooseRoute({
      routes,
      rates: facts.rates,
      datastoreType: this.#volumeType,
      wantedBytes,
      sizeBytes: this.disk.sizeBytes,
      nowMs: clock.nowMs(),
      measuredBytesMin: limits.measuredBytesMin,
    });
    routes.splice(0, routes.length, ...choice.routes);
    const [route = ''] = choice.routes;
    this.#trial = choice.reason === 'trial' ? (choice.routes[0] ?? null) : null;
    if (choice.reason === 'preferred') return;
    const details = {
      disk: this.disk.key,
      route,
      speedBytes: choice.bytesPerSecond,
      otherRoute: choice.otherRoute,
      otherSpeedBytes: choice.otherBytesPerSecond,
    };
    const speedOf = (bytesPerSecond: number | null): string => `${formatBytes(bytesPerSecond ?? 0)}/s`;
    const other = `${choice.otherRoute ?? ''} (${speedOf(choice.otherBytesPerSecond)})`;
    if (choice.reason === 'trial') {
      const text = `The disk ${this.disk.key} is read by ${route} this time, to learn whether that is faster on this host than ${other}.`;
      this.#around.note({ level: 'info', code: 'ROUTE_TRIAL', text, details });
      return;
    }
    const text = `The disk ${this.disk.key} is read by ${route}: ${speedOf(choice.bytesPerSecond)} in former runs, faster for it than ${other}.`;
    this.#around.note({ level: 'info', code: 'ROUTE_MEASURED', text, details });
    if (this.#around.snapshot !== null && choice.routes[0] !== undefined)
      facts.routes[this.disk.datastore] = choice.routes[0];
  }

  /** The first transfer of a disk tells how fast its route is; a later one may find a copy that is there already. */
  #measure(route: RouteName, extents: readonly Extent[], startedMs: number): void {
    if (this.#isMeasured) return;
    this.#isMeasured = true;
    const { clock, limits } = this.#around.context;
    const bytes = contentBytes(route, { wantedBytes: totalBytes(extents), sizeBytes: this.disk.sizeBytes });
    if (bytes < limits.measuredBytesMin) return;
    const seconds = Math.max(clock.monotonicMs() - startedMs, 1) / 1000;
    this.#rememberRate(route, bytes / seconds);
  }

  #rememberRate(route: RouteName, bytesPerSecond: number): void {
    const { clock, facts } = this.#around.context;
    facts.rates = addRate(facts.rates, {
      datastoreType: this.#volumeType,
      route,
      bytesPerSecond,
      atMs: clock.nowMs(),
    });
  }

  /** The ways that are open, best first. Asked once a disk. @throws DISK_NO_ROUTE */
  async #openRoutes(signal: AbortSignal): Promise<RouteName[]> {
    this.#routes ??= this.#findRoutes(signal);
    try {
      return await this.#routes;
    } catch (error) {
      this.#routes = null;
      throw error;
    }
  }

  async #findRoutes(signal: AbortSignal): Promise<RouteName[]> {
    const { context, withoutRoutes, hasNfsStaging } = this.#around;
    const isWanted = (route: RouteName): boolean => !withoutRoutes.includes(route);
    const routes: RouteName[] = [];
    const pieces = this.#pieces;
    this.#volumeType = await this.#readVolumeType(signal);
    if (pieces !== null) {
      if (isWanted('ssh-raw') && (await this.#isEveryPieceReadable(pieces, signal))) routes.push('ssh-raw');
      // The same lock answers both; where only copies worked before, HTTPS is not asked again.
      const remembered = context.facts.routes[this.disk.datastore] ?? '';
      const isWorthAsking = isWanted('https-folder') && (routes.length > 0 || !remembered.endsWith('-clone'));
      if (isWorthAsking && (routes.length > 0 || (await this.#isFolderReadable(pieces)))) routes.push('https-folder');
    }
    if (isWanted('iscsi-clone') && this.#isIscsiOpen()) routes.push('iscsi-clone');
    if (hasNfsStaging && isWanted('nfs-clone')) routes.push('nfs-clone');
    if (isWanted('host-clone')) routes.push('host-clone');
    const [best] = routes;
    if (best === undefined) {
      throw new AppError('DISK_NO_ROUTE', `No way is left to read the disk ${this.disk.path}.`, {
        hint: 'Set up an NFS staging folder for this host, or allow temporary copies on it.',
        details: { disk: this.disk.key, path: this.disk.path },
      });
    }
    // A machine that is off is readable in every way; that says nothing about a running one.
    if (this.#around.snapshot !== null) context.facts.routes[this.disk.datastore] = best;
    return routes;
  }

  async #isEveryPieceReadable(pieces: readonly RawPiece[], signal: AbortSignal): Promise<boolean> {
    for (const { path } of pieces) {
      if (!(await probeRawRead(this.#around.context.shell, path, signal))) return false;
    }
    return true;
  }

  /** Pointers to devices lie on VMFS alone. A host that refused is left in peace for a day. */
  #isIscsiOpen(): boolean {
    const { clock, facts, iscsi } = this.#around.context;
    if (iscsi === null) return false;
    if (clock.nowMs() - (facts.iscsiRefusedAtMs ?? 0) < ISCSI_PAUSE_MS) return false;
    return /^VMFS-\d/.test(this.#volumeType);
  }

  async #readVolumeType(signal: AbortSignal): Promise<string> {
    const root = this.#around.datastores.rootOf(this.disk.datastore);
    const volumes = await readFilesystems(this.#around.context.shell, signal);
    return volumes.find((fs) => fs.root === root || fs.name === this.disk.datastore)?.type ?? '';
  }

  async #isFolderReadable(pieces: readonly RawPiece[]): Promise<boolean> {
    const [piece] = pieces;
    if (piece === undefined) return false;
    const { datastore, file } = this.#around.datastores.fromShell(piece.path);
    try {
      const range = { offsetBytes: 0, lengthBytes: Math.min(512, piece.lengthBytes) };
      await this.#around.context.vsphere.folder.readRange(datastore, file, range);
      return true;
    } catch (error) {
      if (isAppError(error) && error.code !== 'CANCELLED') return false;
      throw error;
    }
  }

  /**
   * After a failure: the reason why the machine is no longer frozen is the better answer than its consequence. A host
   * that cannot be asked gives none.
   */
  async #assertFrozenAfter(signal: AbortSignal): Promise<void> {
    try {
      await this.#around.assertFrozen(signal);
    } catch (reason) {
      const isReason = !isAppError(reason) || reason.code === 'MACHINE_STATE_CHANGED' || reason.retry !== 'transient';
      if (isReason || this.#around.ended.aborted) throw reason;
    }
  }

  async #transfer(
    planned: readonly Extent[],
    routes: RouteName[],
    sink: DiskSink,
    options: TransferOptions,
  ): Promise<TransferReport> {
    const report: TransferReport = { readBytes: 0, wireBytes: 0 };
    let extents = normalizeExtents(options.extents ?? planned);
    const signal = AbortSignal.any([options.signal, this.#around.ended]);
    let delivered: Extent[] = [];
    const remember = (extent: Extent): void => {
      delivered.push(extent);
      if (delivered.length % DELIVERIES_LOOSE === 0) delivered = normalizeExtents(delivered);
    };
    if (extents.length === 0) {
      await this.#around.assertFrozen(options.signal);
      return report;
    }
    const isHeldToSpeed = await askWhetherHeld(options.budget);
    if (isHeldToSpeed) putUnheldLast(routes);
    for (;;) {
      const route = routes[0];
      if (route === undefined) throw noRouteLeft(this.disk);
      if (isHeldToSpeed && route === 'nfs-clone') this.#noteUnheld();
      const counting: DiskSink = {
        write: async (offsetBytes, data) => {
          const lengthBytes = data.length;
          await sink.write(offsetBytes, data);
          remember({ offsetBytes, lengthBytes });
        },
        zero: async (offsetBytes, lengthBytes) => {
          await sink.zero(offsetBytes, lengthBytes);
          remember({ offsetBytes, lengthBytes });
        },
        ...readableAs(sink),
      };
      const transfer: RangeTransfer = {
        sink: counting,
        signal,
        budget: options.budget,
        onDelivered: (bytes) => options.progress?.(bytes),
        onReceived: (bytes) => {
          report.readBytes += bytes;
          if (route !== 'nfs-clone') report.wireBytes += bytes;
        },
      };
      const startedMs = this.#around.context.clock.monotonicMs();
      try {
        await this.#readBy(route, extents, transfer);
        await this.#around.assertFrozen(options.signal);
        if (!isHeldToSpeed) this.#measure(route, extents, startedMs);
        return report;
      } catch (error) {
        if (!options.signal.aborted) await this.#assertFrozenAfter(options.signal);
        const isFull = isAppError(error) && error.code === 'DATASTORE_FULL' && routes.includes('nfs-clone');
        if ((!isRefusal(error) && !isFull) || routes.length < 2) throw error;
        routes.shift();
        if (route === this.#trial && isRefusal(error)) this.#rememberRate(route, 0);
        const text = `The disk ${this.disk.key} cannot be read by ${route}; going on by ${routes[0] ?? ''}.`;
        this.#around.note({ level: 'info', code: 'ROUTE_CHANGED', text, details: { disk: this.disk.key, route } });
        if (this.#around.snapshot !== null) this.#around.context.facts.routes[this.disk.datastore] = routes[0] ?? route;
        if (route === 'iscsi-clone') this.#around.context.facts.iscsiRefusedAtMs = this.#around.context.clock.nowMs();
        extents = subtractExtents(extents, normalizeExtents(delivered));
      }
    }
  }

  #noteUnheld(): void {
    const text = `The host writes the copy of the disk ${this.disk.key} to the NFS folder by itself: the speed limit does not reach it.`;
    this.#around.note({ level: 'info', code: 'ROUTE_UNLIMITED', text, details: { disk: this.disk.key } });
  }

  async #readBy(route: RouteName, extents: readonly Extent[], transfer: RangeTransfer): Promise<void> {
    const { context, clones } = this.#around;
    const { clock, limits, shell: host } = context;
    const hasPython = await probePython(host, transfer.signal);
    if (route === 'ssh-raw') {
      const windows = planWindows(extents, this.#rawOrThrow());
      await readWindowsOverSsh(host, windows, { ...transfer, channels: limits.rawChannels, hasPython, clock });
    } else if (route === 'https-folder') {
      const windows = planWindows(extents, this.#rawOrThrow());
      await readWindowsBy(async (window, signal) => await this.#readFolder(window, signal), windows, {
        ...transfer,
        parallel: FOLDER_PARALLEL,
        clock,
      });
    } else if (route === 'iscsi-clone') {
      await clones.pushOverIscsi(this.#cloneSource(), pushedSink(transfer), transfer.signal);
      delete context.facts.iscsiRefusedAtMs;
    } else if (route === 'nfs-clone') {
      await clones.useOnNas(this.#cloneSource(), transfer.signal, async (flatPath) => {
        await readLocalFile(flatPath, extents, transfer);
      });
    } else {
      await clones.useOnHost(this.#cloneSource(), transfer.signal, async (flatPath, written) => {
        const [wanted, zeros] = written === null ? [extents, []] : splitByWritten(extents, written);
        for (const { offsetBytes, lengthBytes } of zeros) {
          await transfer.sink.zero(offsetBytes, lengthBytes);
          transfer.onDelivered(lengthBytes);
        }
        const lengthBytes = this.disk.sizeBytes;
        const windows = planWindows(wanted, [{ path: flatPath, diskOffsetBytes: 0, fileOffsetBytes: 0, lengthBytes }]);
        await readWindowsOverSsh(host, windows, { ...transfer, channels: limits.rawChannels, hasPython, clock });
      });
    }
  }

  async #readFolder(
    window: { path: string; fileOffsetBytes: number; lengthBytes: number },
    signal: AbortSignal,
  ): Promise<Buffer> {
    const { datastore, file } = this.#around.datastores.fromShell(window.path);
    const range = { offsetBytes: window.fileOffsetBytes, lengthBytes: window.lengthBytes };
    return await this.#around.context.vsphere.folder.readRange(datastore, file, range, signal);
  }

  #rawOrThrow(): RawPiece[] {
    if (this.#pieces === null) throw noRouteLeft(this.disk);
    return this.#pieces;
  }

  #cloneSource(): { key: string; tip: string; sizeBytes: number; datastore: string; layerPaths: string[] } {
    const { datastores } = this.#around;
    const [tip] = this.#parts.layers;
    const layerPaths = this.#parts.layers.flatMap(({ extentPaths }) =>
      extentPaths.flatMap((path) => (path === null ? [] : [datastores.toShell(path)])),
    );
    return {
      key: this.disk.key,
      tip: tip === undefined ? '' : datastores.toShell(tip.path),
      sizeBytes: this.disk.sizeBytes,
      datastore: this.disk.datastore,
      layerPaths,
    };
  }
}

/** How long a host that could not be reached over iSCSI is not asked again. */
const ISCSI_PAUSE_MS = 24 * 3_600_000;
/** Deliveries remembered one by one before they are joined. */
const DELIVERIES_LOOSE = 8192;

/** A map of a 62 TB disk in 1 MiB blocks can be long; beyond this the disk is read without it. */
const BLOCK_MAP_BYTES_MAX = 64 * 1024 * 1024;

const CHANGES_FIRST = info('CHANGES_FIRST', 'The first time all areas in use are read, later those that have changed.');

/** Errors that another route may not have. */
function isRefusal(error: unknown): boolean {
  return isAppError(error) && (error.code === 'DISK_READ_REFUSED' || error.code === 'DISK_RANGE_IGNORED');
}

/** Whether there is a speed to keep to as of now. */
async function askWhetherHeld(budget: TransferOptions['budget']): Promise<boolean> {
  const turn = budget?.(0) ?? null;
  await turn;
  return turn !== null;
}

/** What a host writes to a share by itself cannot be slowed down; a copy on the host is read as slowly as wanted. */
function putUnheldLast(routes: RouteName[]): void {
  const at = routes.indexOf('nfs-clone');
  if (at >= 0) routes.push(...routes.splice(at, 1));
}

function noRouteLeft(disk: MachineDisk): AppError {
  return new AppError('DISK_NO_ROUTE', `No way is left to read the disk ${disk.path}.`, {
    hint: 'Set up an NFS staging folder for this host, or allow temporary copies on it.',
    details: { disk: disk.key, path: disk.path },
  });
}

/**
 * Where the disk's bytes lie in plain files: a base without layers above it. Null where vmkfstools
 * is needed to make sense of them (chains, mappings, object stores).
 */
export function rawPieces(layers: readonly DiskLayer[], datastores: DatastoreMap): RawPiece[] | null {
  const [base, ...others] = layers;
  if (base === undefined || others.length > 0) return null;
  const pieces: RawPiece[] = [];
  let diskOffsetBytes = 0;
  for (const [index, extent] of base.descriptor.extents.entries()) {
    const path = base.extentPaths[index] ?? null;
    const isFlat = extent.type === 'VMFS' || (extent.type === 'FLAT' && extent.offsetSectors === 0);
    const lengthBytes = descriptorSizeBytes({ ...base.descriptor, extents: [extent] });
    if (!isFlat || path === null) return null;
    pieces.push({ path: datastores.toShell(path), diskOffsetBytes, fileOffsetBytes: 0, lengthBytes });
    diskOffsetBytes += lengthBytes;
  }
  return pieces;
}

/** Counts what the host writes by itself, as transfers count what they read. */
function pushedSink({ sink, onDelivered, onReceived, budget }: RangeTransfer): DiskSink {
  return {
    write: async (offsetBytes, data) => {
      const lengthBytes = data.length;
      onReceived(lengthBytes);
      // The host writes on when this is answered.
      await budget?.(lengthBytes);
      await sink.write(offsetBytes, data);
      onDelivered(lengthBytes);
    },
    zero: async (offsetBytes, lengthBytes) => {
      await sink.zero(offsetBytes, lengthBytes);
      onDelivered(lengthBytes);
    },
    ...readableAs(sink),
  };
}

function readableAs(sink: DiskSink): Pick<DiskSink, 'read'> {
  if (sink.read === undefined) return {};
  return { read: async (offsetBytes, lengthBytes) => (await sink.read?.(offsetBytes, lengthBytes)) ?? Buffer.alloc(0) };
}

function splitByWritten(extents: readonly Extent[], written: readonly Extent[]): [Extent[], Extent[]] {
  const zeros = subtractExtents(extents, written);
  return [subtractExtents(extents, zeros), zeros];
}

async function readLocalFile(path: string, extents: readonly Extent[], transfer: RangeTransfer): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw stagingUnreadable(path, error);
  }
  try {
    for (const extent of extents) {
      const end = extent.offsetBytes + extent.lengthBytes;
      for (let offset = extent.offsetBytes; offset < end;) {
        transfer.signal.throwIfAborted();
        const stop = Math.min(end, (Math.floor(offset / LOCAL_READ_BYTES) + 1) * LOCAL_READ_BYTES);
        const buffer = Buffer.allocUnsafe(stop - offset);
        await readFully(file, buffer, offset, path);
        transfer.onReceived(buffer.length);
        await transfer.sink.write(offset, buffer);
        transfer.onDelivered(stop - offset);
        offset = stop;
      }
    }
  } finally {
    await file.close();
  }
}

/** The host's last writes may reach the NAS's view of the file a moment later. */
const LATE_READS = 5;
const LATE_READ_MS = 200;

async function readFully(file: FileHandle, buffer: Buffer, offsetBytes: number, path: string): Promise<void> {
  let filled = 0;
  for (let late = 0; filled < buffer.length;) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, offsetBytes + filled);
    filled += bytesRead;
    if (bytesRead > 0) continue;
    late += 1;
    if (late > LATE_READS) {
      throw new AppError('DISK_READ_SHORT', `The staged copy ${path} is shorter than its disk.`, {
        hint: 'Check that the NFS staging folder and its local path are the same folder.',
        details: { path, offsetBytes: offsetBytes + filled },
      });
    }
    await delay(LATE_READ_MS);
  }
}

function stagingUnreadable(path: string, cause: unknown): AppError {
  return new AppError('DISK_READ_REFUSED', `The staged copy ${path} cannot be opened on this machine.`, {
    hint: 'Check that the local path of the NFS staging folder is the folder the host mounts, and its rights.',
    details: { path },
    cause,
  });
}

function info(code: string, text: string, details?: Note['details']): Note {
  return { level: 'info', code, text, ...(details && { details }) };
}
