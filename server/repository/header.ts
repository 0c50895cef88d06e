import * as z from 'zod';
import { AppError, isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import { timeMsSchema } from './json-file.ts';
import type { IdentityAlgorithm } from './keys.ts';
import { CHUNK_SIZE_BYTES_MAX, CHUNK_SIZE_BYTES_MIN, FORMAT_VERSION, HEADER_NAME, PAGE_IDS } from './layout.ts';
import { decodeSealed, encodeSealed, formatUnknown, type SealedSource } from './sealed-file.ts';

/** The repository's unchanging facts, section "Header". */
export interface RepositoryHeader {
  repositoryId: string;
  createdAtMs: number;
  chunkSizeBytes: number;
  identity: IdentityAlgorithm;
  /** Null: nothing is encrypted. */
  encryption: { keyId: string } | null;
}

const SOURCE: SealedSource = {
  name: HEADER_NAME,
  code: 'REPOSITORY_FORMAT_UNKNOWN',
  hint: `Put ${HEADER_NAME} back from a copy of the repository: it never changes.`,
};

const schema = z.object({
  format: z.literal(FORMAT_VERSION),
  repositoryId: z.string().regex(/^[0-9a-f]{32}$/),
  createdAtMs: timeMsSchema.int(),
  chunkSizeBytes: z.number().int().min(CHUNK_SIZE_BYTES_MIN).max(CHUNK_SIZE_BYTES_MAX),
  pageIds: z.literal(PAGE_IDS),
  identity: z.enum(['sha256', 'sha512-256']),
  encryption: z.object({ keyId: z.string().regex(/^[0-9a-f]{32}$/) }).nullable(),
  /** What a program must know to work with this repository; none yet. */
  features: z.array(z.string()),
});

export function assertChunkSize(chunkSizeBytes: number): void {
  const isPowerOfTwo = Number.isInteger(Math.log2(chunkSizeBytes));
  if (isPowerOfTwo && chunkSizeBytes >= CHUNK_SIZE_BYTES_MIN && chunkSizeBytes <= CHUNK_SIZE_BYTES_MAX) return;
  throw new AppError('INPUT_INVALID', `A chunk cannot be ${chunkSizeBytes} bytes.`, {
    hint: 'Choose a power of two from 64 KiB to 4 MiB.',
    details: { chunkSizeBytes },
  });
}

export function encodeHeader(header: RepositoryHeader): Buffer {
  const body = { format: FORMAT_VERSION, ...header, pageIds: PAGE_IDS, features: [] };
  return encodeSealed('DOZOHEAD', Buffer.from(JSON.stringify(body)), { compress: false, keys: null });
}

/** @throws REPOSITORY_FORMAT_UNKNOWN also for a damaged header: nothing can be read without it */
export function parseHeader(bytes: Buffer): RepositoryHeader {
  const body = decodeSealed('DOZOHEAD', bytes, SOURCE, null);
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new AppError(SOURCE.code, `${HEADER_NAME} is damaged: it is not JSON.`, { hint: SOURCE.hint, cause: error });
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success || parsed.data.features.length > 0)
    throw formatUnknown(HEADER_NAME, 'a header with other fields');
  const { repositoryId, createdAtMs, chunkSizeBytes, identity, encryption } = parsed.data;
  return { repositoryId, createdAtMs, chunkSizeBytes, identity, encryption };
}

/** @throws REPOSITORY_NOT_FOUND, REPOSITORY_FORMAT_UNKNOWN, storage errors */
export async function readHeader(storage: Storage): Promise<RepositoryHeader> {
  let bytes: Buffer;
  try {
    bytes = await storage.read(HEADER_NAME);
  } catch (error) {
    if (!isAppError(error) || error.code !== 'NOT_FOUND') throw error;
    throw new AppError('REPOSITORY_NOT_FOUND', `There is no repository in ${storage.location}.`, {
      hint: 'Check the folder, and that the shared folder is mounted; or create a repository there.',
      details: { location: storage.location },
      cause: error,
    });
  }
  return parseHeader(bytes);
}
