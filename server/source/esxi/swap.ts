import { AppError } from '../../errors/index.ts';
import { shell } from '../../ssh/index.ts';
import type { EsxiContext } from './context.ts';
import { holdFolder } from './context.ts';
import { baseNameOf, type DatastoreMap } from './datastore-path.ts';
import { listMachines } from './inventory.ts';
import { findByPath, registerMachine, unregisterInvalid, unregisterMachine } from './registration.ts';
import { lastWords } from './vmkfstools.ts';

/**
 * A restored machine takes its place by renames. This journal stands on the host before the first of
 * them, in a folder of its own beside the others, so that whoever finds it after a crash can put the
 * original back, or, once the new machine was proven, finish.
 */
export interface SwapJournal {
  version: 1;
  name: string;
  /** Folders written and the places they go to; the first holds the `.vmx`. Paths for the shell. */
  moves: { from: string; to: string }[];
  /** The machine to replace, or null. */
  original: {
    name: string;
    vmx: string;
    folder: string;
    /** Where its folder waits; null when the new machine goes elsewhere and it stays where it is. */
    aside: string | null;
    /** Its own files, to be deleted at the end. All others are the user's and stay. */
    files: string[];
  } | null;
}

/** Names of the markers; the first lies in every folder of ours until the end. */
export function markerName(hold: string): string {
  return `.${hold}-new`;
}

/** Where the folder of a machine that is replaced in its place waits. */
export function asideFolder(root: string, hold: string): string {
  return `${holdFolder(root, hold)}-old`;
}

function journalFolder(root: string, hold: string): string {
  return `${holdFolder(root, hold)}-swap`;
}

export async function writeJournal(
  context: EsxiContext,
  root: string,
  hold: string,
  journal: SwapJournal,
): Promise<void> {
  const folder = journalFolder(root, hold);
  await context.shell.run(shell`mkdir -p -- ${folder}`, 'make a temporary folder');
  // Renamed into place: half a journal must not be found.
  await context.shell.writeFile(`${folder}/journal.tmp`, Buffer.from(JSON.stringify(journal)));
  await context.shell.run(
    shell`mv -f -- ${`${folder}/journal.tmp`} ${`${folder}/journal`} && sync`,
    'write the journal of a restore',
  );
}

/** From here on the new machine stands and the original may go. */
export async function commitSwap(context: EsxiContext, root: string, hold: string): Promise<void> {
  await context.shell.writeFile(`${journalFolder(root, hold)}/done`, Buffer.from('done\n'));
}

/**
 * Null: none was begun. Only what we wrote ourselves is followed: it names what will be renamed and deleted.
 * @throws CONFLICT where there is one that says nothing: what it was to put back is still to be put back
 */
async function readJournal(context: EsxiContext, root: string, hold: string): Promise<SwapJournal | null> {
  const folder = journalFolder(root, hold);
  const content = await context.shell.readFileIfThere(`${folder}/journal`);
  if (content === null) return null;
  try {
    const parsed = JSON.parse(content.toString('utf8')) as SwapJournal;
    if (parsed.version === 1 && Array.isArray(parsed.moves)) return parsed;
  } catch {
    // Below.
  }
  const aside = asideFolder(root, hold);
  throw new AppError(
    'CONFLICT',
    `The journal of an interrupted restore, ${folder}/journal, cannot be read; if ${aside} is there, it holds the machine that was to be replaced.`,
    {
      hint: `Rename it back and register the machine in the Host Client. Then remove ${folder}.`,
      details: { folder, aside },
    },
  );
}

/**
 * Brings a swap to its end, whatever point it was left at: forward when it was committed, else back.
 * Idempotent. @returns what was done, or null where there is no swap
 */
export async function settleSwap(
  context: EsxiContext,
  datastores: DatastoreMap,
  root: string,
  hold: string,
): Promise<'finished' | 'taken back' | null> {
  const journal = await readJournal(context, root, hold);
  const folder = journalFolder(root, hold);
  if (journal === null) {
    await context.shell.exec(shell`rm -rf -- ${folder}`, { isRepeatable: true });
    return null;
  }
  const isDone = await context.shell.exists(`${folder}/done`);
  if (isDone) await finishForward(context, datastores, journal, hold);
  else await takeBack(context, datastores, journal, hold);
  await context.shell.run(shell`rm -rf -- ${folder}`, 'remove the journal of a restore');
  return isDone ? 'finished' : 'taken back';
}

async function finishForward(
  context: EsxiContext,
  datastores: DatastoreMap,
  journal: SwapJournal,
  hold: string,
): Promise<void> {
  const { shell: host } = context;
  const { original } = journal;
  const [main] = journal.moves;
  if (original !== null && main !== undefined && (await isSuperseded(context, datastores, journal, hold))) {
    const place = original.aside ?? original.folder;
    const files = original.files.map((file) =>
      original.aside !== null && file.startsWith(`${original.folder}/`)
        ? `${original.aside}${file.slice(original.folder.length)}`
        : file,
    );
    for (let at = 0; at < files.length; at += FILES_PER_COMMAND) {
      await host.run(shell`rm -f -- ${files.slice(at, at + FILES_PER_COMMAND)}`, 'delete the replaced machine');
    }
    if (original.aside !== null)
      await host.run(shell`sh -c ${MOVE_REST} dozo ${place} ${main.to}`, 'keep files beside the replaced machine');
    await host.exec(shell`rmdir -- ${place} 2>/dev/null; true`, { isRepeatable: true });
  }
  for (const { to } of journal.moves) {
    await host.exec(shell`rm -f -- ${`${to}/${markerName(hold)}`}`, { isRepeatable: true });
  }
}

/**
 * Whether the files of the original may go. A host that lost its power may be back with the inventory of before: then
 * the new machine is registered again, and an original that stands elsewhere is left alone.
 * @throws NOT_FOUND, RESTORE_REGISTER_FAILED
 */
async function isSuperseded(
  context: EsxiContext,
  datastores: DatastoreMap,
  { name, moves: [main], original }: SwapJournal,
  hold: string,
): Promise<boolean> {
  if (main === undefined || original === null) return false;
  const vmx = `${main.to}/${baseNameOf(original.vmx)}`;
  if (!(await context.shell.exists(vmx))) {
    if (original.aside === null) return false;
    throw new AppError('NOT_FOUND', `The restored "${name}" is not there; what it replaced is in ${original.aside}.`, {
      hint: `Rename that folder if you need it. Then remove the folder of the restore, .${hold}-swap.`,
      details: { machine: name, folder: original.aside },
    });
  }
  await registerMachine(context, datastores, datastores.fromShell(vmx), name);
  const isElsewhere = original.aside === null;
  return !isElsewhere || (await findByPath(context, datastores, datastores.fromShell(original.vmx))) === null;
}

const FILES_PER_COMMAND = 100;

/** What the user kept in the folder goes over to the new one; nothing there is written over. */
const MOVE_REST =
  '[ -d "$1" ] || exit 0; for f in "$1"/* "$1"/.[!.]*; do [ -e "$f" ] || continue; ' +
  '[ -e "$2/${f##*/}" ] || mv -- "$f" "$2/" || exit 1; done';

async function takeBack(
  context: EsxiContext,
  datastores: DatastoreMap,
  journal: SwapJournal,
  hold: string,
): Promise<void> {
  const { shell: host } = context;
  const { original, moves } = journal;
  for (const { from, to } of moves) {
    if (!(await host.exists(`${to}/${markerName(hold)}`))) continue;
    const machines = await listMachines(context.vsphere, datastores);
    for (const machine of machines) {
      const path = datastores.toShellIfThere(machine.identity.path);
      if (path?.startsWith(`${to}/`) === true) await unregisterMachine(context, datastores, machine);
    }
    await unregisterInvalid(context, datastores, (path) => path.startsWith(`${to}/`));
    await moveBack(context, to, from);
  }
  if (original === null) return;
  if (original.aside !== null) {
    await moveBack(context, original.aside, original.folder);
  }
  if (!(await host.exists(original.vmx))) {
    throw new AppError('NOT_FOUND', `"${original.name}" cannot be put back: ${original.vmx} is not there.`, {
      hint: `Attach its datastore again; it is registered then. If the machine is not wanted any more, remove the folder of the interrupted restore, .${hold}-swap.`,
      details: { machine: original.name, path: original.vmx },
    });
  }
  await registerMachine(context, datastores, datastores.fromShell(original.vmx), original.name);
}

/**
 * Nothing where it is back already. @throws CONFLICT where something else has taken the place: to pass over that would
 * forget what waits
 */
async function moveBack(context: EsxiContext, from: string, to: string): Promise<void> {
  const command = shell`[ ! -e ${from} ] || { [ ! -e ${to} ] && mv -- ${from} ${to}; }`;
  const { code, stderr } = await context.shell.exec(command, { isRepeatable: true });
  if (code === 0) return;
  throw new AppError('CONFLICT', `The folder ${to} is in the way of ${from}, which belongs there.`, {
    hint: 'Rename or remove what is in the way. The rest is done then by itself.',
    details: { from, to, words: lastWords(stderr) },
  });
}

/** Machines that use files in a folder, layers of linked clones among them; path of the shell. */
export async function machinesUsing(
  context: EsxiContext,
  datastores: DatastoreMap,
  folder: string,
): Promise<{ hostId: string; name: string }[]> {
  const machines = await listMachines(context.vsphere, datastores);
  return machines.flatMap((machine) => {
    const paths = [machine.identity.path, ...machine.disks.flatMap((disk) => disk.layers)];
    const isUser = paths.some((path) => datastores.toShellIfThere(path)?.startsWith(`${folder}/`) === true);
    return isUser ? [{ hostId: machine.hostId, name: machine.identity.name }] : [];
  });
}
