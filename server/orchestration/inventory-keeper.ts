import type { Selection } from '../contract/api/selection.schema.ts';
import { ERROR_CODES } from '../contract/error-codes.ts';
import type { HostRecord } from '../database/index.ts';
import { toAppError } from '../errors/index.ts';
import type { OrchestrationContext } from './context.ts';
import type { HostService } from './hosts.ts';

/** A list of machines that is so old is asked for again. */
const FRESH_MS = 10 * 60_000;

/** Has hosts asked for their machines before a run whose machines are selected by rule. */
export class InventoryKeeper {
  readonly #context: OrchestrationContext;
  readonly #hosts: Pick<HostService, 'refresh'>;
  readonly #onFresh: () => void;
  readonly #underWay = new Set<string>();
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
    const meant = selection.include.map(({ hostId }) => hostId);
    const hosts = (await this.#context.catalogue.hosts.list()).filter(
      ({ id }) => meant.includes(undefined) || meant.includes(id),
    );
    for (const host of hosts) if (this.#isToBeAsked(host)) this.#ask(host.id);
    return hosts.every(({ id }) => !this.#underWay.has(id));
  }

  #isToBeAsked({ id, error }: HostRecord): boolean {
    if (this.#underWay.has(id)) return false;
    // A wrong password is not tried again and again: the host would lock the account.
    if (error !== null && ERROR_CODES[error.code].retry === 'never') return false;
    const askedMs = this.#askedMs.get(id);
    return askedMs === undefined || this.#context.clock.monotonicMs() - askedMs > FRESH_MS;
  }

  #ask(hostId: string): void {
    this.#underWay.add(hostId);
    this.#hosts
      .refresh(hostId)
      .catch((error: unknown) => {
        this.#context.logger.warn({ hostId, code: toAppError(error).code }, 'a list of machines is not fresh');
      })
      .finally(() => {
        this.#askedMs.set(hostId, this.#context.clock.monotonicMs());
        this.#underWay.delete(hostId);
        this.#onFresh();
      });
  }
}
