import type { EsxiContext } from './context.ts';
import { baseNameOf, formatDatastorePath, type DatastoreMap, type DatastorePath } from './datastore-path.ts';
import { folderPath, readChain } from './disk-chain.ts';
import { listMachines, type InventoryMachine } from './inventory.ts';
import { readMachineFiles } from './snapshot-control.ts';

/** What ESXi itself makes in a machine's folder beside disks. */
const MADE_BY_HOST =
  /\.(?:vmx|vmx~|vmx\.lck|vmxf|vmsd|nvram|vmsn|vmem|vmss|vswp|hlog|scoreboard)$|^vmware(?:-\d+)?\.log$/i;
const VMX = /\.vmx$/i;

/**
 * The files that belong to a machine and to nobody else: its configuration, and the layers of the
 * disks named, those of its snapshots included. Anything else in its folder is the user's, and so are the layers
 * below a linked clone, which are another machine's, registered or not. Where machines share a folder, what the host
 * made for the others stays, and so does what cannot be told apart.
 *
 * @param keys disks that go, by where they are plugged in
 * @returns `kept`: disk files of the machine that stay
 */
export async function ownFiles(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  keys: readonly string[],
): Promise<{ files: DatastorePath[]; kept: DatastorePath[] }> {
  const state = await readMachineFiles(context, datastores, machine);
  const folder = folderPath(state.vmxPath);
  const files = new Map<string, DatastorePath>();
  const add = (path: DatastorePath): void => void files.set(formatDatastorePath(path), path);

  const names = await context.shell.listFolder(datastores.toShell(folder));
  const stem = stemOf(baseNameOf(state.vmxPath.file));
  const stems = names.filter((name) => VMX.test(name)).map(stemOf);
  for (const name of names) {
    if (!MADE_BY_HOST.test(name)) continue;
    if (stems.every((other) => other === stem) || ownerOf(name, stems) === stem) {
      add({ ...folder, file: folder.file === '' ? name : `${folder.file}/${name}` });
    }
  }
  const tips = new Map<string, DatastorePath>();
  const kept: DatastorePath[] = [];
  for (const [node, path] of state.disks) {
    if (keys.includes(node)) tips.set(formatDatastorePath(path), path);
    else kept.push(path);
  }
  for (const snapshot of state.vmsd.snapshots) {
    for (const { node, fileName } of snapshot.disks) {
      if (!keys.includes(node)) continue;
      const path = datastores.resolve(folder, fileName);
      tips.set(formatDatastorePath(path), path);
    }
  }
  const foreign = await layersOfOthers(context, datastores, machine);
  for (const tip of tips.values()) {
    // A chain that cannot be read is not deleted: better a file too many than one too few.
    const layers = await readChain(context.shell, datastores, tip).catch(() => []);
    let above: DatastorePath | null = null;
    for (const { path, descriptor, extentPaths } of layers) {
      // A snapshot of the machine names what it froze, and a layer lies beside what it was put on; not that of a clone.
      const isBeside = above === null || isSameFolder(above, path);
      if (foreign.has(formatDatastorePath(path)) || !(isBeside || tips.has(formatDatastorePath(path)))) break;
      above = path;
      add(path);
      for (const extent of extentPaths) if (extent !== null) add(extent);
      if (descriptor.changeTrackPath !== null) add(datastores.resolve(folderPath(path), descriptor.changeTrackPath));
    }
  }
  return { files: [...files.values()].filter((path) => baseNameOf(path.file) !== ''), kept };
}

function stemOf(vmxName: string): string {
  return vmxName.replace(VMX, '');
}

/** After which of the `.vmx` files of a folder one is called: `web-2-Snapshot1.vmsn` is of `web-2`, not of `web`. */
function ownerOf(name: string, stems: readonly string[]): string | undefined {
  const fitting = stems.filter((stem) => name.startsWith(`${stem}.`) || name.startsWith(`${stem}-`));
  return fitting.sort((one, other) => other.length - one.length)[0];
}

/** What other machines of the host read, by its path. */
async function layersOfOthers(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
): Promise<Set<string>> {
  const others = (await listMachines(context.vsphere, datastores)).filter(({ hostId }) => hostId !== machine.hostId);
  const paths = others.flatMap(({ disks }) => disks.flatMap(({ layers }) => layers));
  return new Set(
    paths.filter((path) => path.startsWith('[')).map((path) => formatDatastorePath(datastores.parse(path))),
  );
}

function isSameFolder(one: DatastorePath, other: DatastorePath): boolean {
  return formatDatastorePath(folderPath(one)) === formatDatastorePath(folderPath(other));
}
