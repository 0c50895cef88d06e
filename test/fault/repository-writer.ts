import { openRepository, type PointManifest } from '../../server/repository/index.ts';
import { RecallFolder, type TagSubject } from '../../server/recall/index.ts';
import { silentLogger, systemClock } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { CHUNK, request, sparseContent } from '../fakes/small-repository.ts';

/**
 * Backs up versions of one disk, one after the other, until it is killed. Prints `open` once
 * it begins, and the number of a version once it is committed. Tags of chunks lie beside the repository.
 */
const [folder = '', first = '0'] = process.argv.slice(2);
export const KILLED_DISK_BYTES = 100 * CHUNK + 321;

export function versionContent(version: number): Buffer {
  const content = sparseContent(KILLED_DISK_BYTES, 1);
  // A part that changes with each version, and a sign that tells which it is.
  sparseContent(20 * CHUNK, version + 100).copy(content, (version % 4) * 20 * CHUNK);
  content.write(`version ${version}\n`, 90 * CHUNK);
  return content;
}

if (folder !== '') {
  const repository = await openRepository({ storage: await openLocalStorage({ folder }), threads: 1 });
  const recalls = new RecallFolder({ folder: `${folder}-recall`, clock: systemClock, logger: silentLogger });
  const tagged = { repositoryId: repository.id, machineId: 'machine-1', diskKey: 'd0' };
  const subjectOf = ({ pointId, disks }: PointManifest): TagSubject => {
    const { sizeBytes, rootHash = '' } = disks[0] ?? { sizeBytes: 0 };
    return { ...tagged, pointId, rootHash, sizeBytes, chunkSizeBytes: repository.chunkSizeBytes };
  };
  process.stdout.write('open\n');
  for (let version = Number(first); ; version += 1) {
    const content = versionContent(version);
    const last = (await repository.listPoints()).findLast((point) => point.manifest !== null);
    const base = last === undefined ? null : await (await repository.openPoint(last.pointId)).openDisk('d0');
    const session = await repository.startWrite({ sessionId: `version-${version}` });
    const manifest = last?.manifest ?? null;
    const former = manifest === null || base === null ? null : { subject: subjectOf(manifest), disk: base };
    const recall = recalls.open(tagged, former);
    const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base, recall });
    let at = writer.resumed ? (session.checkpointFacts as { delivered: number }).delivered : 0;
    while (at < content.length) {
      const end = Math.min(at + 7 * CHUNK + 5, content.length);
      await writer.write(at, Buffer.from(content.subarray(at, end)));
      await session.checkpoint({ delivered: end });
      at = end;
    }
    await writer.finish();
    const committed = await session.commit(
      request({ createdAtMs: version, previousPointId: last?.pointId ?? null, evidence: { version } }),
    );
    process.stdout.write(`${version}\n`);
    await recall?.publish(subjectOf(committed));
  }
}
