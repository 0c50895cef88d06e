import type { Clock, Logger } from '../runtime/index.ts';
import { startIscsiServer, type IscsiLimits, type IscsiServer } from './iscsi-server.ts';

/** The port that initiators and the firewalls of hosts expect, and others near it. */
const STANDARD_PORT = 3260;
const NEARBY_PORTS = 16;

export interface SharedPortalOptions {
  /** Address to listen on; all by default. */
  bind?: string;
  /** One port and no other; by default 3260, else one near it, else any that is free. */
  port?: number | null;
  limits?: Partial<IscsiLimits>;
  clock?: Clock;
  logger?: Logger;
}

export interface PortalLease {
  readonly server: IscsiServer;
  /** The last one out closes the port. */
  release(): Promise<void>;
}

/** The one portal of a process: it listens only while somebody is served. */
export class SharedPortal {
  readonly #options: SharedPortalOptions;
  #server: Promise<IscsiServer> | null = null;
  #closing: Promise<void> = Promise.resolve();
  #users = 0;

  constructor(options: SharedPortalOptions = {}) {
    this.#options = options;
  }

  /** @throws EADDRINUSE and the like where the one wanted port is taken */
  async acquire(): Promise<PortalLease> {
    this.#users += 1;
    let isReleased = false;
    const release = async (): Promise<void> => {
      if (isReleased) return;
      isReleased = true;
      this.#users -= 1;
      if (this.#users > 0) return;
      const server = this.#server;
      this.#server = null;
      this.#closing = (async () => await (await server)?.close())().catch(() => undefined);
      await this.#closing;
    };
    this.#server ??= this.#closing.then(() => this.#start());
    try {
      return { server: await this.#server, release };
    } catch (error) {
      await release();
      throw error;
    }
  }

  async #start(): Promise<IscsiServer> {
    const { bind = '::', port, limits = {}, clock, logger } = this.#options;
    const choices =
      typeof port === 'number' ? [port] : [...Array(NEARBY_PORTS).keys()].map((n) => STANDARD_PORT + n).concat(0);
    let refusal: unknown;
    for (const choice of choices) {
      try {
        const parts = { limits, ...(clock && { clock }), ...(logger && { logger }) };
        return await startOn(bind, choice, parts);
      } catch (error) {
        refusal = error;
        if (errorCode(error) !== 'EADDRINUSE' && errorCode(error) !== 'EACCES') break;
      }
    }
    throw refusal;
  }
}

async function startOn(
  bind: string,
  port: number,
  parts: { limits: Partial<IscsiLimits>; clock?: Clock; logger?: Logger },
): Promise<IscsiServer> {
  try {
    return await startIscsiServer({ host: bind, port, ...parts });
  } catch (error) {
    // A system without IPv6.
    if (bind !== '::' || !['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'].includes(errorCode(error))) throw error;
    return await startIscsiServer({ host: '0.0.0.0', port, ...parts });
  }
}

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
