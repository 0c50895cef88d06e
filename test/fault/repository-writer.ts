import { openRepository } from '../../server/repository/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { CHUNK, request, sparseContent } from '../fakes/small-repository.ts';

/**
 * Backs up versions of one disk, one after the other, until it is killed. Prints `open` once
 * it begins, and the number of a version once it is committed.
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
  process.stdout.write('open\n');
  for (let version = Number(first); ; version += 1) {
    const content = versionContent(version);
    const last = (await repository.listPoints()).findLast((point) => point.manifest !== null);
    const base = last === undefined ? null : await (await repository.openPoint(last.pointId)).openDisk('d0');
    const session = await repository.startWrite({ sessionId: `version-${version}` });
    const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base });
    let at = writer.resumed ? (session.checkpointFacts as { delivered: number }).delivered : 0;
    while (at < content.length) {
      const end = Math.min(at + 7 * CHUNK + 5, content.length);
      await writer.write(at, Buffer.from(content.subarray(at, end)));
      await session.checkpoint({ delivered: end });
      at = end;
    }
    await writer.finish();
    await session.commit(
      request({ createdAtMs: version, previousPointId: last?.pointId ?? null, evidence: { version } }),
    );
    process.stdout.write(`${version}\n`);
  }
}
