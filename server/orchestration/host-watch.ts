import { connect } from 'node:net';
import { ERROR_CODES, type ErrorCode } from '../contract/error-codes.ts';
import type { HostRecord } from '../database/index.ts';
import { toAppError } from '../errors/index.ts';
import type { Clock } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import type { HostService } from './hosts.ts';

/** A host that went off in the morning is to be known long before the night. */
const LOOK_EVERY_MS = 5 * 60_000;
const KNOCK_TIMEOUT_MS = 10_000;
/** Where a knock and a login go on to disagree, a login is tried this seldom. */
const ASK_AGAIN_MS = 60 * 60_000;
/** What a port that takes connections speaks against. */
const OUT_OF_REACH = new Set<ErrorCode>([
  'HOST_UNREACHABLE',
  'HOST_NAME_UNKNOWN',
  'HOST_PORT_REFUSED',
  'HOST_CONNECTION_LOST',
  'HOST_STALLED',
]);

/** Whether a port takes a connection; nothing is said over it. Never rejects. */
export type Knock = (host: string, port: number) => Promise<boolean>;

/**
 * Notices that a host has gone, or is back, while no run needs it. It only knocks at the port for HTTPS: that is no
 * login, so no account is locked by it. A login follows where the knock speaks against what is known of the host, since
 * a worker may reach what the server cannot.
 */
export class HostWatch {
  readonly #context: OrchestrationContext;
  readonly #hosts: Pick<HostService, 'refresh'>;
  readonly #knock: Knock;
  readonly #known = new Map<string, { isThere: boolean; askedMs: number | null }>();
  readonly #stopping = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(context: OrchestrationContext, options: { hosts: Pick<HostService, 'refresh'>; knock?: Knock }) {
    this.#context = context;
    this.#hosts = options.hosts;
    this.#knock = options.knock ?? ((host, port) => knockAt(host, port, context.clock));
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  /** Knocks once at every host. Resolves when those that were asked have answered or failed to. */
  async look(): Promise<void> {
    const { catalogue, queue } = this.#context;
    // Without it nobody could be asked, and that would not be the host's fault.
    if (!queue.isUp()) return;
    const hosts = await catalogue.hosts.list();
    for (const id of this.#known.keys()) if (!hosts.some((host) => host.id === id)) this.#known.delete(id);
    await Promise.all(hosts.map((host) => this.#lookAt(host)));
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#context;
    const { signal } = this.#stopping;
    for (;;) {
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      await Promise.race([
        this.look().catch((error: unknown) => {
          logger.warn({ code: toAppError(error).code }, 'hosts are not watched for now');
        }),
        // A host that takes its time to answer holds up no end of the server.
        aborted(signal),
      ]);
    }
  }

  async #lookAt({ id, host, httpsPort, error }: HostRecord): Promise<void> {
    const { clock, logger } = this.#context;
    const isThere = await this.#knock(host, httpsPort);
    const before = this.#known.get(id);
    const known = { isThere, askedMs: before?.askedMs ?? null };
    this.#known.set(id, known);
    // A wrong password or another key is for a person to mend.
    const isForNobody = error !== null && ERROR_CODES[error.code].retry === 'never';
    const isExpected = error === null ? isThere : !(isThere && OUT_OF_REACH.has(error.code));
    if (isForNobody || isExpected) return;
    const isNews = before !== undefined && before.isThere !== isThere;
    const isLongAgo = known.askedMs === null || clock.monotonicMs() - known.askedMs >= ASK_AGAIN_MS;
    if (!isNews && !isLongAgo) return;
    known.askedMs = clock.monotonicMs();
    await this.#hosts.refresh(id).catch((failure: unknown) => {
      logger.warn({ hostId: id, code: toAppError(failure).code }, 'a host is out of reach');
    });
  }
}

async function knockAt(host: string, port: number, clock: Clock): Promise<boolean> {
  const end = new AbortController();
  const socket = connect({ host, port });
  try {
    return await Promise.race([
      new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true));
        socket.once('error', () => resolve(false));
      }),
      clock.sleep(KNOCK_TIMEOUT_MS, end.signal).then(
        () => false,
        () => false,
      ),
    ]);
  } finally {
    end.abort();
    socket.destroy();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
