import { isAppError, toAppError } from '../../errors/index.ts';
import type { SweepReport } from '../source.ts';
import { endClones, removeCloneFolder } from './clone-job.ts';
import { HOLD, holdFolder, type EsxiContext } from './context.ts';
import { DatastoreMap } from './datastore-path.ts';
import { readFilesystems } from './filesystems.ts';
import { readHostUuid, takeBackChanges } from './iscsi-journal.ts';
import { removeHoldTargets } from './iscsi-targets.ts';
import { listDatastores, listMachines } from './inventory.ts';
import { unmountStaging } from './nfs-staging.ts';
import { removeHoldSnapshot, waitForSnapshotTasks } from './snapshot-control.ts';
import { settleSwap } from './swap.ts';

/** See `SourceHost.sweep`. Each thing is removed by itself: one that resists does not keep the others. */
export async function sweepHolds(
  context: EsxiContext,
  holds: readonly string[],
  signal?: AbortSignal,
): Promise<SweepReport> {
  const report: SweepReport = { removed: [], failed: [], unseen: [] };
  const stores = await listDatastores(context.vsphere);
  const datastores = new DatastoreMap(stores);
  if (holds.some((hold) => HOLD.test(hold))) await waitForSnapshotTasks(context, signal);
  const machines = await listMachines(context.vsphere, datastores);
  const filesystems = await readFilesystems(context.shell, signal);
  // Mounts of ours go as a whole, below.
  const names = datastores.names.filter((name) => !HOLD.test(name)).map((name) => datastores.rootOf(name));
  const volumes = filesystems.filter((fs) => !HOLD.test(fs.name)).map((fs) => fs.root);
  const roots = [...new Set([...names, ...volumes])];
  for (const { name, accessible } of stores) {
    if (HOLD.test(name)) continue;
    // Of machines on one that the host cannot reach it knows no snapshots either.
    const isSeen = accessible && (await listFolder(context, datastores.rootOf(name))) !== null;
    if (!isSeen) report.unseen.push(name);
  }

  for (const hold of holds) {
    // Names that are not ours by form are never acted on, whoever asks.
    if (!HOLD.test(hold)) continue;
    const attempt = async (what: string, work: () => Promise<boolean>): Promise<void> => {
      signal?.throwIfAborted();
      try {
        if (await work()) report.removed.push({ hold, what });
      } catch (error) {
        if (signal?.aborted === true) throw error;
        const { message } = toAppError(error);
        report.failed.push({ hold, what, message });
      }
    };
    for (const root of roots) {
      if ((await listFolder(context, root))?.includes(`.${hold}-swap`) === true) {
        await attempt(
          `unfinished restore on ${root}`,
          async () => (await settleSwap(context, datastores, root, hold)) !== null,
        );
      }
    }
    // Clones are ended before the snapshot goes: their sources must not vanish under them, and the
    // host merges no layer that somebody reads.
    const folders: string[] = [];
    for (const root of roots) {
      if ((await listFolder(context, root))?.includes(`.${hold}`) === true) folders.push(holdFolder(root, hold));
    }
    // Clones onto devices first: a device in use stays, and the journal of the rest lies in the folders.
    for (const folder of folders) await attempt('running copy', async () => await endClones(context.shell, folder));
    await attempt('iSCSI target', async () => (await removeHoldTargets(context.shell, hold)).length > 0);
    for (const folder of folders) {
      await attempt('iSCSI settings', async () => {
        const place = { folder, hostUuid: await readHostUuid(context.shell, signal) };
        return (await takeBackChanges(context.shell, context.clock, place, signal)).length > 0;
      });
    }
    for (const root of roots) {
      if (!folders.includes(holdFolder(root, hold))) continue;
      // What could not be taken back stays written down.
      if (report.failed.some((failure) => failure.hold === hold && failure.what.startsWith('iSCSI'))) continue;
      await attempt(
        `temporary folder on ${root}`,
        async () => await removeCloneFolder(context.shell, holdFolder(root, hold)),
      );
    }
    const mount = `/vmfs/volumes/${hold}`;
    if (filesystems.some((fs) => fs.name === hold) || (await context.shell.exists(mount))) {
      await attempt('NFS mount', async () => {
        await removeCloneFolder(context.shell, holdFolder(mount, hold));
        await unmountStaging(context.shell, mount, hold);
        return true;
      });
    }
    for (const machine of machines) {
      if (!machine.snapshots.some((snapshot) => snapshot.name === hold)) continue;
      // A copy onto the target may read its layers still; a removal now would end half done.
      if (report.failed.some((failure) => failure.hold === hold && failure.what === 'iSCSI target')) continue;
      await attempt(`snapshot of ${machine.identity.name}`, async () =>
        removeHoldSnapshot(context, datastores, { machine, hold, deltas: [], ...(signal && { signal }) }),
      );
    }
  }
  return report;
}

/** Null: it does not answer, so there is nothing that could be removed now. */
async function listFolder(context: EsxiContext, path: string): Promise<string[] | null> {
  return await context.shell.listFolder(path).catch((error: unknown) => {
    if (isAppError(error) && (error.code === 'NOT_FOUND' || error.code === 'HOST_COMMAND_FAILED')) return null;
    throw error;
  });
}
