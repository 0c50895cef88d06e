import { createHash } from 'node:crypto';
import { MemoryStorage } from './memory-storage.ts';
import {
  createRepository,
  type CommitRequest,
  type PointDisk,
  type PointManifest,
  type Repository,
} from '../../server/repository/index.ts';

/** What the tests of this room share: small repositories in memory, and disks that look like disks. */

export const CHUNK = 64 * 1024;

export async function withRepository(
  body: (subject: { repository: Repository; storage: MemoryStorage }) => Promise<void>,
  threads = 0,
): Promise<void> {
  const storage = new MemoryStorage();
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads });
  try {
    await body({ repository, storage });
  } finally {
    await repository.close();
  }
}

/** Zeros, text, noise and repeated chunks in turn; always the same for a seed. */
export function sparseContent(sizeBytes: number, seed: number): Buffer {
  const content = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += CHUNK / 2) {
    const part = content.subarray(at, at + CHUNK / 2);
    const word = createHash('sha256').update(`${seed} ${at}`).digest();
    const kind = (word[0] as number) % 4;
    if (kind === 1) part.fill(`line of text ${seed}\n`);
    else if (kind === 2) noise(word).copy(part);
    else if (kind === 3) part.fill(word.toString('hex'));
  }
  return content;
}

/** Half a chunk of bytes that do not compress. */
function noise(seed: Buffer): Buffer {
  const blocks: Buffer[] = [];
  let block = seed;
  for (let bytes = 0; bytes < CHUNK / 2; bytes += block.length) {
    block = createHash('sha512').update(block).digest();
    blocks.push(block);
  }
  return Buffer.concat(blocks);
}

export function request(part: Partial<CommitRequest>): CommitRequest {
  return {
    machineId: 'machine-1',
    machineName: 'web',
    createdAtMs: 1_700_000_000_000,
    state: 'complete',
    stateReasons: [],
    previousPointId: null,
    disks: [{ key: 'd0', changeToken: null, facts: { label: 'Hard disk 1' } }],
    files: [],
    machine: { cpus: 2 },
    evidence: { quiesced: false },
    ...part,
  };
}

/** Writes one disk in pieces of an odd size and commits it. */
export async function commitDisk(
  repository: Repository,
  sessionId: string,
  content: Buffer,
  part: Partial<CommitRequest> = {},
  base: PointDisk | null = null,
): Promise<PointManifest> {
  const session = await repository.startWrite({ sessionId });
  const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base });
  const piece = 3 * CHUNK + 1000;
  for (let at = 0; at < content.length; at += piece)
    await writer.write(at, Buffer.from(content.subarray(at, at + piece)));
  await writer.finish();
  return session.commit(request(part));
}

export async function readByStream(disk: PointDisk): Promise<Buffer> {
  const content = Buffer.alloc(disk.sizeBytes);
  for await (const { offsetBytes, data } of disk.stream({})) data.copy(content, offsetBytes);
  return content;
}
