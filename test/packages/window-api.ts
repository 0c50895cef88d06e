import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Frame } from 'playwright-core';

/** Of a machine that has much else to do. */
const PATIENCE_MS = 600_000;

interface Reply {
  status: number;
  text: string;
}

export interface RunView {
  id: string;
  state: string;
  error: { code: string; message: string; hint?: string } | null;
  parts: {
    name: string;
    state: string;
    error: { code: string; message: string; hint?: string } | null;
    result: unknown;
  }[];
}

/**
 * Asks as the open window does: from its page in the browser, over the web server of the NAS, with the session that it
 * was signed in by. Has no other right to anything.
 */
export class WindowApi {
  readonly #frame: Frame;

  constructor(frame: Frame) {
    this.#frame = frame;
  }

  get<T>(path: string): Promise<T> {
    return this.#call<T>('GET', path);
  }

  post<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>('POST', path, body);
  }

  /** As often as a machine with other work keeps a host from answering in time. */
  async insist<T>(path: string, body: unknown): Promise<T> {
    for (let left = 10; ; left -= 1) {
      const { status, text } = await this.send('POST', path, body);
      if (left === 0 || status !== 502) return take<T>(`POST ${path}`, status, text);
    }
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>('PATCH', path, body);
  }

  put<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>('PUT', path, body);
  }

  /** Waits for the end of a run. */
  ended({ id }: { id: string }): Promise<RunView> {
    return this.until(`the end of run ${id}`, async () => {
      const view = await this.get<RunView>(`/runs/${id}`);
      return view.state === 'waiting' || view.state === 'running' ? null : view;
    });
  }

  /** Waits for a server that is just starting. */
  async answers(): Promise<void> {
    await this.until('an answer of the server', async () => {
      // The browser gives up on connections of a busy machine.
      const reply = await this.send('GET', '/session').catch(() => null);
      return reply?.status === 200 ? true : null;
    });
  }

  /** Waits for a state of the product: until a look at it gives something. The time is only a net. */
  async until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
    const deadlineMs = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = await look();
      if (found !== null) return found;
      if (performance.now() > deadlineMs) throw new Error(`waited in vain for ${what}`);
      await sleep(200);
    }
  }

  send(method: string, path: string, body?: unknown): Promise<Reply> {
    return this.#frame.evaluate(
      async ([verb, name, text]) => {
        const { baseURI } = (globalThis as unknown as { document: { baseURI: string } }).document;
        const response = await fetch(new URL(`api/v1${name}`, baseURI), {
          method: verb ?? '',
          credentials: 'same-origin',
          headers: { 'X-Dozo-Request': '1', ...(text === '' ? {} : { 'Content-Type': 'application/json' }) },
          ...(text === '' ? {} : { body: text ?? '' }),
        });
        return { status: response.status, text: await response.text() };
      },
      [method, path, body === undefined ? '' : JSON.stringify(body)],
    );
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { status, text } = await this.send(method, path, body);
    return take<T>(`${method} ${path}`, status, text);
  }
}

function take<T>(asked: string, status: number, text: string): T {
  assert.ok(status >= 200 && status < 300, `${asked}: ${status} ${text}`);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}
