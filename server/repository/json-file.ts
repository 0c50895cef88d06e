import * as z from 'zod';
import type { ErrorCode } from '../contract/error-codes.ts';
import { AppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import type { RepositoryKeys } from './keys.ts';
import { decodeSealed, encodeSealed, type SealedKind } from './sealed-file.ts';

/** A kind of sealed file whose body is one JSON object of a known shape. */
export interface JsonFileKind<T> {
  kind: SealedKind;
  schema: z.ZodType<T>;
  /** What a damaged file of this kind is called, and what to do then. */
  code: ErrorCode;
  hint: string;
}

/** Milliseconds since 1970; others are no time for whoever shows them (ECMA-262, *Time Values and Time Range*). */
export const timeMsSchema = z.number().min(-8.64e15).max(8.64e15);

/** @throws STORAGE_EXISTS when the name is taken, storage errors */
export async function publishJson<T>(
  storage: Storage,
  name: string,
  value: T,
  { kind }: JsonFileKind<T>,
  keys: RepositoryKeys | null,
): Promise<void> {
  const bytes = encodeSealed(kind, Buffer.from(JSON.stringify(value)), { compress: true, keys });
  // Marks, announcements and verdicts are of these: a clean-up begins and ends with them.
  await storage.publish(name, bytes, { mayUseReserve: true });
}

/** @throws the kind's code, REPOSITORY_FORMAT_UNKNOWN, REPOSITORY_KEY_NEEDED, REPOSITORY_KEY_WRONG */
export function parseJson<T>(
  bytes: Buffer,
  name: string,
  { kind, schema, code, hint }: JsonFileKind<T>,
  keys: RepositoryKeys | null,
): T {
  const body = decodeSealed(kind, bytes, { name, code, hint }, keys);
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new AppError(code, `${name} is damaged: it is not JSON.`, { hint, details: { name }, cause: error });
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new AppError(code, `${name} is damaged: a field is missing or of another kind.`, {
    hint,
    details: { name },
    cause: parsed.error,
  });
}

/** @throws NOT_FOUND, and as `parseJson` */
export async function readJson<T>(
  storage: Storage,
  name: string,
  kind: JsonFileKind<T>,
  keys: RepositoryKeys | null,
): Promise<T> {
  return parseJson(await storage.read(name), name, kind, keys);
}
