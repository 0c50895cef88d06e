import type { DiskRecall, RecallFolder, TagSubject } from '../recall/index.ts';
import type { PointDiskManifest, PointManifest, Repository } from '../repository/index.ts';
import type { DiskRun } from './disk-run.ts';

interface RecallContext {
  folder: RecallFolder;
  repository: Repository;
  machineId: string;
}

/**
 * Tags for a disk of which the host keeps no track of changes, so that every run reads it as a whole; else null. A
 * change token spares more than tags could.
 */
export function openRecall(run: DiskRun, context: RecallContext): DiskRecall | null {
  if (run.base !== null || run.changeToken !== null) return null;
  const { folder, repository, machineId } = context;
  const { former } = run;
  const disk = { repositoryId: repository.id, machineId, diskKey: run.frozen.disk.key };
  if (former === null) return folder.open(disk, null);
  return folder.open(disk, { subject: subjectOf(former.pointId, former.manifest, context), disk: former.disk });
}

/** The version is there: the tags of its disks take the place of the former ones. */
export async function publishRecalls(
  runs: readonly DiskRun[],
  point: PointManifest,
  context: RecallContext,
): Promise<void> {
  for (const { recall, failure, frozen } of runs) {
    const disk = point.disks.find(({ key }) => key === frozen.disk.key);
    if (failure === null && disk !== undefined) await recall?.publish(subjectOf(point.pointId, disk, context));
  }
}

function subjectOf(
  pointId: string,
  { key: diskKey, sizeBytes, rootHash }: PointDiskManifest,
  { repository: { id: repositoryId, chunkSizeBytes }, machineId }: RecallContext,
): TagSubject {
  return { repositoryId, machineId, diskKey, pointId, rootHash, sizeBytes, chunkSizeBytes };
}
