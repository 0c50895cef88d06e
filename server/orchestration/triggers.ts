import { randomBytes, timingSafeEqual } from 'node:crypto';
import * as z from 'zod';
import type { NewTrigger } from '../contract/api/hook.schema.ts';
import type { Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { signWebhook } from '../notification/index.ts';
import { found, type OrchestrationContext } from './context.ts';

/** How far the clocks of caller and server may be apart. */
const CLOCKS_APART_SECONDS = 300;

const storedSchema = z.object({
  /** Sealed. */
  secret: z.string(),
  createdAtMs: z.number(),
  usedAtMs: z.number().nullable(),
  /** Of the newest call: no call is good twice. */
  timestampSeconds: z.number(),
});
type Stored = z.infer<typeof storedSchema>;

/** Addresses that start a job when they are called with a signature. */
export class Triggers {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  /** @throws NOT_FOUND */
  async describe(jobId: string): Promise<{ path: string; createdAtMs: number; usedAtMs: number | null } | null> {
    const stored = await load(this.#context.catalogue, jobId);
    if (stored === null) return null;
    const { createdAtMs, usedAtMs } = stored;
    return { path: pathOf(jobId), createdAtMs, usedAtMs };
  }

  /** Makes a new secret; the one before is good no more. @throws NOT_FOUND */
  async renew(jobId: string): Promise<NewTrigger> {
    const { catalogue, clock, sealer, events } = this.#context;
    const secret = randomBytes(32).toString('base64url');
    await catalogue.transaction(async (tables) => {
      found(await tables.jobs.load(jobId), 'job', jobId);
      const stored: Stored = {
        secret: sealer.seal(purposeOf(jobId), secret),
        createdAtMs: clock.nowMs(),
        usedAtMs: null,
        timestampSeconds: 0,
      };
      await tables.settings.save(keyOf(jobId), stored);
    });
    events.emit({ type: 'changed', what: 'job', id: jobId });
    return { path: pathOf(jobId), secret };
  }

  /** @throws NOT_FOUND when there is none */
  async remove(jobId: string): Promise<void> {
    const { catalogue, events } = this.#context;
    found(await load(catalogue, jobId), 'trigger of job', jobId);
    await catalogue.settings.save(keyOf(jobId), null);
    events.emit({ type: 'changed', what: 'job', id: jobId });
  }

  /**
   * Lets a call in once. The answer does not tell a stranger whether there is such a job.
   * @throws FORBIDDEN when the signature is wrong, or its time too far from now, or not after that of the last call
   */
  async accept(
    jobId: string,
    call: { timestamp: string | undefined; signature: string | undefined; body: Buffer },
  ): Promise<void> {
    const { catalogue, clock, sealer } = this.#context;
    const seconds = /^\d{1,12}$/.test(call.timestamp ?? '') ? Number(call.timestamp) : Number.NaN;
    await catalogue.transaction(async (tables) => {
      const stored = await load(tables, jobId);
      const secret = stored === null ? '' : (sealer.open(purposeOf(jobId), stored.secret) as string);
      const isSigned = isEqual(signWebhook(secret, seconds, call.body), call.signature ?? '');
      const isTimely = Math.abs(clock.nowMs() / 1000 - seconds) <= CLOCKS_APART_SECONDS;
      if (stored === null || !isSigned || !isTimely || seconds <= stored.timestampSeconds) {
        throw new AppError('FORBIDDEN', 'This call was not let in.', {
          hint: 'It needs the signature of the secret, the time of now, and a later time than the call before.',
        });
      }
      await tables.settings.save(keyOf(jobId), {
        ...stored,
        usedAtMs: clock.nowMs(),
        timestampSeconds: seconds,
      });
    });
  }
}

async function load(tables: Tables, jobId: string): Promise<Stored | null> {
  if ((await tables.jobs.load(jobId)) === null) return null;
  const value = await tables.settings.load(keyOf(jobId));
  return value === null ? null : storedSchema.parse(value);
}

function isEqual(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function keyOf(jobId: string): string {
  return `trigger ${jobId}`;
}

function purposeOf(jobId: string): string {
  return `trigger ${jobId}`;
}

function pathOf(jobId: string): string {
  return `/api/v1/triggers/${jobId}`;
}
