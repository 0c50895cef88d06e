/**
 * What the lab's host daemon speaks: HTTP with JSON bodies on the unix socket `<directory>/run/hostd.sock`.
 * The daemon owns the state of the imitated ESXi host; the shell's commands, the tests and the SOAP
 * front are clients. Sizes and offsets are bytes, times are milliseconds since 1970, both as JSON numbers.
 *
 * Every answer has status 200 and is either the value named below or a `Fault` (`{ "fault": … }`).
 * 404 is for unknown routes, 500 for a defect of the lab.
 *
 * | request | body | answer |
 * |---|---|---|
 * | `GET /state` | | `LabState` |
 * | `GET /state?after=GENERATION&waitMs=N` | | `LabState`, as soon as its generation is above, or after N ms |
 * | `POST /login` | `LoginRequest` | `LoginAnswer` |
 * | `GET /open?path=ABS&kind=raw\|descriptor` | | `OpenAnswer` |
 * | `POST /vms/:id/snapshots` | `CreateSnapshotRequest` | `{ id: number, task: string }` |
 * | `DELETE /vms/:id/snapshots/:sid?children=0\|1` | | `{ task }` |
 * | `DELETE /vms/:id/snapshots` | | `{ task }` (all) |
 * | `POST /vms/:id/snapshots/:sid/revert` | | `{ task }` |
 * | `POST /vms/:id/consolidate` | | `{ task }` |
 * | `POST /vms/:id/power` | `PowerRequest` | `{ task }` |
 * | `POST /vms/:id/reconfigure` | `ReconfigureRequest` | `{ task }` |
 * | `POST /vms/:id/answer` | `{ question: string, choice: string }` | `{}` |
 * | `POST /vms/:id/reload` | | `{}` |
 * | `DELETE /vms/:id` | | `{}` (unregisters; files stay) |
 * | `DELETE /vms/:id?files=1` | | `{ task }` (destroys) |
 * | `POST /register` | `RegisterRequest` | `{ id: number }` |
 * | `POST /vms/:id/changed-areas` | `ChangedAreasRequest` | `ChangedAreas` |
 * | `GET /tasks/:task` | | `LabTask` |
 * | `GET /switches`, `PUT /switches` | partial `Switches` | `Switches` |
 *
 * A request that makes a task is answered when the task has ended. With `?async=1` it is answered at
 * once with `{ task }` (or the fault of a request that is refused before a task is made); the task is
 * then found in `LabState.tasks`, its result in `LabTask.result`.
 *
 * The SOAP front is started by the lab as
 * `<binary> --hostd <directory>/run/hostd.sock --listen ADDRESS:PORT --directory <directory>/soap`;
 * it prints one line `listening PORT SHA256-OF-ITS-CERTIFICATE` on standard output once it accepts
 * connections, keeps certificate and key in its directory, and ends when its standard input ends.
 * The daemon refuses nothing by licence except changed areas: the front answers RestrictedVersion.
 */
export interface LabState {
  /** Grows with every change of anything below (writes of guests excepted). */
  generation: number;
  about: About;
  license: License;
  /** `lockdownDisabled`, `lockdownNormal` or `lockdownStrict`. */
  lockdownMode: string;
  host: HostInfo;
  datastores: Datastore[];
  networks: { name: string }[];
  vms: VirtualMachine[];
  /** Running ones and the last hundred ended, oldest first. */
  tasks: LabTask[];
  services: { key: 'TSM' | 'TSM-SSH'; running: boolean; policy: 'on' | 'off' | 'automatic' }[];
  switches: Switches;
  bootTimeMs: number;
}

export interface About {
  name: 'VMware ESXi';
  /** `VMware ESXi 8.0.3 build-24674464` */
  fullName: string;
  vendor: 'VMware, Inc.';
  version: string;
  build: string;
  apiVersion: string;
  osType: 'vmnix-x86';
  productLineId: 'embeddedEsx';
  apiType: 'HostAgent';
  licenseProductName: 'VMware ESX Server';
  licenseProductVersion: string;
}

export interface License {
  edition: Edition;
  editionKey: string;
  name: string;
  licenseKey: string;
  costUnit: string;
}

export type Edition = 'free' | 'licensed' | 'evaluation';

export interface HostInfo {
  name: string;
  /** `4c4c4544-0035-4810-8054-b4c04f443532` */
  uuid: string;
  cpuMhz: number;
  cpuCores: number;
  memoryBytes: number;
}

export type DatastoreType = 'VMFS-6' | 'VMFS-5' | 'NFS';

export interface Datastore {
  name: string;
  /**
   * Folder name under /vmfs/volumes, and the moref's value: `5f0e9a10-c3d1a3b2-7f1e-0cc47a000001`, NFS
   * `1b2c3d4e-5f607182`.
   */
  uuid: string;
  /** `/vmfs/volumes/<uuid>/` */
  url: string;
  /** Where its files lie on the machine that runs the lab. */
  localPath: string;
  type: DatastoreType;
  capacityBytes: number;
  freeBytes: number;
  accessible: boolean;
  nfs: { host: string; share: string; readOnly: boolean } | null;
}

export type PowerState = 'poweredOn' | 'poweredOff' | 'suspended';

export interface VirtualMachine {
  /** Vmid; the moref is `VirtualMachine:<id>`. */
  id: number;
  /** displayName, unescaped. */
  name: string;
  /** `[ds1] folder/name.vmx` */
  vmxPath: string;
  /** `/vmfs/volumes/<uuid>/folder/name.vmx` */
  vmxAbsolutePath: string;
  /** Files unreadable or gone: most properties below are then empty. */
  valid: boolean;
  datastore: string;
  powerState: PowerState;
  bootTimeMs: number | null;
  tools: {
    /** toolsOk, toolsNotRunning, toolsNotInstalled */
    status: string;
    /** guestToolsRunning, guestToolsNotRunning */
    runningStatus: string;
    /** guestToolsCurrent, guestToolsUnmanaged, guestToolsNotInstalled */
    versionStatus2: string;
  };
  guestId: string;
  guestFullName: string;
  annotation: string;
  /** `vmx-19` */
  hardwareVersion: string;
  memoryMib: number;
  cpus: number;
  firmware: 'bios' | 'efi';
  /** Lower-case with dashes, or null. */
  biosUuid: string | null;
  instanceUuid: string | null;
  changeTrackingEnabled: boolean;
  changeTrackingSupported: boolean;
  /** The .vmx as it is: keys as written, values unescaped. */
  config: Record<string, string>;
  controllers: Controller[];
  disks: DiskDevice[];
  nics: Nic[];
  /** Null when there is none. */
  snapshots: { currentId: number | null; roots: Snapshot[] } | null;
  consolidationNeeded: boolean;
  question: Question | null;
  layout: LayoutFile[];
}

export interface Controller {
  /** 1000+bus, 200/201, 15000+bus, 31000+bus */
  key: number;
  kind: 'scsi' | 'ide' | 'sata' | 'nvme';
  bus: number;
  /** lsilogic, lsisas1068, pvscsi, buslogic; empty for the others. */
  virtualDev: string;
  /** none, virtual, physical */
  sharedBus: string;
}

export interface DiskDevice {
  key: number;
  /** `scsi0:0` */
  node: string;
  controllerKey: number;
  unit: number;
  /** `Hard disk 1` */
  label: string;
  capacityBytes: number;
  /**
   * flat → VirtualDiskFlatVer2BackingInfo, seSparse → SeSparse, sparse → SparseVer2, rdmVirtual / rdmPhysical →
   * RawDiskMappingVer1.
   */
  backing: 'flat' | 'seSparse' | 'sparse' | 'rdmVirtual' | 'rdmPhysical';
  /** persistent, independent_persistent, independent_nonpersistent */
  diskMode: string;
  /** sharingNone or sharingMultiWriter */
  sharing: string;
  thinProvisioned: boolean;
  eagerlyScrub: boolean;
  /** Frozen or live top layer first, base last: `[ds1] a/a-000001.vmdk`, `[ds1] a/a.vmdk`. */
  chain: { fileName: string; absolutePath: string }[];
  /** `60 00 C2 9a …` as written in the descriptor, or null. */
  uuid: string | null;
  /** Content id of the top layer, 8 or 32 hex digits. */
  contentId: string;
  /** Of the layer, at that time; null where not tracked. */
  changeId: string | null;
}

export interface Nic {
  key: number;
  label: string;
  /** e1000, e1000e, vmxnet3 */
  virtualDev: string;
  networkName: string;
  /** generated, static (manual), vpx (assigned) */
  addressType: string;
  macAddress: string | null;
  connected: boolean;
}

export interface Snapshot {
  /** The moref is `VirtualMachineSnapshot:<vmid>-snapshot-<id>`. */
  id: number;
  name: string;
  description: string;
  createTimeMs: number;
  /** poweredOff for a snapshot without memory, whatever the machine did. */
  state: PowerState;
  quiesced: boolean;
  /** VSS manifest text when the guest is Windows and was quiesced; else null. */
  backupManifest: string | null;
  /**
   * The disks as they were; chain and changeId are the frozen ones. Independent ones included, with their live file.
   */
  disks: DiskDevice[];
  /** .vmx values at that time. */
  config: Record<string, string>;
  children: Snapshot[];
}

export interface Question {
  /** `27`; in messages of vim-cmd and as questionId. */
  id: string;
  /** `msg.uuid.altered` */
  messageId: string;
  text: string;
  choices: { key: string; label: string; summary: string }[];
  defaultIndex: number;
}

export interface LayoutFile {
  key: number;
  /** `[ds1] a/a-flat.vmdk` */
  name: string;
  /**
   * config, nvram, snapshotList, snapshotData, snapshotMemory, diskDescriptor, diskExtent, digestDescriptor, swap, log,
   * extendedConfig, …
   */
  type: string;
  sizeBytes: number;
  /** Allocated. */
  uniqueSizeBytes: number;
  accessible: boolean;
}

export interface LabTask {
  /** `haTask-5-vim.VirtualMachine.createSnapshot-1234`: the moref's value. */
  id: string;
  /** `VirtualMachine.createSnapshot` */
  descriptionId: string;
  entity: { type: 'VirtualMachine' | 'HostSystem'; value: string; name: string };
  state: 'queued' | 'running' | 'success' | 'error';
  /** 0 to 100, or null: unset. */
  progress: number | null;
  queuedAtMs: number;
  startedAtMs: number | null;
  endedAtMs: number | null;
  /** Snapshot id, vmid, … or null. */
  result: number | null;
  fault: FaultDetail | null;
}

export interface Fault {
  fault: FaultDetail;
}

/** A fault of vSphere's API. `type` is the type's name there: `NotFound`, `InvalidPowerState`, `FileFault`, … */
export interface FaultDetail {
  type: FaultType;
  /** localizedMessage */
  message: string;
  /** Fields of the fault's own type: `file`, `invalidProperty`, `requestedState`, `existingState`, `name`, … */
  fields: Record<string, string>;
  /** `faultMessage[]` */
  messages: { key: string; message: string }[];
}

export type FaultType =
  | 'AlreadyExists'
  | 'ApplicationQuiesceFault'
  | 'FileFault'
  | 'FileLocked'
  | 'FileNotFound'
  | 'FilesystemQuiesceFault'
  | 'GenericVmConfigFault'
  | 'InvalidArgument'
  | 'InvalidPowerState'
  | 'InvalidSnapshotFormat'
  | 'InvalidState'
  | 'ManagedObjectNotFound'
  | 'NoDiskSpace'
  | 'NotFound'
  | 'NotSupported'
  | 'RestrictedVersion'
  | 'SnapshotFault'
  | 'SystemError'
  | 'TaskInProgress'
  | 'ToolsUnavailable';

export interface LoginRequest {
  user: string;
  password: string;
}

/** The lockout is shared by SSH and SOAP. `noPermission`: right password, but lockdown is on. */
export type LoginAnswer = { ok: true } | { refused: true } | { locked: true } | { noPermission: true };

export interface CreateSnapshotRequest {
  name: string;
  description: string;
  memory: boolean;
  quiesce: boolean;
}

export interface PowerRequest {
  /** `shutdown` needs running tools. */
  to: 'on' | 'off' | 'shutdown' | 'reset' | 'suspend';
}

export interface ReconfigureRequest {
  /** Keys to set; null removes a key. */
  vmx?: Record<string, string | null>;
  changeTrackingEnabled?: boolean;
  name?: string;
  annotation?: string;
}

export interface RegisterRequest {
  /** `[ds1] a/a.vmx` or `/vmfs/volumes/…` */
  path: string;
  name?: string;
}

export interface ChangedAreasRequest {
  /** Null only for a machine that is off. */
  snapshot: number | null;
  deviceKey: number;
  startOffset: number;
  /** `*`, or the changeId of an earlier snapshot. */
  changeId: string;
}

export interface ChangedAreas {
  startOffset: number;
  length: number;
  areas: { start: number; length: number }[];
}

/** `file` is on the machine that runs the lab. `busy`: answer as section "locks" of the lab's README says. */
export type OpenAnswer =
  { ok: true; sizeBytes: number; file: string } | { busy: true; file: string } | { notFound: true };

/**
 * Faults and choices that can be changed while the lab runs (`PUT /switches` merges). The defaults
 * imitate a healthy ESXi 8 host. Those of the HTTPS front are kept here too and read from `LabState`.
 */
export interface Switches {
  // --- SSH
  /** off: connection refused; drop: accepted and closed before the banner; stall: sessions freeze. */
  ssh: 'on' | 'off' | 'drop' | 'stall';
  /** Another host key is shown to new connections. */
  sshHostKeyChanged: boolean;
  /** A session that sent that many bytes is cut; null: never. One session only when `killSessionsMax` is 1. */
  killSessionAfterBytes: number | null;
  killSessionsMax: number | null;
  /** Commands that are not there, besides those a real host lacks. */
  missingTools: string[];
  python3: boolean;
  execInstalledOnly: boolean;
  // --- account
  loginFailuresMax: number;
  lockoutMs: number;
  lockdown: 'lockdownDisabled' | 'lockdownNormal' | 'lockdownStrict';
  /** no-shell: SOAP lets the account in, SSH refuses it; shell-only: SSH lets it in, vim-cmd does nothing for it. */
  role: 'administrator' | 'no-shell' | 'shell-only';
  // --- host daemon
  /** Before vim-cmd answers anything. */
  vimCmdDelayMs: number;
  /** The daemon does not answer vim-cmd, SOAP reads go on. */
  hang: boolean;
  // --- snapshots
  /** lost: reported as done, nothing happened; hang: task never ends; fail: fault. */
  snapshotCreate: 'works' | 'lost' | 'fail' | 'hang';
  snapshotCreateMs: number;
  /** early: the command returns, the task goes on; stays: consolidationNeeded remains; fail: fault, snapshot stays. */
  snapshotRemove: 'works' | 'early' | 'stays' | 'fail';
  /** At least; on top of the time that copying takes. */
  snapshotRemoveMs: number;
  /** works needs running tools; ignored: silently not quiesced though tools run. */
  quiesce: 'works' | 'ignored' | 'fail-application' | 'fail-filesystem' | 'hang';
  quiesceMs: number;
  // --- storage
  /** Overrides per datastore name of whether a frozen base of a running machine may be opened raw. */
  rawFrozenRead: Record<string, 'refuse' | 'allow'>;
  /** Names of datastores without any room left. */
  datastoresFull: string[];
  /** vmkfstools -i fails when so many percent are done; null: never. */
  cloneFailAtPercent: number | null;
  /** Of vmkfstools -i, and of consolidation; null: as fast as it goes. */
  cloneBytesPerSecond: number | null;
  /** vmkfstools -i writes that much and then stands still for as long as this is set; null: never. */
  cloneWaitsAtPercent: number | null;
  consolidateBytesPerSecond: number | null;
  /** Two clones of one chain at once: refused with 16392 (as real), or allowed. */
  parallelClone: 'refuse' | 'allow';
  /** Bug of 7.0 U1c: cloning a frozen base is refused too. */
  frozenCloneBug: boolean;
  /** The next mount over NFS fails so. */
  nfsMount: 'works' | 'unreachable' | 'denied';
  // --- software iSCSI
  /** refuse: the adapter cannot be enabled. */
  iscsiEnable: 'works' | 'refuse';
  /** dead: logins fail, commands of devices wait until they time out. */
  iscsiPath: 'works' | 'dead';
  /** How long commands wait for a lost connection; a real host takes minutes. */
  iscsiPathTimeoutMs: number;
  /** What a rescan takes at least. */
  iscsiRescanMs: number;
  /** wrong: the initiator answers challenges with another secret than it was given. */
  iscsiSecret: 'right' | 'wrong';
  /** unknown: the command that sets CHAP for one target is not there. */
  iscsiTargetChap: 'works' | 'unknown';
  /** The so manyth change of its iSCSI and firewall settings since the start stands still before it is made. */
  iscsiChangeWaitsAt: number | null;
  /** other: devices appear under a name that is not made of their NAA identifier. */
  iscsiDeviceName: 'naa' | 'other';
  /** What vmkfstools -i takes as a mapping to write to; its usage names both, nobody has published a try. */
  rdmClone: 'both' | 'virtual' | 'physical' | 'none';
  /** How vmkfstools -i brings unallocated areas to a mapped device; nobody has published it. */
  rdmHoles: 'write-same' | 'zeros' | 'skip';
  // --- change tracking
  /**
   * cut: the map says less than what changed (bug), overlap: areas overlap and are out of order, partial: short
   * windows, as real for big maps.
   */
  changedAreas: 'works' | 'short' | 'overlap' | 'partial' | 'noTrack' | 'noEpoch' | 'cannotGetChanges';
  /** Areas per answer at most. */
  changedAreasMax: number;
  /** What becomes of change tracking when a machine goes back to a snapshot; no source says which it is. */
  revertTracking: 'new-epoch' | 'as-in-snapshot';
  /** What the free edition answers; nobody has published it. */
  freeChangedAreas: 'answer' | 'refuse';
  // --- truth for tests
  /** Each snapshot's disks are copied to `<directory>/truth/<vm>/<snapshot>/<node>.raw`. */
  keepTruth: boolean;
  /** All guests stop writing. */
  writersPaused: boolean;
  // --- HTTPS front
  /** off: connection refused by closing the port. */
  https: 'on' | 'off' | 'stall';
  httpsCertificateChanged: boolean;
  /** Sessions are forgotten: the next call of each gets NotAuthenticated. Reset by the front's own count of changes. */
  soapForgetSessions: number;
  hostClientCookieBypass: boolean;
  /** Objects per page of RetrievePropertiesEx; null: what the client asked for. */
  soapPageSizeMax: number | null;
  soapDelayMs: number;
  /** Tasks stay queued so long before they run, as the front reports them. */
  taskQueuedMs: number;
  folderRange: 'works' | 'ignored';
  folderBytesPerSecond: number | null;
  /** A body is cut after so many bytes; null: never. */
  folderCutAfterBytes: number | null;
  /** PUT and DELETE of /folder on the free edition. */
  folderWrites: 'allow' | 'refuse';
}

/** What the software iSCSI adapter and the firewall have in force (`GET /lab/iscsi`). */
export interface IscsiState {
  enabled: boolean;
  initiator: string;
  /** Names of targets, by how the host knows them. */
  statics: string[];
  sessions: string[];
  devices: string[];
  detached: string[];
  chap: string[];
  adapterChap: boolean;
  openRules: string[];
  /** Sets of rules that do not allow every address. */
  restrictedRules: string[];
}

export interface AutostartEntry {
  /** From 1; -1: in any order. */
  startOrder: number;
  startAction: 'powerOn' | 'none';
}
