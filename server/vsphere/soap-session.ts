import { Worker } from 'node:worker_threads';
import { AppError, cancelled } from '../errors/index.ts';
import { siblingModule, type Logger } from '../runtime/index.ts';
import type { HostPlace } from './host-request.ts';
import type { Operation } from './local-wsdl.ts';
import { explainFault } from './soap-fault.ts';
import { parseFault } from './soap-reply.ts';
import { SoapTunnel } from './soap-tunnel.ts';

const LOGOUT_TIMEOUT_MS = 2_000;

/** From here to the thread. */
export interface SoapThreadStart {
  address: string;
  user: string;
  password: string;
}
export interface SoapCall {
  id: number;
  operation: Operation;
  parameters: Record<string, unknown>;
  /** Declared type of the `returnval`, for values without a type of their own. */
  returns: string;
}
/** From the thread to here. */
export type SoapAnswer =
  | { kind: 'ready' }
  | { kind: 'refused'; body: string }
  | { kind: 'value'; id: number; value: unknown }
  | { kind: 'fault'; id: number; body: string }
  | { kind: 'unreadable'; id: number; text: string }
  | { kind: 'broken'; text: string };

interface SessionOptions {
  place: HostPlace;
  user: string;
  password: string;
  answerTimeoutMs: number;
  logger: Logger;
  signal?: AbortSignal | undefined;
}

interface Pending {
  operation: Operation;
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

/** One login: a thread with node-vsphere-soap in it and its tunnel to the host. */
export class SoapSession {
  readonly #worker: Worker;
  readonly #tunnel: SoapTunnel;
  readonly #options: SessionOptions;
  readonly #pending = new Map<number, Pending>();
  readonly #ready = Promise.withResolvers<void>();
  #lastId = 0;
  #broken: AppError | undefined;

  private constructor(worker: Worker, tunnel: SoapTunnel, options: SessionOptions) {
    this.#worker = worker;
    this.#tunnel = tunnel;
    this.#options = options;
    worker.on('message', (answer: SoapAnswer) => this.#receive(answer));
    worker.on('error', (error) => this.#break(error.message));
    worker.on('exit', () => this.#break('its thread ended'));
  }

  /** Logs in, once. @throws what the room's face names for `connectVsphere` */
  static async open(options: SessionOptions): Promise<SoapSession> {
    const tunnel = await SoapTunnel.open(options.place, options.answerTimeoutMs);
    const start: SoapThreadStart = { address: tunnel.address, user: options.user, password: options.password };
    const worker = new Worker(siblingModule(import.meta.url, './soap-thread'), {
      workerData: start,
      // Its own and empty: no proxy stands between it and the tunnel, and what it sets stays inside.
      env: {},
      name: 'soap',
    });
    const session = new SoapSession(worker, tunnel, options);
    const onAbort = (): void => session.#ready.reject(cancelled(options.signal?.reason));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
    try {
      await session.#ready.promise;
      return session;
    } catch (error) {
      await session.#dispose();
      throw error;
    } finally {
      options.signal?.removeEventListener('abort', onAbort);
    }
  }

  /** True when every further call would fail; the thread or its tunnel is gone. */
  get isBroken(): boolean {
    return this.#broken !== undefined;
  }

  cookies(): string {
    return this.#tunnel.cookies();
  }

  /** @throws see `explainFault`, and what reaching the host throws */
  async call(
    operation: Operation,
    parameters: Record<string, unknown>,
    returns: string,
    signal?: AbortSignal,
  ): Promise<unknown> {
    if (signal?.aborted === true) throw cancelled(signal.reason);
    if (this.#broken !== undefined) throw this.#broken;
    const id = (this.#lastId += 1);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const onAbort = (): void => reject(cancelled(signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#pending.set(id, { operation, resolve, reject });
    this.#worker.postMessage({ id, operation, parameters, returns } satisfies SoapCall);
    try {
      return await promise;
    } finally {
      this.#pending.delete(id);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async close(): Promise<void> {
    if (this.#broken === undefined) {
      const logout = this.call(
        'Logout',
        { _this: { attributes: { type: 'SessionManager' }, $value: 'ha-sessionmgr' } },
        'string',
      );
      const timer = setTimeout(() => this.#break('logging out took too long'), LOGOUT_TIMEOUT_MS);
      // A session that the host does not let go of now ends by itself.
      await logout.catch((error: unknown) => this.#options.logger.debug({ error: String(error) }, 'logout failed'));
      clearTimeout(timer);
    }
    await this.#dispose();
  }

  async #dispose(): Promise<void> {
    this.#break('the connection was closed');
    await this.#worker.terminate();
    this.#tunnel.close();
  }

  #receive(answer: SoapAnswer): void {
    switch (answer.kind) {
      case 'ready':
        return this.#ready.resolve();
      case 'refused':
        return this.#ready.reject(this.#explain(answer.body, 'Login'));
      case 'broken':
        return this.#break(answer.text);
      case 'value':
        return this.#pending.get(answer.id)?.resolve(answer.value);
      case 'fault': {
        const pending = this.#pending.get(answer.id);
        return pending?.reject(this.#explain(answer.body, pending.operation));
      }
      case 'unreadable': {
        const pending = this.#pending.get(answer.id);
        return pending?.reject(this.#unreadable(pending.operation, answer.text));
      }
    }
  }

  #explain(body: string, operation: Operation): AppError {
    const known = this.#tunnel.takeError(body);
    if (known !== undefined) return known;
    const fault = parseFault(body);
    return fault === null
      ? this.#unreadable(operation, 'neither a reply nor a fault')
      : explainFault(this.#options.place.host, operation, fault);
  }

  #unreadable(operation: Operation, text: string): AppError {
    const { host } = this.#options.place;
    return new AppError('HOST_ANSWER_UNREADABLE', `The answer of ${host} to ${operation} cannot be read: ${text}.`, {
      hint: 'Check that the address is that of an ESXi host; if it is, report this with the version of the host.',
      details: { host, operation },
    });
  }

  #break(text: string): void {
    if (this.#broken !== undefined) return;
    const { host } = this.#options.place;
    this.#broken = new AppError('HOST_CONNECTION_LOST', `The vSphere session with ${host} ended: ${text}.`, {
      hint: 'The next attempt logs in anew.',
      details: { host },
    });
    this.#ready.reject(this.#broken);
    this.#ready.promise.catch(() => undefined);
    for (const pending of this.#pending.values()) pending.reject(this.#broken);
    this.#pending.clear();
  }
}
