import { createHash } from 'node:crypto';
import * as z from 'zod';
import { AppError } from '../errors/index.ts';
import { timeMsSchema, type JsonFileKind } from './json-file.ts';
import type { RepositoryKeys } from './keys.ts';
import { CHUNK_SIZE_BYTES_MAX, CHUNK_SIZE_BYTES_MIN, FILE_BYTES_MAX, pointIdOfName } from './layout.ts';
import type { PointManifest, WriteStats } from './repository.ts';
import { decodeSealed, encodeSealed, type SealedSource } from './sealed-file.ts';

/** A file of the machine's configuration, in pieces of the repository's chunk size. */
export interface PointFile {
  name: string;
  kind: string;
  sizeBytes: number;
  chunks: string[];
}

export interface PointContent {
  manifest: PointManifest;
  files: PointFile[];
  sessionId: string;
  chunkSizeBytes: number;
}

/**
 * Lies under a point's name in its place: a collector gave the session up that would have published it.
 * Whoever is first under the name has decided.
 */
const fenceSchema = z.object({ pointId: z.string(), sessionId: z.string(), atMs: timeMsSchema });

export const FENCE: JsonFileKind<z.infer<typeof fenceSchema>> = {
  kind: 'DOZOFENC',
  schema: fenceSchema,
  code: 'REPOSITORY_MANIFEST_DAMAGED',
  hint: 'Nothing to do: it stands for a run that never ended.',
};

export function isFence(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, FENCE.kind.length) === FENCE.kind;
}

const ROOT_DOMAIN = 'dozo point 1\n';
const hash = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.number().int().nonnegative();

export const statsSchema: z.ZodType<WriteStats> = z.object({
  nominalBytes: count,
  deliveredBytes: count,
  zeroBytes: count,
  duplicateBytes: count,
  newBytes: count,
  storedBytes: count,
});

const schema = z.object({
  pointId: z.string(),
  kind: z.literal('disk-image'),
  createdAtMs: timeMsSchema.int(),
  machineId: z.string(),
  machineName: z.string(),
  state: z.enum(['complete', 'incomplete']),
  stateReasons: z.array(z.string()),
  disks: z.array(
    z.object({
      key: z.string(),
      sizeBytes: count,
      rootHash: hash,
      changeToken: z.string().nullable(),
      facts: z.unknown(),
      stats: statsSchema,
    }),
  ),
  files: z.array(
    z.object({ name: z.string(), kind: z.string(), sizeBytes: count.max(FILE_BYTES_MAX), chunks: z.array(hash) }),
  ),
  machine: z.unknown(),
  evidence: z.unknown(),
  previousPointId: z.string().nullable(),
  previousRootHash: hash.nullable(),
  sessionId: z.string(),
  chunkSizeBytes: count.min(CHUNK_SIZE_BYTES_MIN).max(CHUNK_SIZE_BYTES_MAX),
});

/** @returns the file, and the root hash that names its content */
export function encodePoint(content: PointContent, keys: RepositoryKeys | null): { bytes: Buffer; rootHash: string } {
  const { rootHash: _, ...manifest } = content.manifest;
  const { files, sessionId, chunkSizeBytes } = content;
  const body = Buffer.from(JSON.stringify({ ...manifest, files, sessionId, chunkSizeBytes }));
  return { bytes: encodeSealed('DOZOPONT', body, { compress: true, keys }), rootHash: rootHashOf(body) };
}

/** @throws REPOSITORY_MANIFEST_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, REPOSITORY_KEY_NEEDED, REPOSITORY_KEY_WRONG */
export function parsePoint(bytes: Buffer, name: string, keys: RepositoryKeys | null): PointContent {
  const source: SealedSource = {
    name,
    code: 'REPOSITORY_MANIFEST_DAMAGED',
    hint: 'This version cannot be restored; other versions are not affected. Check the repository, or restore the file from a copy.',
  };
  const body = decodeSealed('DOZOPONT', bytes, source, keys);
  const damaged = (why: string, cause?: unknown): AppError =>
    new AppError(source.code, `${name} is damaged: ${why}.`, { hint: source.hint, details: { name }, cause });
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw damaged('it is not JSON', error);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw damaged('a field is missing or of another kind', parsed.error);
  const { files, sessionId, chunkSizeBytes, ...manifest } = parsed.data;
  if (manifest.pointId !== pointIdOfName(name)) throw damaged('it is the file of another version');
  // A short list that names one large chunk many times would be read into memory as a whole.
  for (const { sizeBytes, chunks } of files) {
    if (chunks.length !== Math.ceil(sizeBytes / chunkSizeBytes))
      throw damaged('a file has not the chunks of its length');
  }
  return { manifest: { ...manifest, rootHash: rootHashOf(body) }, files, sessionId, chunkSizeBytes };
}

/** The root hash covers the body's bytes as they are, so nobody has to agree on how to write JSON. */
function rootHashOf(body: Buffer): string {
  return createHash('sha256').update(ROOT_DOMAIN).update(body).digest('hex');
}

/** A trouble of one version's file, as opposed to one of the store. */
export function isOneFilesTrouble(error: AppError): boolean {
  return error.code.startsWith('REPOSITORY_') || error.code === 'POINT_NOT_FOUND' || error.code === 'STORAGE_FAILED';
}
