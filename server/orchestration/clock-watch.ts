import * as z from 'zod';
import { clockDoubt, followClock, type ClockTrust } from '../policy/index.ts';
import { readBoot } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';

const KEY = 'clock';
/** What is known is written down so often: a disk that sleeps is not to be woken for it. */
const SAVE_EVERY_MS = 3_600_000;

const trustSchema = z.object({
  bootId: z.string().nullable(),
  uptimeMs: z.number(),
  wallMs: z.number(),
  vouchedMs: z.number(),
  steadyMs: z.number(),
});

/** Whether the clock was set forward, also while no server ran, as long as the NAS did. */
export class ClockWatch {
  readonly #context: Pick<OrchestrationContext, 'catalogue' | 'clock' | 'logger'>;
  readonly #readBoot: typeof readBoot;
  #start: { bootId: string | null; uptimeMs: number; monotonicMs: number } | null = null;
  #trust: ClockTrust | null = null;
  #savedMs = 0;
  #looking: Promise<unknown> = Promise.resolve();

  constructor(context: Pick<OrchestrationContext, 'catalogue' | 'clock' | 'logger'>, read = readBoot) {
    this.#context = context;
    this.#readBoot = read;
  }

  /** To be asked often: what happens to the clock between two looks is told apart by what passed. */
  async look(): Promise<ReturnType<typeof clockDoubt>> {
    const turn = this.#looking.then(() => this.#look());
    this.#looking = turn.catch(() => undefined);
    return turn;
  }

  async #look(): Promise<ReturnType<typeof clockDoubt>> {
    const { catalogue, clock, logger } = this.#context;
    if (this.#start === null) {
      this.#start = { ...(await this.#readBoot()), monotonicMs: clock.monotonicMs() };
      const parsed = trustSchema.safeParse(await catalogue.settings.load(KEY));
      this.#trust = parsed.success ? parsed.data : null;
    }
    const { bootId, uptimeMs, monotonicMs } = this.#start;
    const nowMs = clock.monotonicMs();
    const look = { bootId, uptimeMs: uptimeMs + nowMs - monotonicMs, wallMs: clock.nowMs() };
    const before = this.#trust === null ? null : clockDoubt(this.#trust);
    const isFirst = this.#savedMs === 0;
    this.#trust = followClock(this.#trust, look);
    const doubt = clockDoubt(this.#trust);
    if (doubt !== null && before === null) logger.warn({ aheadMs: doubt.aheadMs }, 'the clock was set forward');
    if (isFirst || (doubt === null) !== (before === null) || nowMs - this.#savedMs >= SAVE_EVERY_MS) {
      await catalogue.settings.save(KEY, this.#trust);
      this.#savedMs = nowMs;
    }
    return doubt;
  }
}
