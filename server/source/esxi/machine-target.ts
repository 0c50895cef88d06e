import { descriptorSizeBytes, encodeVmdkDescriptor, parseVmdkDescriptor, type Extent } from '../../disk/index.ts';
import { AppError, toAppError } from '../../errors/index.ts';
import { formatBytes, randomHex, SECTOR_BYTES } from '../../runtime/index.ts';
import { shell } from '../../ssh/index.ts';
import type { MachineDisk, MachineSummary, MachineTarget, TargetDisk, TargetRequest } from '../source.ts';
import { holdFolder, loadDatastores, type EsxiContext } from './context.ts';
import { baseNameOf, folderOf, formatDatastorePath, type DatastoreMap, type DatastorePath } from './datastore-path.ts';
import { folderPath } from './disk-chain.ts';
import { DiskWriter, hashOnHost, type RunsBy } from './disk-writer.ts';
import { probeFullBlock, probePython } from './host-programs.ts';
import { readFilesystems } from './filesystems.ts';
import { assertHardwareKnown } from './hardware.ts';
import { findMachine, listMachines, listNetworks, readMachine, type InventoryMachine } from './inventory.ts';
import { watchSpace } from './space-watch.ts';
import { diskTraits, storedAdapter } from './machine-configuration.ts';
import { ownFiles } from './own-files.ts';
import { powerOn, readAutostartOrder, registerMachine, unregisterMachine } from './registration.ts';
import {
  asideFolder,
  commitSwap,
  machinesUsing,
  markerName,
  settleSwap,
  writeJournal,
  type SwapJournal,
} from './swap.ts';
import { toSummary } from './summary.ts';
import { classifyHostText, lastWords } from './vmkfstools.ts';
import { restoredByLine, rewriteVmx } from './vmx.ts';

/** A folder being written and the place it goes to. Paths for the shell. */
interface Placement {
  datastore: string;
  root: string;
  temporary: string;
  final: string;
}

interface PlannedDisk {
  disk: MachineDisk & { adapter: string };
  placement: Placement;
  /** `name.vmdk`; its data lies in `name-flat.vmdk`. */
  fileName: string;
}

interface TargetPlan {
  stem: string;
  name: string;
  original: InventoryMachine | null;
  /** The first is the machine's own; the others hold disks only. */
  placements: Placement[];
  disks: PlannedDisk[];
}

/** See `SourceHost.createTarget`. */
export async function createTarget(context: EsxiContext, request: TargetRequest): Promise<MachineTarget> {
  const datastores = await loadDatastores(context);
  const plan = await planTarget(context, datastores, request);
  assertHardwareKnown(plan.name, request.configuration.neutral.hardwareVersion, context.facts.version);
  await assertRoom(context, plan, request);
  await warnOfNetworks(context, plan, request);
  const target = new EsxiTarget(context, datastores, request, plan, await chooseRunsBy(context, request));
  try {
    await target.prepare();
    return target;
  } catch (error) {
    await target.abort().catch((left: unknown) => {
      context.logger.error({ error: String(left) }, 'a restore that could not begin was not cleaned up');
    });
    throw toAppError(error);
  }
}

async function chooseRunsBy({ shell: host }: EsxiContext, { signal }: TargetRequest): Promise<RunsBy> {
  if (await probePython(host, signal)) return 'python';
  return (await probeFullBlock(host, signal)) ? 'shell' : 'commands';
}

/** See `SourceHost.findRestored`. */
export async function findRestored(context: EsxiContext, request: TargetRequest): Promise<MachineSummary | null> {
  const datastores = await loadDatastores(context);
  const machines = await listMachines(context.vsphere, datastores);
  const byPath = new Map<string, InventoryMachine>();
  for (const machine of machines) {
    const path = datastores.toShellIfThere(machine.identity.path);
    if (path !== null) byPath.set(path, machine);
  }
  const paths = [...byPath.keys()];
  for (let at = 0; at < paths.length; at += PATHS_PER_COMMAND) {
    const some = paths.slice(at, at + PATHS_PER_COMMAND);
    // Status 1: none has it; 2: one of them cannot be read, the others were searched all the same.
    const { stdout } = await context.shell.exec(shell`grep -ilF -- ${restoredByLine(request.hold)} ${some}`, {
      isRepeatable: true,
      signal: request.signal,
    });
    for (const path of stdout.toString('utf8').split('\n')) {
      const machine = byPath.get(path);
      if (machine !== undefined) return await completeRestored(context, datastores, machine, request);
    }
  }
  return null;
}

const PATHS_PER_COMMAND = 50;

/** What may be left to do after the machine was committed: to start it. */
async function completeRestored(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  request: TargetRequest,
): Promise<MachineSummary> {
  if (request.powerOn && machine.powerState === 'off') await startRestored(context, datastores, machine, request);
  return toSummary(await readMachine(context.vsphere, machine.reference, datastores));
}

/** A machine that does not start is restored all the same. */
async function startRestored(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  { identity, note, signal }: Pick<TargetRequest, 'identity' | 'note' | 'signal'>,
): Promise<void> {
  const { name } = machine.identity;
  try {
    await powerOn(context, datastores, machine, { identity, note: (entry) => note(entry), signal });
  } catch (error) {
    const text = `"${name}" was restored; it is not known whether it started: ${toAppError(error).message}`;
    note({ level: 'error', code: 'RESTORE_POWER_ON_FAILED', text, details: { machine: name } });
  }
}

async function planTarget(context: EsxiContext, datastores: DatastoreMap, request: TargetRequest): Promise<TargetPlan> {
  const { mode, configuration, hold } = request;
  const original = mode.kind === 'replace' ? await findMachine(context.vsphere, datastores, mode.machine) : null;
  if (original !== null) assertOff(original);
  const name = mode.kind === 'new' ? mode.name : (original?.identity.name ?? configuration.neutral.name);
  const originalVmx = original === null ? null : datastores.parse(original.identity.path);
  const main = request.datastore ?? originalVmx?.datastore ?? configuration.neutral.disks[0]?.datastore ?? '';
  datastores.rootOf(main);
  const isInPlace = originalVmx !== null && originalVmx.datastore === main;
  if (isInPlace && folderOf(originalVmx.file) === '') {
    throw new AppError('CONFLICT', `"${name}" has no folder of its own on the datastore ${main}.`, {
      hint: 'Restore it as a new machine.',
      details: { machine: name, datastore: main },
    });
  }
  const folderName = toFolderName(name);
  const stem = originalVmx === null ? folderName : baseNameOf(originalVmx.file).replace(/\.vmx$/i, '');
  const placements: Placement[] = [];
  const place = (datastore: string): Placement => {
    const known = placements.find((candidate) => candidate.datastore === datastore);
    if (known !== undefined) return known;
    const root = datastores.rootOf(datastore);
    const isMain = placements.length === 0;
    // Beside a replaced machine its folders on other datastores stay until the end: another name.
    const suffix = original === null || isMain ? '' : `-${hold.slice(-8)}`;
    const final = isMain && isInPlace ? `${root}/${folderOf(originalVmx.file)}` : `${root}/${folderName}${suffix}`;
    const placement = { datastore, root, temporary: holdFolder(root, hold), final };
    placements.push(placement);
    return placement;
  };
  place(main);
  const keys = configuration.neutral.disks.map(({ key }) => key);
  const taken = original !== null && isInPlace ? await namesThatStay(context, datastores, original, keys) : new Set();
  let number = 0;
  const nextFileName = (): string => {
    const diskStem = number === 0 ? stem : `${stem}_${String(number)}`;
    number += 1;
    return [`${diskStem}.vmdk`, `${diskStem}-flat.vmdk`].some((name) => taken.has(name))
      ? nextFileName()
      : `${diskStem}.vmdk`;
  };
  const disks = configuration.neutral.disks.map((disk): PlannedDisk => {
    const keepsPlace = request.datastore === null && original !== null && datastores.names.includes(disk.datastore);
    return { disk, placement: place(keepsPlace ? disk.datastore : main), fileName: nextFileName() };
  });
  await assertNotTaken(context, datastores, { name, placements, original, isInPlace });
  return { stem, name, original, placements, disks };
}

/** Names in a machine's folder that are not its own: they move over into the folder of the new machine. */
async function namesThatStay(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  keys: readonly string[],
): Promise<Set<string>> {
  const { files } = await ownFiles(context, datastores, machine, keys);
  const own = new Set(files.map((path) => datastores.toShell(path)));
  const folder = datastores.toShell(folderPath(datastores.parse(machine.identity.path)));
  const names = await context.shell.listFolder(folder);
  return new Set(names.filter((name) => !own.has(`${folder}/${name}`)));
}

async function assertNotTaken(
  context: EsxiContext,
  datastores: DatastoreMap,
  parts: { name: string; placements: Placement[]; original: InventoryMachine | null; isInPlace: boolean },
): Promise<void> {
  const { name, placements, original, isInPlace } = parts;
  if (original === null) {
    const machines = await listMachines(context.vsphere, datastores);
    if (machines.some((machine) => machine.identity.name === name)) throw nameTaken(name, 'a machine of this name');
  }
  for (const [index, placement] of placements.entries()) {
    if (index === 0 && isInPlace) {
      const others = await machinesUsing(context, datastores, placement.final);
      const other = others.find((machine) => machine.hostId !== original?.hostId);
      if (other === undefined) continue;
      throw new AppError('CONFLICT', `"${other.name}" has files in the folder of "${name}".`, {
        hint: 'Restore it as a new machine, or move the other one to a folder of its own.',
        details: { machine: name, other: other.name },
      });
    }
    if (await context.shell.exists(placement.final)) {
      throw nameTaken(name, `a folder ${baseNameOf(placement.final)} on ${placement.datastore}`);
    }
  }
}

function nameTaken(name: string, what: string): AppError {
  return new AppError('RESTORE_NAME_TAKEN', `There is already ${what}.`, {
    hint: 'Choose another name, or restore over the machine that is there.',
    details: { name },
  });
}

function assertOff(machine: InventoryMachine): void {
  if (machine.powerState === 'off') return;
  const { name } = machine.identity;
  throw new AppError(
    'RESTORE_MACHINE_RUNNING',
    `"${name}" is ${machine.powerState === 'on' ? 'running' : 'suspended'}.`,
    {
      hint: 'Shut it down, then restore over it; or restore it as a new machine.',
      details: { machine: name, powerState: machine.powerState },
    },
  );
}

/** Longest name of a file on VMFS and NFS is 255 bytes; `_99-flat.vmdk` must fit behind it. */
const FOLDER_NAME_BYTES_MAX = 200;

function toFolderName(name: string): string {
  let plain = name
    .replace(/[/\\\u0000-\u001f\u007f]/g, '_')
    .replace(/^\.+/, '_')
    .trim();
  while (Buffer.byteLength(plain) > FOLDER_NAME_BYTES_MAX) plain = [...plain].slice(0, -1).join('');
  return plain === '' ? 'machine' : plain;
}

/** @throws DATASTORE_FULL */
async function assertRoom(context: EsxiContext, plan: TargetPlan, request: TargetRequest): Promise<void> {
  const filesystems = await readFilesystems(context.shell, request.signal);
  for (const { datastore, root } of plan.placements) {
    const volume = filesystems.find((fs) => fs.root === root || fs.name === datastore);
    if (volume === undefined) continue;
    const here = plan.disks.filter((planned) => planned.placement.datastore === datastore);
    const sum = (disks: PlannedDisk[]): number => disks.reduce((total, { disk }) => total + disk.sizeBytes, 0);
    const fixedBytes = sum(here.filter(({ disk }) => provisioningOf(disk, request) !== 'thin'));
    const neededBytes = fixedBytes + context.limits.freeFloorBytes;
    const details = { datastore, freeBytes: volume.freeBytes, neededBytes };
    if (volume.freeBytes < neededBytes) {
      throw new AppError(
        'DATASTORE_FULL',
        `The datastore ${datastore} has ${formatBytes(volume.freeBytes)} free; the restore needs ${formatBytes(neededBytes)}.`,
        { hint: 'Choose another datastore or thin disks, or free space.', details },
      );
    }
    if (volume.freeBytes < sum(here) + context.limits.freeFloorBytes) {
      const text = `The datastore ${datastore} has less free than the disks may grow to.`;
      request.note({ level: 'warning', code: 'DATASTORE_LOW', text, details });
    }
  }
}

async function warnOfNetworks(context: EsxiContext, plan: TargetPlan, request: TargetRequest): Promise<void> {
  const known = await listNetworks(context.vsphere);
  for (const { network } of request.configuration.neutral.networks) {
    const wanted = Object.hasOwn(request.networks, network) ? (request.networks[network] ?? network) : network;
    if (wanted === '' || known.includes(wanted)) continue;
    const text = `The host has no network "${wanted}"; the network card will not be connected.`;
    request.note({ level: 'warning', code: 'NETWORK_MISSING', text, details: { network: wanted } });
  }
  if (request.identity === 'keep' && plan.original === null) {
    const text = 'The new machine keeps UUID and MAC addresses of the original. Do not run both at once.';
    request.note({ level: 'warning', code: 'IDENTITY_KEPT', text });
  }
}

function provisioningOf(disk: MachineDisk, request: TargetRequest): 'thin' | 'thick' | 'eager' {
  const wanted = request.provisioning === 'as-source' ? disk.provisioning : request.provisioning;
  return wanted === 'unknown' ? 'thin' : wanted;
}

const VMKFSTOOLS_FORMAT = { thin: 'thin', thick: 'zeroedthick', eager: 'eagerzeroedthick' } as const;

class EsxiTarget implements MachineTarget {
  readonly disks: TargetDisk[];
  readonly #context: EsxiContext;
  readonly #datastores: DatastoreMap;
  readonly #request: TargetRequest;
  readonly #plan: TargetPlan;
  readonly #writers: DiskWriter[] = [];
  readonly #ended = new AbortController();
  /** Stands in the folders: whether they are those that this attempt has written. */
  readonly #attempt = randomHex(16);
  #isFinished = false;

  constructor(context: EsxiContext, datastores: DatastoreMap, request: TargetRequest, plan: TargetPlan, by: RunsBy) {
    this.#context = context;
    this.#datastores = datastores;
    this.#request = request;
    this.#plan = plan;
    this.disks = plan.disks.map((planned): TargetDisk => {
      const path = flatPath(planned);
      const { shell: host, clock, limits } = context;
      const writer = new DiskWriter({ host, path, clock, channels: limits.rawChannels, by });
      this.#writers.push(writer);
      return {
        key: planned.disk.key,
        sizeBytes: planned.disk.sizeBytes,
        write: async (offsetBytes, data, signal) => {
          assertInside(planned.disk, { offsetBytes, lengthBytes: data.length });
          await writer.write(offsetBytes, data, signal);
        },
        flush: async (signal) => await writer.flush(signal),
        hashesChunks: by === 'python',
        hash: async (extents, signal) => {
          await writer.flush(signal);
          for (const extent of extents) assertInside(planned.disk, extent);
          return await hashOnHost(host, path, extents, signal);
        },
      };
    });
  }

  /** Makes the folders and the empty disks. */
  async prepare(): Promise<void> {
    const { shell: host } = this.#context;
    const { signal, hold } = this.#request;
    for (const { temporary } of this.#plan.placements) {
      await host.run(shell`rm -rf -- ${temporary} && mkdir -- ${temporary}`, 'make a folder for the restore', {
        signal,
      });
      await host.writeFile(`${temporary}/${markerName(hold)}`, Buffer.from(this.#attempt), signal);
    }
    for (const planned of this.#plan.disks) await this.#createDisk(planned);
    void this.#watch();
  }

  async finish(signal: AbortSignal): Promise<MachineSummary> {
    const { shell: host } = this.#context;
    const { hold } = this.#request;
    for (const disk of this.disks) await disk.flush(signal);
    this.#ended.abort();
    for (const planned of this.#plan.disks) await this.#assertWhole(planned, signal);
    await this.#writeConfiguration(signal);

    const { original, placements, name } = this.#plan;
    const [main] = placements;
    if (main === undefined) throw new AppError('INVARIANT_BROKEN', 'A restore has no place.');
    if (original !== null) assertOff(await readMachine(this.#context.vsphere, original.reference, this.#datastores));
    signal.throwIfAborted();
    const autostart = original === null ? null : await readAutostartOrder(this.#context, original);
    const journal = await this.#journal(main);
    for (const { temporary } of placements) await this.#assertOwn(temporary, signal);
    // From here to the commit a failure is taken back by the journal, by us or by a later sweep.
    await writeJournal(this.#context, main.root, hold, journal);
    let restored: InventoryMachine | null = null;
    try {
      if (original !== null) await unregisterMachine(this.#context, this.#datastores, original);
      if (journal.original !== null && journal.original.aside !== null) {
        await this.#rename(journal.original.folder, journal.original.aside);
      }
      for (const { from, to } of journal.moves) {
        await this.#rename(from, to);
        await this.#assertOwn(to, signal);
      }
      const vmx = this.#datastores.fromShell(`${main.final}/${this.#plan.stem}.vmx`);
      restored = await registerMachine(this.#context, this.#datastores, vmx, name, signal);
      this.#assertComplete(restored);
      await commitSwap(this.#context, main.root, hold);
    } catch (error) {
      const end = await settleSwap(this.#context, this.#datastores, main.root, hold);
      // The host may have taken the word that commits, and failed after it.
      if (end !== 'finished' || restored === null) {
        this.#tellAutostart(autostart);
        throw toAppError(error);
      }
    }
    this.#isFinished = true;
    this.#tellAutostart(autostart);
    const { identity, note } = this.#request;
    if (this.#request.powerOn) {
      await startRestored(this.#context, this.#datastores, restored, { identity, note, signal });
    }
    await settleSwap(this.#context, this.#datastores, main.root, hold).catch((error: unknown) => {
      const text = `"${name}" was restored; files of the replaced machine may be left: ${toAppError(error).message}`;
      note({ level: 'warning', code: 'RESTORE_REST_LEFT', text, details: { machine: name } });
    });
    await host.exec(shell`rm -f -- ${placements.map(({ final }) => `${final}/${markerName(hold)}`)}`, {
      isRepeatable: true,
    });
    return toSummary(await readMachine(this.#context.vsphere, restored.reference, this.#datastores));
  }

  /** Both machines of a swap were registered anew. */
  #tellAutostart(place: number | null): void {
    if (place === null) return;
    const { name, original } = this.#plan;
    const machine = original?.identity.name ?? name;
    const at = place > 0 ? place : '–';
    const text = `"${machine}" started with the host (place ${at}). The host forgets that when a machine is replaced: set it again in the Host Client under Manage > System > Autostart.`;
    this.#request.note({ level: 'warning', code: 'AUTOSTART_LOST', text, details: { machine, place: at } });
  }

  /** A full datastore stops every machine on it. */
  async #watch(): Promise<void> {
    await watchSpace(this.#context, this.#plan.placements, this.#ended.signal, ({ datastore, freeBytes }) => {
      const free = formatBytes(freeBytes);
      const text = `The datastore ${datastore} has only ${free} free; the restore ends before it is full.`;
      const hint = 'Free space on the datastore, or restore to another one. The original machine is as it was.';
      this.#end(new AppError('DATASTORE_FULL', text, { hint, details: { datastore, freeBytes } }));
    });
  }

  #end(error: AppError): void {
    this.#ended.abort();
    for (const writer of this.#writers) writer.end(error);
  }

  async abort(): Promise<void> {
    if (this.#isFinished) return;
    this.#end(new AppError('CANCELLED', 'The restore was ended.'));
    const { shell: host } = this.#context;
    const { hold } = this.#request;
    const [main] = this.#plan.placements;
    if (main !== undefined) await settleSwap(this.#context, this.#datastores, main.root, hold);
    for (const { temporary } of this.#plan.placements) {
      await host.run(shell`rm -rf -- ${temporary}`, 'remove the folder of a restore');
    }
  }

  async #createDisk(planned: PlannedDisk): Promise<void> {
    const { shell: host } = this.#context;
    const { signal } = this.#request;
    const { disk, placement, fileName } = planned;
    const path = `${placement.temporary}/${fileName}`;
    const format = VMKFSTOOLS_FORMAT[provisioningOf(disk, this.#request)];
    const adapter = adapterOf(disk, storedAdapter(this.#request.configuration, disk.key));
    // Thick disks are zeroed while the command runs; that takes as long as it takes.
    let made = await host.exec(shell`vmkfstools -c ${disk.sizeBytes} -d ${format} -a ${adapter} ${path}`, { signal });
    if (made.code !== 0 && classifyHostText(made.stderr) === 'other') {
      // Newer versions know no adapter types, or not this one.
      await host.exec(shell`rm -f -- ${path} ${flatPath(planned)}`, { signal });
      made = await host.exec(shell`vmkfstools -c ${disk.sizeBytes} -d ${format} ${path}`, { signal });
    }
    if (made.code !== 0) throw createFailed(planned, `${made.stdout.toString('utf8')}\n${made.stderr}`);
    await this.#correctDescriptor(planned, path, signal);
  }

  /**
   * vmkfstools may round a size up; the guest's partition table would then not fit its disk. And it gives the disk a
   * UUID and a geometry of its own.
   */
  async #correctDescriptor(planned: PlannedDisk, path: string, signal: AbortSignal): Promise<void> {
    const { shell: host } = this.#context;
    const { disk } = planned;
    const { configuration, identity } = this.#request;
    const made = parseVmdkDescriptor(await host.readFile(path, signal));
    const database = new Map([...made.database, ...diskTraits(configuration, disk, identity)]);
    let { extents } = made;
    const [extent] = extents;
    if (descriptorSizeBytes(made) !== disk.sizeBytes && extent !== undefined) {
      const sectors = disk.sizeBytes / SECTOR_BYTES;
      const cut = shell`dd if=/dev/null of=${flatPath(planned)} bs=512 seek=${sectors} count=0`;
      await host.run(cut, 'cut a disk to size', { signal });
      extents = [{ ...extent, sectors }];
    }
    const corrected = encodeVmdkDescriptor({ ...made, extents, database });
    if (corrected === encodeVmdkDescriptor(made)) return;
    await host.writeFile(path, Buffer.from(corrected), signal);
  }

  /**
   * A worker that lost the queue, not the host, may have had its task taken up by another one, which begins with new
   * folders of the same names: their disks are not those that were compared here.
   * @throws CONFLICT
   */
  async #assertOwn(folder: string, signal: AbortSignal): Promise<void> {
    const { hold } = this.#request;
    const attempt = await this.#context.shell.readFileIfThere(`${folder}/${markerName(hold)}`, signal);
    if (attempt?.toString() === this.#attempt) return;
    throw new AppError('CONFLICT', `Another attempt of this restore has begun ${folder} anew.`, {
      hint: 'The original is as it was. See in the log what became of the other attempt, or start the restore again.',
      details: { folder },
    });
  }

  /** @throws DISK_VERIFY_FAILED */
  async #assertWhole(planned: PlannedDisk, signal: AbortSignal): Promise<void> {
    const { shell: host } = this.#context;
    const path = `${planned.placement.temporary}/${planned.fileName}`;
    const descriptor = parseVmdkDescriptor(await host.readFile(path, signal));
    const sizeText = await host.run(shell`stat -c %s -- ${flatPath(planned)}`, 'measure a restored disk', { signal });
    const { sizeBytes, key } = planned.disk;
    if (Number(sizeText.trim()) === sizeBytes && descriptorSizeBytes(descriptor) === sizeBytes) return;
    throw new AppError('DISK_VERIFY_FAILED', `The restored disk ${key} has another size than the version.`, {
      hint: 'Try again; if it happens again, choose another datastore.',
      details: { disk: key, sizeBytes, fileBytes: sizeText.trim() },
    });
  }

  async #writeConfiguration(signal: AbortSignal): Promise<void> {
    const { shell: host } = this.#context;
    const { configuration, networks, identity } = this.#request;
    const { stem, name, placements, disks } = this.#plan;
    const [main] = placements;
    const stored = configuration.files.find((file) => file.kind === 'vmx');
    if (stored === undefined || main === undefined) {
      throw new AppError('POINT_INCOMPLETE', `The version of "${name}" holds no .vmx file.`, {
        hint: 'Restore single disks from it, or use another version.',
        details: { machine: name },
      });
    }
    const nvram = configuration.files.find((file) => file.kind === 'nvram');
    const vmxf = configuration.files.find((file) => file.kind === 'vmxf');
    const files = new Map(
      disks.map(({ disk, placement, fileName }) => [
        disk.key,
        placement === main ? fileName : `${placement.final}/${fileName}`,
      ]),
    );
    const vmx = rewriteVmx(stored.content, {
      name,
      disks: files,
      nvram: nvram === undefined ? null : `${stem}.nvram`,
      extendedConfig: vmxf === undefined ? null : `${stem}.vmxf`,
      networks,
      identity,
      hold: this.#request.hold,
    });
    const write = async (ending: string, content: Buffer): Promise<void> =>
      await host.writeFile(`${main.temporary}/${stem}.${ending}`, content, signal);
    if (nvram !== undefined) await write('nvram', nvram.content);
    if (vmxf !== undefined) await write('vmxf', vmxf.content);
    await write('vmsd', Buffer.alloc(0));
    await write('vmx', vmx);
    await host.exec(shell`chmod 755 ${`${main.temporary}/${stem}.vmx`}; sync`, { isRepeatable: true, signal });
  }

  async #journal(main: Placement): Promise<SwapJournal> {
    const { original, placements, name, disks } = this.#plan;
    const moves = placements.map(({ temporary, final }) => ({ from: temporary, to: final }));
    if (original === null) return { version: 1, name, moves, original: null };
    const vmx = this.#datastores.parse(original.identity.path);
    const folder = this.#datastores.toShell({ ...vmx, file: folderOf(vmx.file) });
    const keys = disks.map(({ disk }) => disk.key);
    const { files, kept } = await ownFiles(this.#context, this.#datastores, original, keys);
    for (const path of kept) {
      const text = `The disk file ${formatDatastorePath(path)} is not part of the version; it is kept, but no machine uses it now.`;
      this.#request.note({ level: 'warning', code: 'DISK_KEPT', text, details: { path: formatDatastorePath(path) } });
    }
    return {
      version: 1,
      name,
      moves,
      original: {
        name: original.identity.name,
        vmx: this.#datastores.toShell(vmx),
        folder,
        aside: folder === main.final ? asideFolder(main.root, this.#request.hold) : null,
        files: files.map((path: DatastorePath) => this.#datastores.toShell(path)),
      },
    };
  }

  /** `mv` into a folder that exists would put it inside: refused. */
  async #rename(from: string, to: string): Promise<void> {
    const { code, stderr } = await this.#context.shell.exec(shell`[ ! -e ${to} ] && mv -- ${from} ${to}`);
    if (code === 0) return;
    throw new AppError('RESTORE_NAME_TAKEN', `The folder ${to} is in the way of the restored machine.`, {
      hint: 'Rename or remove it, then restore again. The original machine is as it was.',
      details: { folder: to, words: lastWords(stderr) },
    });
  }

  /** The host must see every disk where it was, before the original goes. */
  #assertComplete(restored: InventoryMachine): void {
    const missing = this.#plan.disks.find(({ disk }) => {
      const found = restored.disks.find((candidate) => candidate.key === disk.key);
      return found === undefined || found.sizeBytes !== disk.sizeBytes;
    });
    if (missing === undefined) return;
    throw new AppError(
      'RESTORE_REGISTER_FAILED',
      `The host does not show the disk ${missing.disk.key} of "${this.#plan.name}".`,
      {
        hint: 'The original is put back. See the .vmx of the version for what the host may not know.',
        details: { machine: this.#plan.name, disk: missing.disk.key },
      },
    );
  }
}

function flatPath({ placement, fileName }: PlannedDisk): string {
  return `${placement.temporary}/${fileName.replace(/\.vmdk$/, '')}-flat.vmdk`;
}

function assertInside(disk: MachineDisk, { offsetBytes, lengthBytes }: Extent): void {
  const isInside = offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= disk.sizeBytes;
  if (isInside) return;
  throw new AppError('INVARIANT_BROKEN', `Bytes beyond the disk ${disk.key}.`, {
    details: { offsetBytes, lengthBytes },
  });
}

/** What `vmkfstools -a` and descriptors know; the controller of the machine is the .vmx file's matter. */
function adapterOf(disk: { adapter: string }, stored: string | null): string {
  const known = ['buslogic', 'lsilogic', 'ide', 'lsisas', 'pvscsi'];
  if (stored !== null && known.includes(stored)) return stored;
  return disk.adapter === 'ide' ? 'ide' : disk.adapter === 'buslogic' ? 'buslogic' : 'lsilogic';
}

function createFailed(planned: PlannedDisk, words: string): AppError {
  const { disk, placement } = planned;
  const details = { disk: disk.key, datastore: placement.datastore, words: lastWords(words) };
  if (classifyHostText(words) === 'full') {
    return new AppError(
      'DATASTORE_FULL',
      `The datastore ${placement.datastore} has no room for the disk ${disk.key}.`,
      {
        hint: 'Choose another datastore or thin disks, or free space.',
        details,
      },
    );
  }
  return new AppError('DISK_WRITE_FAILED', `The host could not make the disk ${disk.key} on ${placement.datastore}.`, {
    hint: 'See the words of the host in the details.',
    details,
  });
}
