import type { Selection } from '../contract/api/selection.schema.ts';
import { ERROR_CODES } from '../contract/error-codes.ts';
import type { HostRecord } from '../database/index.ts';
import { toAppError } from '../errors/index.ts';
import type { OrchestrationContext } from './context.ts';
import type { HostService } from './hosts.ts';

/** A list of machines that is so old is asked for again. */
const FRESH_MS = 10 * 60_000;
/** A person who starts a run waits for lists no longer than this: then it begins with what is known. */
const PATIENCE_MS = 20_000;

/** Has hosts asked for their machines before a run whose machines are selected by rule. */
export class InventoryKeeper {
  readonly #context: OrchestrationContext;
  readonly #hosts: Pick<HostService, 'refresh'>;
  readonly #onFresh: () => void;
  readonly #underWay = new Map<string, Promise<void>>();
  /** When a host was asked last, on the monotonic clock: one that does not answer holds no run up twice. */
  readonly #askedMs = new Map<string, number>();

  constructor(
    context: OrchestrationContext,
    options: {
      hosts: Pick<HostService, 'refresh'>;
      /** A host that was asked has answered, or failed to. */ onFresh(): void;
    },
  ) {
    this.#context = context;
    this.#hosts = options.hosts;
    this.#onFresh = options.onFresh;
  }

  /** Whether every host that the rules may mean was asked lately; those that were not are being asked then. */
  async isFresh(selection: Selection): Promise<boolean> {
    const hosts = await this.#listMeant(selection);
    for (const { id } of hosts.filter(isAskable)) {
      const askedMs = this.#askedMs.get(id);
      const isOld = askedMs === undefined || this.#context.clock.monotonicMs() - askedMs > FRESH_MS;
      if (isOld) void this.#ask(id);
    }
    return hosts.every(({ id }) => !this.#underWay.has(id));
  }

  /** Asks every host that the rules may mean now, and waits for the answers, though not for ever. Never rejects. */
  async freshen(selection: Selection): Promise<void> {
    const hosts = (await this.#listMeant(selection)).filter(isAskable);
    const late = new AbortController();
    await Promise.race([
      Promise.all(hosts.map(({ id }) => this.#ask(id))),
      this.#context.clock.sleep(PATIENCE_MS, late.signal).catch(() => undefined),
    ]);
    late.abort();
  }

  async #listMeant(selection: Selection): Promise<HostRecord[]> {
    const meant = selection.include.map(({ hostId }) => hostId);
    return (await this.#context.catalogue.hosts.list()).filter(
      ({ id }) => meant.includes(undefined) || meant.includes(id),
    );
  }

  /** Once at a time. Resolves when the host has answered or failed to. */
  #ask(hostId: string): Promise<void> {
    const underWay = this.#underWay.get(hostId);
    if (underWay !== undefined) return underWay;
    const asking = this.#hosts
      .refresh(hostId)
      .then(() => undefined)
      .catch((error: unknown) => {
        this.#context.logger.warn({ hostId, code: toAppError(error).code }, 'a list of machines is not fresh');
      })
      .finally(() => {
        this.#askedMs.set(hostId, this.#context.clock.monotonicMs());
        this.#underWay.delete(hostId);
        this.#onFresh();
      });
    this.#underWay.set(hostId, asking);
    return asking;
  }
}

/** A wrong password is not tried again and again: the host would lock the account. */
function isAskable({ error }: HostRecord): boolean {
  return error === null || ERROR_CODES[error.code].retry !== 'never';
}
