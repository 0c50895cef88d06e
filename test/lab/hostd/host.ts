import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { execFileSync } from 'node:child_process';
import { basename, dirname, join } from 'node:path';
import { baseDescriptor, readDescriptor, writeDescriptor, type Provisioning } from '../disks/descriptor.ts';
import { fillDisk } from '../disks/fill-disk.ts';
import type { NativePrograms } from '../native/build.ts';
import { Accounts } from './accounts.ts';
import { Datastores, type Volume } from './datastores.ts';
import { diskNodes } from './devices.ts';
import { HostFault } from './fault.ts';
import { Firewall } from './firewall.ts';
import { hostProfile, type HostProfile } from './host-profile.ts';
import type { DiskOptions, LabOptions, MachineOptions } from './lab-options.ts';
import { LockTable } from './lock-table.ts';
import type { About, AutostartEntry, Edition, LabState, License, OpenAnswer, Switches } from './protocol.ts';
import { SoftwareIscsi } from './software-iscsi.ts';
import { defaultSwitches, mergeSwitches } from './switches.ts';
import { TaskList } from './tasks.ts';
import { type HostContext, VirtualMachine } from './virtual-machine.ts';
import { VmxFile } from './vmx-file.ts';

const GIB = 1024 ** 3;

const LICENSES: Record<Edition, Omit<License, 'edition'>> = {
  free: {
    editionKey: 'esx.hypervisor.cpuPackageCoreLimited',
    name: 'VMware vSphere 8 Hypervisor',
    licenseKey: '00000-00000-00000-00000-00001',
    costUnit: 'cpuPackage:32core',
  },
  licensed: {
    editionKey: 'esx.enterprisePlus.cpuPackageCoreLimited',
    name: 'VMware vSphere 8 Enterprise Plus',
    licenseKey: '00000-00000-00000-00000-00002',
    costUnit: 'cpuPackage:32core',
  },
  evaluation: {
    editionKey: 'eval',
    name: 'Evaluation Mode',
    licenseKey: '00000-00000-00000-00000-00000',
    costUnit: '',
  },
};

/** The imitated host: inventory, datastores, locks, licence, switches. Knows nothing of its faces. */
export class Host {
  readonly options: LabOptions;
  readonly profile: HostProfile;
  readonly datastores: Datastores;
  readonly tasks: TaskList;
  readonly locks: LockTable;
  readonly accounts: Accounts;
  readonly firewall = new Firewall();
  readonly iscsi: SoftwareIscsi;
  readonly hostName: string;
  readonly uuid: string;
  bootTimeMs = Date.now();
  /** Clones that stand still since a switch says so. */
  waitingClones = 0;
  /** Changes of iSCSI and firewall settings: how many were begun since the start, and how many of them stand still. */
  readonly iscsiChanges = { begun: 0, waiting: 0 };
  readonly programs: NativePrograms;
  /** Machines that start with the host, by id. */
  readonly autostart = new Map<number, AutostartEntry>();
  readonly networks: string[] = ['VM Network', 'Management Network'];
  readonly #vms = new Map<number, VirtualMachine>();
  readonly #rawFrozenRead = new Map<string, 'refuse' | 'allow'>();
  readonly #events = new EventEmitter();
  readonly #context: HostContext;
  #nextVm = 1;
  #ranBefore: VirtualMachine[] = [];
  #switches: Switches;
  #generation = 1;
  #isPublishing = false;

  /** @param root the folder in which the host's file system lies */
  constructor(options: LabOptions, root: string, programs: NativePrograms) {
    this.options = options;
    this.programs = programs;
    this.profile = hostProfile(options.version ?? '8.0.3');
    this.hostName = options.hostName ?? 'esxi-lab';
    const digest = createHash('sha256').update(options.directory).digest('hex');
    this.uuid = `4c4c4544-${digest.slice(0, 4)}-4810-8054-${digest.slice(4, 16)}`;
    this.#switches = mergeSwitches(defaultSwitches(this.profile), options.switches ?? {});
    this.datastores = new Datastores(root);
    this.locks = new LockTable(join(options.directory, 'run', 'locks'));
    this.tasks = new TaskList(() => this.changed());
    this.accounts = new Accounts({ [options.user ?? 'root']: options.password ?? '' }, () => this.#switches);
    this.iscsi = new SoftwareIscsi({
      firewall: this.firewall,
      switches: () => this.#switches,
      root,
      hostName: this.hostName,
      seed: digest,
    });
    this.#context = {
      datastores: this.datastores,
      tasks: this.tasks,
      locks: this.locks,
      profile: this.profile,
      uuid: this.uuid,
      mapTool: programs.map,
      truthFolder: join(options.directory, 'truth'),
      switches: () => this.#switches,
      rawFrozenRead: (name) => this.rawFrozenRead(name),
      changed: () => this.changed(),
    };
    this.#events.setMaxListeners(0);
    for (const store of options.datastores ?? [{ name: 'datastore1' }]) {
      this.datastores.add({
        name: store.name,
        type: store.type ?? 'VMFS-6',
        capacityBytes: store.capacityBytes ?? 100 * GIB,
        nfs: store.type === 'NFS' ? { host: 'nas.local', share: `/volume1/${store.name}`, readOnly: false } : null,
      });
      if (store.rawFrozenRead !== undefined) this.#rawFrozenRead.set(store.name, store.rawFrozenRead);
    }
    this.#applySwitches();
  }

  // --- switches

  get switches(): Switches {
    return this.#switches;
  }

  /** @throws Error for a name that is not known */
  setSwitches(change: Record<string, unknown>): void {
    this.#switches = mergeSwitches(this.#switches, change);
    this.#applySwitches();
    this.#events.emit('switches');
    this.changed();
  }

  onSwitches(listener: () => void): void {
    this.#events.on('switches', listener);
  }

  #applySwitches(): void {
    const run = join(this.options.directory, 'run');
    mkdirSync(join(run, 'flags'), { recursive: true });
    const flag = join(run, 'flags', 'exec-installed-only');
    if (this.#switches.execInstalledOnly) writeFileSync(flag, '');
    else rmSync(flag, { force: true });
    this.datastores.full = this.#switches.datastoresFull;
    rmSync(join(run, 'full'), { recursive: true, force: true });
    mkdirSync(join(run, 'full'), { recursive: true });
    for (const name of this.#switches.datastoresFull) {
      const volume = this.datastores.byName(name);
      if (volume === undefined) continue;
      for (const entry of ['any', volume.uuid, volume.name]) writeFileSync(join(run, 'full', entry), '');
    }
  }

  rawFrozenRead(name: string): 'refuse' | 'allow' {
    const bySwitch = this.#switches.rawFrozenRead[name];
    if (bySwitch !== undefined) return bySwitch;
    const byOption = this.#rawFrozenRead.get(name);
    if (byOption !== undefined) return byOption;
    return this.datastores.byName(name)?.type === 'VMFS-6' ? 'refuse' : 'allow';
  }

  // --- changes

  get generation(): number {
    return this.#generation;
  }

  changed(): void {
    this.#generation += 1;
    if (!this.#isPublishing) {
      // Locks look at files, which must not happen between two steps of one change.
      this.#isPublishing = true;
      try {
        this.locks.setMachines(this.vms().flatMap((vm) => vm.heldLocks()));
      } finally {
        this.#isPublishing = false;
      }
    }
    this.#events.emit('changed');
  }

  /** Resolves when the generation is above `after`, or after `waitMs`. */
  async waitForChange(after: number, waitMs: number): Promise<void> {
    if (this.#generation > after) return;
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#events.off('changed', end);
        resolve();
      };
      const timer = setTimeout(end, waitMs);
      this.#events.on('changed', end);
    });
  }

  // --- machines

  vms(): VirtualMachine[] {
    return [...this.#vms.values()];
  }

  vm(id: number): VirtualMachine | undefined {
    return this.#vms.get(id);
  }

  register(path: string, name?: string, folder = '/'): VirtualMachine {
    const local = this.datastores.local(path, folder);
    if (!path.endsWith('.vmx') || !existsSync(local)) {
      throw new HostFault('NotFound', `The object or item referred to could not be found: ${path}`);
    }
    const known = this.vms().find((vm) => vm.vmxPath === local);
    if (known !== undefined) {
      throw new HostFault('AlreadyExists', `The specified key, name, or identifier '${known.id}' already exists.`, {
        name: String(known.id),
      });
    }
    const vm = new VirtualMachine(this.#context, this.#nextVm++, local);
    if (name !== undefined && name !== '') vm.registeredName = name;
    this.#vms.set(vm.id, vm);
    this.changed();
    return vm;
  }

  unregister(vm: VirtualMachine): void {
    if (vm.power === 'poweredOn') {
      throw new HostFault(
        'InvalidPowerState',
        'The attempted operation cannot be performed in the current state (Powered on).',
        {
          requestedState: 'poweredOff',
          existingState: 'poweredOn',
        },
      );
    }
    this.forget(vm);
  }

  forget(vm: VirtualMachine): void {
    this.#vms.delete(vm.id);
    this.autostart.delete(vm.id);
    this.changed();
  }

  /** Makes a machine with filled disks, registers it and starts it if wanted. */
  async createMachine(options: MachineOptions): Promise<VirtualMachine> {
    const volume = this.#volume(options.datastore ?? this.datastores.list()[0]?.name ?? '');
    const folder = join(volume.localPath, options.folder ?? options.name);
    mkdirSync(folder, { recursive: true });
    const stem = fileStem(options.name);
    if (existsSync(join(folder, `${stem}.vmx`))) return this.#addMachine(join(folder, `${stem}.vmx`), options);
    const vmx = new VmxFile();
    const set = (key: string, value: string) => vmx.set(key, value);
    set('.encoding', 'UTF-8');
    set('config.version', '8');
    set('virtualHW.version', String(options.hardwareVersion ?? Math.min(19, this.profile.hardwareVersionMax)));
    set('vmci0.present', 'TRUE');
    set('displayName', options.name);
    set('annotation', options.annotation ?? '');
    set('guestOS', options.guestId ?? 'debian12-64');
    if (options.firmware === 'efi') set('firmware', 'efi');
    set('memSize', String(options.memoryMib ?? 2048));
    set('numvcpus', String(options.cpus ?? 2));
    set('nvram', `${stem}.nvram`);
    set('extendedConfigFile', `${stem}.vmxf`);
    const nodes = placeDisks(options.disks);
    for (const controller of new Set(nodes.map((node) => node.slice(0, node.indexOf(':'))))) {
      set(`${controller}.present`, 'TRUE');
      if (controller.startsWith('scsi')) set(`${controller}.virtualDev`, 'pvscsi');
    }
    for (const [index, disk] of options.disks.entries()) {
      const node = nodes[index] ?? 'scsi0:0';
      const path = await this.#createDisk(disk, folder, index === 0 ? stem : `${stem}_${index}`, options);
      set(`${node}.present`, 'TRUE');
      set(`${node}.fileName`, dirname(path) === folder ? basename(path) : (this.datastores.absolute(path) ?? path));
      if (node.startsWith('scsi')) set(`${node}.deviceType`, 'scsi-hardDisk');
      if (disk.mode !== undefined) set(`${node}.mode`, disk.mode);
      if (disk.sharing !== undefined) set(`${node}.sharing`, disk.sharing);
      if (options.changeTracking === true && disk.mode === undefined) set(`${node}.ctkEnabled`, 'TRUE');
    }
    if (options.changeTracking === true) set('ctkEnabled', 'TRUE');
    for (const [index, network] of (options.networks ?? ['VM Network']).entries()) {
      set(`ethernet${index}.present`, 'TRUE');
      set(`ethernet${index}.virtualDev`, 'vmxnet3');
      set(`ethernet${index}.networkName`, network);
      set(`ethernet${index}.addressType`, 'generated');
    }
    set('floppy0.present', 'FALSE');
    for (const [key, value] of Object.entries(options.vmx ?? {})) set(key, value);
    writeFileSync(join(folder, `${stem}.vmx`), vmx.encode(), { mode: 0o755 });
    writeFileSync(join(folder, `${stem}.vmsd`), '', { mode: 0o644 });
    writeFileSync(join(folder, `${stem}.vmxf`), '<?xml version="1.0"?>\n<Foundry></Foundry>\n');
    writeFileSync(join(folder, `${stem}.nvram`), randomBytes(options.firmware === 'efi' ? 270_840 : 8684), {
      mode: 0o600,
    });
    return this.#addMachine(join(folder, `${stem}.vmx`), options);
  }

  /** Registers what lies there, also from an earlier lab in the same directory. */
  async #addMachine(vmxPath: string, options: MachineOptions): Promise<VirtualMachine> {
    const vm = this.register(this.datastores.absolute(vmxPath) ?? vmxPath);
    vm.writerOptions = options.writer;
    vm.hasTools = options.tools ?? true;
    if (options.running === true) await vm.startPowerOn().done;
    return vm;
  }

  async #createDisk(disk: DiskOptions, folder: string, stem: string, machine: MachineOptions): Promise<string> {
    let target = folder;
    if (disk.datastore !== undefined && disk.datastore !== this.datastores.volumeOf(folder)?.name) {
      target = join(this.#volume(disk.datastore).localPath, machine.folder ?? machine.name);
      mkdirSync(target, { recursive: true });
    }
    const path = join(target, `${stem}.vmdk`);
    createBaseDisk(path, disk.sizeBytes, disk.provisioning ?? 'thin', String(machine.hardwareVersion ?? 19));
    const flat = path.replace(/\.vmdk$/, '-flat.vmdk');
    if (disk.image !== undefined) {
      // Holes stay holes: a thin disk takes no room for what its guest never wrote.
      execFileSync('cp', ['--sparse=always', disk.image, flat]);
      const file = openSync(flat, 'r+');
      ftruncateSync(file, disk.sizeBytes);
      closeSync(file);
    } else if (disk.fill !== undefined) {
      await fillDisk(flat, disk.sizeBytes, disk.fill);
    }
    if (disk.rdm !== undefined) mapDevice(path, flat, disk.rdm);
    return path;
  }

  #volume(name: string): Volume {
    const volume = this.datastores.byName(name);
    if (volume === undefined) throw new Error(`the lab has no datastore ${name}`);
    return volume;
  }

  // --- answers

  open(path: string, kind: 'raw' | 'descriptor'): OpenAnswer {
    const file = this.datastores.local(path);
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat === undefined || !stat.isFile() || this.datastores.locate(path) === undefined) return { notFound: true };
    const lock = this.locks.ofPath(file);
    if (kind === 'raw' && lock !== undefined && !lock.rawRead) return { busy: true, file };
    return { ok: true, sizeBytes: stat.size, file };
  }

  get about(): About {
    const { version, build, apiVersion } = this.profile;
    return {
      name: 'VMware ESXi',
      fullName: `VMware ESXi ${version} build-${build}`,
      vendor: 'VMware, Inc.',
      version,
      build,
      apiVersion,
      osType: 'vmnix-x86',
      productLineId: 'embeddedEsx',
      apiType: 'HostAgent',
      licenseProductName: 'VMware ESX Server',
      licenseProductVersion: version.slice(0, version.indexOf('.')) + '.0',
    };
  }

  get edition(): Edition {
    return this.options.edition ?? 'free';
  }

  state(): LabState {
    return {
      generation: this.#generation,
      about: this.about,
      license: { edition: this.edition, ...LICENSES[this.edition] },
      lockdownMode: this.#switches.lockdown,
      host: { name: this.hostName, uuid: this.uuid, cpuMhz: 2400, cpuCores: 4, memoryBytes: 32 * GIB },
      datastores: this.datastores.list().map((volume) => ({
        name: volume.name,
        uuid: volume.uuid,
        url: `/vmfs/volumes/${volume.uuid}/`,
        localPath: volume.localPath,
        type: volume.type,
        capacityBytes: this.datastores.capacityBytes(volume),
        freeBytes: this.datastores.freeBytes(volume),
        accessible: existsSync(volume.localPath),
        nfs: volume.nfs,
      })),
      networks: this.networks.map((name) => ({ name })),
      vms: this.vms().map((vm) => vm.toState()),
      tasks: this.tasks.list(),
      services: [
        { key: 'TSM', running: false, policy: 'off' },
        { key: 'TSM-SSH', running: this.#switches.ssh !== 'off', policy: 'on' },
      ],
      switches: this.#switches,
      bootTimeMs: this.bootTimeMs,
    };
  }

  /** Whether any machine names the file among its disks. */
  usersOf(volume: Volume): VirtualMachine[] {
    return this.vms().filter(
      (vm) =>
        this.datastores.volumeOf(vm.vmxPath) === volume ||
        diskNodes(vm.vmx).some(({ fileName }) => this.datastores.volumeOf(vm.diskPath(fileName)) === volume),
    );
  }

  /**
   * Everything that lives in memory is gone: machines are off, sessions, tasks and their numbers forgotten. A layer
   * that is half merged is not imitated, so tasks under way come to their end first.
   */
  async losePower(): Promise<void> {
    await this.iscsi.losePower();
    await this.tasks.settled();
    this.#ranBefore = this.vms().filter(({ power }) => power === 'poweredOn');
    for (const vm of this.vms()) vm.losePower();
    this.tasks.forget();
  }

  /** Starts up again, and the machines that ran before unless there is no autostart. */
  async boot({ autostart }: { autostart: boolean }): Promise<void> {
    this.bootTimeMs = Date.now();
    this.changed();
    for (const vm of autostart ? this.#ranBefore : []) await vm.startPowerOn().done;
  }

  async close(): Promise<void> {
    for (const vm of this.vms()) vm.halt();
    await this.iscsi.close();
  }
}

/** Makes `x.vmdk` and `x-flat.vmdk`. Thick disks take their room at once, thin ones none. */
export function createBaseDisk(
  path: string,
  sizeBytes: number,
  provisioning: Provisioning,
  hardwareVersion: string,
  adapterType = 'lsilogic',
): void {
  const stem = basename(path, '.vmdk');
  const flat = join(dirname(path), `${stem}-flat.vmdk`);
  const file = openSync(flat, 'wx', 0o600);
  ftruncateSync(file, sizeBytes);
  closeSync(file);
  if (provisioning !== 'thin' && sizeBytes > 0) execFileSync('fallocate', ['-l', String(sizeBytes), flat]);
  writeDescriptor(path, baseDescriptor({ stem, sectors: sizeBytes / 512, provisioning, adapterType, hardwareVersion }));
}

/** Makes a base disk look like a mapped device: the pointer's file holds the data itself. */
function mapDevice(path: string, flat: string, kind: 'virtual' | 'physical'): void {
  const descriptor = readDescriptor(path);
  const pointer = flat.replace(/-flat\.vmdk$/, kind === 'virtual' ? '-rdm.vmdk' : '-rdmp.vmdk');
  renameSync(flat, pointer);
  descriptor.createType = kind === 'virtual' ? 'vmfsRawDeviceMap' : 'vmfsPassthroughRawDeviceMap';
  for (const extent of descriptor.extents) {
    extent.type = 'VMFSRDM';
    extent.fileName = basename(pointer);
  }
  writeDescriptor(path, descriptor);
}

function placeDisks(disks: readonly DiskOptions[]): string[] {
  const taken = new Set(disks.flatMap(({ node }) => node ?? []));
  let unit = 0;
  return disks.map((disk) => {
    if (disk.node !== undefined) return disk.node;
    while (taken.has(`scsi0:${unit}`) || unit === 7) unit += 1;
    taken.add(`scsi0:${unit}`);
    return `scsi0:${unit}`;
  });
}

/** ESXi leaves a name nearly as it is; only what a file name cannot hold goes. */
function fileStem(name: string): string {
  return name.replace(/[/\0\n]/g, '_');
}
