import { Dictionary } from './dictionary.ts';

/** A disk as the `.vmx` names it. */
export interface VmxDisk {
  /** `scsi0:0` */
  node: string;
  /** Relative to the machine's folder, or absolute. */
  fileName: string;
  mode: string;
  sharing: string;
}

const NODE = /^((?:scsi|sata|ide|nvme)\d{1,2}:\d{1,2})\.filename$/;
const NOT_A_DISK = /cdrom|floppy|passthru/;

/**
 * The disks of a machine: every present node of any controller whose device type is a disk, or whose
 * type is not said and whose file is a `.vmdk`.
 */
export function vmxDisks(vmx: Dictionary): VmxDisk[] {
  const disks: VmxDisk[] = [];
  for (const key of vmx.keys()) {
    const node = NODE.exec(key)?.[1];
    if (node === undefined) continue;
    const present = vmx.get(`${node}.present`);
    if (present !== undefined && present.toLowerCase() !== 'true') continue;
    const fileName = vmx.get(key) ?? '';
    const type = (vmx.get(`${node}.deviceType`) ?? '').toLowerCase();
    if (NOT_A_DISK.test(type) || !fileName.toLowerCase().endsWith('.vmdk')) continue;
    disks.push({
      node,
      fileName,
      mode: (vmx.get(`${node}.mode`) ?? '').toLowerCase(),
      sharing: (vmx.get(`${node}.sharing`) ?? '').toLowerCase(),
    });
  }
  return disks;
}

/** Network cards in the order of their numbers: `ethernet0`, … */
export function vmxNetworkKeys(vmx: Dictionary): string[] {
  const keys = new Set<string>();
  for (const key of vmx.keys()) {
    const match = /^(ethernet\d{1,3})\./.exec(key);
    if (match?.[1] !== undefined) keys.add(match[1]);
  }
  return [...keys]
    .filter((key) => vmx.get(`${key}.present`)?.toLowerCase() !== 'false')
    .sort((a, b) => Number(a.slice(8)) - Number(b.slice(8)));
}

/** What a restored machine is to be, where its stored `.vmx` says otherwise. */
export interface VmxRewrite {
  name: string;
  /** New file of each disk by node; disks not named are taken out. */
  disks: Map<string, string>;
  nvram: string | null;
  extendedConfig: string | null;
  /** Old network name → new. */
  networks: Record<string, string>;
  identity: 'keep' | 'new';
  /** The hold of the restore, written into the file: by it an interrupted restore knows its machine. */
  hold: string;
}

const RESTORED_BY = 'dozo.restore';

/** The line by which a `.vmx` says which restore made it. */
export function restoredByLine(hold: string): string {
  return `${RESTORED_BY} = "${hold}"`;
}

/** Keys that belong to a machine's past place or run, or to devices of the old host. */
const VOLATILE =
  /^(sched\.swap\.derivedname|migrate\.hostlog|migrate\.encryptionmode|checkpoint\.vmstate.*|vmotion\..*|snapshot.*|ctkenabled|ctkdisallowed|cleanshutdown|vmxstats\.filename|softpoweroff|pcipassthru\d+\..*|uuid\.action|answer\.msg\.uuid\.altered|guestinfo\.detailed\.data|workingdir|.*\.redo)$/;
const DISK_CTK = /^(?:scsi|sata|ide|nvme)\d{1,2}:\d{1,2}\.ctkenabled$/;
/**
 * By its generation a guest learns that it went back in time: a domain controller that does not, repeats numbers that
 * its partners have seen. It has to change when a machine comes back from a backup, whoever it is then (Microsoft,
 * "Virtual machine generation identifier"); where the lines are missing, the host makes it anew (U).
 */
const GENERATION = /^vm\.genidx?$/;
const USB_HOST_DEVICE = /^usb(?:_xhci)?:\d+\./;

/**
 * The stored configuration made fit for its new place. Rules: the machine's own files by their new
 * names, no snapshots, no change tracking (its file did not come along), no files or devices of the
 * old host, identity kept or made new as asked.
 */
export function rewriteVmx(stored: Buffer, rewrite: VmxRewrite): Buffer {
  const vmx = Dictionary.parse(stored);
  const disks = vmxDisks(vmx);
  const isLeftBehind = (key: string): boolean =>
    [VOLATILE, DISK_CTK, GENERATION, USB_HOST_DEVICE].some((pattern) => pattern.test(key));
  vmx.deleteWhere(isLeftBehind);

  vmx.set('displayName', rewrite.name);
  vmx.set(RESTORED_BY, rewrite.hold);
  setOrDelete(vmx, 'nvram', rewrite.nvram);
  setOrDelete(vmx, 'extendedConfigFile', rewrite.extendedConfig);
  for (const { node } of disks) {
    const fileName = rewrite.disks.get(node);
    if (fileName === undefined) vmx.deleteWhere((key) => key.startsWith(`${node}.`));
    else vmx.set(`${node}.fileName`, fileName);
  }
  ejectFiles(vmx);
  for (const key of vmxNetworkKeys(vmx)) rewriteNetwork(vmx, key, rewrite);

  if (rewrite.identity === 'new') {
    for (const key of ['uuid.bios', 'uuid.location', 'vc.uuid']) vmx.delete(key);
    vmx.set('uuid.action', 'create');
  } else {
    // The location is derived from the path; left out, the host writes the new one without asking.
    vmx.delete('uuid.location');
    vmx.set('uuid.action', 'keep');
  }
  return vmx.encode();
}

function rewriteNetwork(vmx: Dictionary, key: string, rewrite: VmxRewrite): void {
  const network = vmx.get(`${key}.networkName`);
  const mapped =
    network !== undefined && Object.hasOwn(rewrite.networks, network) ? rewrite.networks[network] : undefined;
  if (mapped !== undefined) vmx.set(`${key}.networkName`, mapped);
  if (rewrite.identity !== 'new') return;
  vmx.deleteWhere((name) => name.startsWith(`${key}.generatedaddress`) || name === `${key}.address`);
  vmx.set(`${key}.addressType`, 'generated');
}

/** CD and floppy images need not exist at the new place; a missing one stops the power on. */
function ejectFiles(vmx: Dictionary): void {
  for (const key of vmx.keys()) {
    const node = /^((?:scsi|sata|ide|nvme)\d{1,2}:\d{1,2}|floppy\d+)\.filename$/.exec(key)?.[1];
    if (node === undefined) continue;
    const type = (vmx.get(`${node}.deviceType`) ?? vmx.get(`${node}.fileType`) ?? '').toLowerCase();
    const isFloppy = node.startsWith('floppy');
    if (!isFloppy && !type.includes('cdrom')) continue;
    if (isFloppy) {
      vmx.set(`${node}.present`, 'FALSE');
    } else {
      vmx.set(`${node}.deviceType`, 'atapi-cdrom');
      vmx.set(`${node}.fileName`, 'emptyBackingString');
      vmx.set(`${node}.clientDevice`, 'TRUE');
      vmx.set(`${node}.startConnected`, 'FALSE');
    }
  }
}

function setOrDelete(vmx: Dictionary, key: string, value: string | null): void {
  if (value === null) vmx.delete(key);
  else vmx.set(key, value);
}
