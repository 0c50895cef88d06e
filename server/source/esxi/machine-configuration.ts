import { parseVmdkDescriptor } from '../../disk/index.ts';
import type { MachineConfiguration, MachineDisk } from '../source.ts';
import type { EsxiContext } from './context.ts';
import { baseNameOf, type DatastoreMap } from './datastore-path.ts';
import { Dictionary } from './dictionary.ts';
import { folderPath, type DiskLayer } from './disk-chain.ts';
import { plainUuid } from './identity.ts';
import type { InventoryDisk, InventoryMachine } from './inventory.ts';
import type { MachineFiles } from './snapshot-control.ts';
import { vmxNetworkKeys } from './vmx.ts';

type ConfigurationFile = MachineConfiguration['files'][number];

/**
 * The machine's configuration twice: its files word for word, and what Dozo understands of them.
 * @param hold our own snapshot, which is no fact of the user's
 */
export async function readConfiguration(
  context: EsxiContext,
  datastores: DatastoreMap,
  parts: {
    machine: InventoryMachine;
    files: MachineFiles;
    disks: readonly { disk: InventoryDisk; layers: DiskLayer[] }[];
    hold: string;
    signal: AbortSignal;
  },
): Promise<MachineConfiguration> {
  const { machine, files, disks, hold, signal } = parts;
  const vmx = Dictionary.parse(files.vmx);
  const folder = folderPath(files.vmxPath);
  const stem = baseNameOf(files.vmxPath.file).replace(/\.vmx$/i, '');
  const kept: ConfigurationFile[] = [{ name: `${stem}.vmx`, kind: 'vmx', content: files.vmx }];
  const optional: [ConfigurationFile['kind'], string][] = [
    ['nvram', vmx.get('nvram') ?? `${stem}.nvram`],
    ['vmsd', `${stem}.vmsd`],
    ['vmxf', vmx.get('extendedConfigFile') ?? `${stem}.vmxf`],
  ];
  for (const [kind, name] of optional) {
    const path = datastores.toShell(datastores.resolve(folder, name));
    const content = await context.shell.readFileIfThere(path, signal);
    if (content !== null) kept.push({ name: baseNameOf(name), kind, content });
  }
  for (const { disk, layers } of disks) {
    const base = layers.at(-1);
    // Named by where the disk is plugged in: two disks on two datastores may have the same file name.
    if (base !== undefined)
      kept.push({ name: `${disk.key} ${baseNameOf(base.path.file)}`, kind: 'descriptor', content: base.content });
  }
  return {
    files: kept,
    neutral: {
      name: machine.identity.name,
      guest: machine.guest,
      firmware: (vmx.get('firmware') ?? machine.firmware) === 'efi' ? 'efi' : 'bios',
      cpus: machine.cpus,
      memoryMib: machine.memoryMib,
      hardwareVersion: machine.hardwareVersion,
      disks: disks.map(({ disk }) => ({ ...toMachineDisk(disk), adapter: disk.adapter })),
      networks: networksOf(vmx, machine),
      snapshots: machine.snapshots
        .filter((snapshot) => snapshot.name !== hold)
        .map(({ id, name, parentId, createdAtMs }) => ({ id, name, parent: parentId, createdAtMs })),
    },
  };
}

/** Only what the contract tells: keys of the host and change ids have no place in a stored point. */
export function toMachineDisk(disk: InventoryDisk): MachineDisk {
  const { key, label, sizeBytes, datastore, path, diskUuid, provisioning, excluded } = disk;
  return { key, label, sizeBytes, datastore, path, diskUuid, provisioning, excluded };
}

/** The adapter type that a disk was made for, as its stored descriptor tells; null where none is stored. */
export function storedAdapter(configuration: MachineConfiguration, diskKey: string): string | null {
  return storedDatabase(configuration, diskKey)?.get('ddb.adapterType') ?? null;
}

/**
 * Entries of a disk's descriptor that a guest sees: the geometry, which guests of old boot by; the UUID of a machine
 * that keeps its identity, which is the disk's serial number where `disk.EnableUUID` is set.
 */
export function diskTraits(
  configuration: MachineConfiguration,
  { key, diskUuid }: Pick<MachineDisk, 'key' | 'diskUuid'>,
  identity: 'keep' | 'new',
): Map<string, string> {
  const traits = new Map<string, string>();
  for (const [name, value] of storedDatabase(configuration, key) ?? []) {
    if (/^ddb\.geometry\.\w+$/.test(name) && /^[1-9]\d{0,9}$/.test(value)) traits.set(name, value);
  }
  const uuid = plainUuid(diskUuid ?? '');
  if (identity === 'keep' && uuid.length === 32) traits.set('ddb.uuid', formatDiskUuid(uuid));
  return traits;
}

/** `60 00 c2 9a 11 22 33 44-55 66 77 88 99 aa bb cc` */
function formatDiskUuid(plain: string): string {
  const bytes = plain.match(/../g) ?? [];
  return `${bytes.slice(0, 8).join(' ')}-${bytes.slice(8).join(' ')}`;
}

function storedDatabase(configuration: MachineConfiguration, diskKey: string): Map<string, string> | null {
  const file = configuration.files.find(({ kind, name }) => kind === 'descriptor' && name.startsWith(`${diskKey} `));
  if (file === undefined) return null;
  try {
    return parseVmdkDescriptor(file.content).database;
  } catch {
    return null;
  }
}

function networksOf(vmx: Dictionary, machine: InventoryMachine): MachineConfiguration['neutral']['networks'] {
  return vmxNetworkKeys(vmx).map((key) => {
    const card = machine.networkCards.find((candidate) => candidate.key === key);
    return {
      key,
      adapter: vmx.get(`${key}.virtualDev`) ?? card?.adapter ?? '',
      network: vmx.get(`${key}.networkName`) ?? card?.network ?? '',
      mac: vmx.get(`${key}.address`) ?? vmx.get(`${key}.generatedAddress`) ?? card?.mac ?? null,
    };
  });
}
