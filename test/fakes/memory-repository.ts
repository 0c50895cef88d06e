import { createHash } from 'node:crypto';

import { normalizeExtents, type Extent } from '../../server/disk/index.ts';
import { AppError } from '../../server/errors/index.ts';
import { KIB, randomHex } from '../../server/runtime/index.ts';
import type {
  CheckReport,
  CommitRequest,
  DiskWriter,
  Point,
  PointDisk,
  PointListing,
  PointManifest,
  Repository,
  RepositoryStats,
  WriteSession,
  WriteStats,
} from '../../server/repository/index.ts';

interface StoredPoint {
  manifest: PointManifest;
  disks: Map<string, Buffer>;
  files: CommitRequest['files'];
}

interface Checkpoint {
  facts: unknown;
  disks: Map<string, Buffer>;
}

const CHUNK_BYTES = 64 * KIB;

/**
 * The repository's contract in its plainest form: whole disks in memory. The model that the engine's
 * unit tests run against; `failures` makes single calls fail.
 */
export class MemoryRepository implements Repository {
  readonly id = randomHex(16);
  readonly location = 'memory';
  readonly chunkSizeBytes = CHUNK_BYTES;
  readonly points: StoredPoint[] = [];
  readonly checkpoints = new Map<string, Checkpoint>();
  /** Thrown by the named call, once each. */
  readonly failures = new Map<'write' | 'commit' | 'finish' | 'checkpoint' | 'openDisk' | 'abort', AppError[]>();
  /** Points whose manifest cannot be read. */
  readonly damaged = new Set<string>();

  listPoints(): Promise<PointListing[]> {
    return Promise.resolve(
      this.points.map(({ manifest }) => {
        const isDamaged = this.damaged.has(manifest.pointId);
        return {
          pointId: manifest.pointId,
          sizeBytes: 0,
          manifest: isDamaged ? null : manifest,
          damage: isDamaged ? 'bad hash' : null,
        };
      }),
    );
  }

  async openPoint(pointId: string): Promise<Point> {
    await Promise.resolve();
    const point = this.points.find(({ manifest }) => manifest.pointId === pointId);
    if (point === undefined) throw new AppError('POINT_NOT_FOUND', `There is no version ${pointId}.`);
    return {
      manifest: point.manifest,
      listFiles: () => point.files.map(({ name, kind, content }) => ({ name, kind, sizeBytes: content.length })),
      readFile: (name) => {
        const file = point.files.find((candidate) => candidate.name === name);
        if (file === undefined) throw new AppError('NOT_FOUND', `The version has no file ${name}.`);
        return Promise.resolve(file.content);
      },
      openDisk: async (key) => {
        await Promise.resolve();
        this.fail('openDisk');
        const content = point.disks.get(key);
        if (content === undefined) throw new AppError('NOT_FOUND', `The version has no disk ${key}.`);
        return memoryDisk(key, content);
      },
    };
  }

  async startWrite({ sessionId }: { sessionId: string }): Promise<WriteSession> {
    await Promise.resolve();
    const checkpoint = this.checkpoints.get(sessionId) ?? null;
    const disks = new Map<string, Buffer>();
    const finished = new Map<string, { rootHash: string; stats: WriteStats }>();
    return {
      sessionId,
      checkpointFacts: checkpoint?.facts ?? null,
      openDisk: async ({ key, sizeBytes, base }) => {
        const resumed = checkpoint?.disks.get(key);
        const content = Buffer.alloc(sizeBytes);
        if (resumed !== undefined) content.set(resumed);
        else if (base !== null) content.set(await base.read(0, Math.min(sizeBytes, base.sizeBytes)));
        disks.set(key, content);
        return this.#writer(content, resumed !== undefined, (result) => finished.set(key, result));
      },
      checkpoint: async (facts) => {
        await Promise.resolve();
        this.fail('checkpoint');
        const copies = new Map(checkpoint?.disks);
        for (const [key, content] of disks) copies.set(key, Buffer.from(content));
        this.checkpoints.set(sessionId, { facts: JSON.parse(JSON.stringify(facts)) as unknown, disks: copies });
      },
      commit: async (request) => {
        await Promise.resolve();
        this.fail('commit');
        const { files, ...rest } = request;
        const manifest: PointManifest = {
          ...(JSON.parse(JSON.stringify(rest)) as Omit<typeof rest, 'disks'>),
          pointId: randomHex(8),
          kind: 'disk-image',
          rootHash: '',
          previousRootHash: null,
          disks: request.disks.map((disk) => {
            const result = finished.get(disk.key);
            if (result === undefined) throw new Error(`Commit of ${disk.key}, which is not finished`);
            return { ...disk, sizeBytes: disks.get(disk.key)?.length ?? 0, ...result };
          }),
        };
        this.points.push({ manifest, disks, files });
        this.checkpoints.delete(sessionId);
        return manifest;
      },
      abort: async () => {
        await Promise.resolve();
        // As in the real one, a checkpoint stays: no file of a repository is taken back.
        this.fail('abort');
      },
    };
  }

  check(): Promise<CheckReport> {
    const points = this.points.length;
    return Promise.resolve({ depth: 'hashes', points, packs: 0, chunks: 0, readBytes: 0, part: null, damages: [] });
  }

  stats(): Promise<RepositoryStats> {
    return Promise.resolve({ points: this.points.length, packs: 0, chunks: 0, storedBytes: 0, nominalBytes: 0 });
  }

  async close(): Promise<void> {}

  fail(call: 'write' | 'commit' | 'finish' | 'checkpoint' | 'openDisk' | 'abort'): void {
    const failure = this.failures.get(call)?.shift();
    if (failure !== undefined) throw failure;
  }

  #writer(
    content: Buffer,
    resumed: boolean,
    done: (result: { rootHash: string; stats: WriteStats }) => void,
  ): DiskWriter {
    const stats: WriteStats = {
      nominalBytes: content.length,
      deliveredBytes: 0,
      zeroBytes: 0,
      duplicateBytes: 0,
      newBytes: 0,
      storedBytes: 0,
    };
    return {
      resumed,
      stats: () => stats,
      read: async (offsetBytes, lengthBytes) => {
        await Promise.resolve();
        return Buffer.from(content.subarray(offsetBytes, offsetBytes + lengthBytes));
      },
      write: async (offsetBytes, data) => {
        await Promise.resolve();
        this.fail('write');
        content.set(data, offsetBytes);
        stats.deliveredBytes += data.length;
        stats.newBytes += data.length;
        stats.storedBytes += data.length;
      },
      zero: async (offsetBytes, lengthBytes) => {
        await Promise.resolve();
        this.fail('write');
        content.fill(0, offsetBytes, offsetBytes + lengthBytes);
        stats.deliveredBytes += lengthBytes;
        stats.zeroBytes += lengthBytes;
      },
      beginAnew: () => undefined,
      finish: async () => {
        await Promise.resolve();
        this.fail('finish');
        const result = { rootHash: createHash('sha256').update(content).digest('hex'), stats: { ...stats } };
        done(result);
        return result;
      },
    };
  }
}

function memoryDisk(key: string, content: Buffer): PointDisk {
  return {
    key,
    sizeBytes: content.length,
    read: (offsetBytes, lengthBytes) => {
      if (offsetBytes + lengthBytes > content.length) throw new Error('Read past the end of a stored disk');
      return Promise.resolve(Buffer.from(content.subarray(offsetBytes, offsetBytes + lengthBytes)));
    },

    dataExtents: async function* () {
      yield* normalizeExtents(dataChunks(content));
    },

    differentExtents: async function* () {
      yield* [];
    },

    stream: async function* () {
      for (const { offsetBytes, lengthBytes } of dataChunks(content)) {
        const data = Buffer.from(content.subarray(offsetBytes, offsetBytes + lengthBytes));
        yield { offsetBytes, data, sha256: createHash('sha256').update(data).digest() };
      }
    },
  };
}

function dataChunks(content: Buffer): Extent[] {
  const chunks: Extent[] = [];
  for (let at = 0; at < content.length; at += CHUNK_BYTES) {
    const chunk = content.subarray(at, at + CHUNK_BYTES);
    if (!chunk.equals(Buffer.alloc(chunk.length))) chunks.push({ offsetBytes: at, lengthBytes: chunk.length });
  }
  return chunks;
}
