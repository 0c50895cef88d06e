import { request } from 'node:https';
import type { TLSSocket } from 'node:tls';

/** A client of Dozo's API for tests and the demo: one account, the certificate pinned, JSON both ways. */
export class Api {
  readonly #url: string;
  readonly #fingerprint: string;
  #token: string | null = null;
  #tokenId: string | null = null;

  /** For other clients: the command line takes all of this from its environment. */
  get environment(): Record<string, string> {
    return { DOZO_SERVER: this.#url, DOZO_FINGERPRINT: this.#fingerprint, DOZO_TOKEN: this.#token ?? '' };
  }

  constructor(url: string, fingerprint: string) {
    this.#url = url;
    this.#fingerprint = fingerprint;
  }

  async login(user: string, password: string): Promise<void> {
    const made = await this.post<{ id: string; token: string }>('/tokens', { user, password, name: 'test' });
    this.#tokenId = made.id;
    this.#token = made.token;
  }

  /** Leaves no token behind. */
  async logout(): Promise<void> {
    if (this.#tokenId === null) return;
    await this.delete(`/tokens/${this.#tokenId}`);
    this.#tokenId = null;
    this.#token = null;
  }

  get<T>(path: string): Promise<T> {
    return this.#call<T>('GET', path, undefined);
  }

  post<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>('POST', path, body);
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>('PATCH', path, body);
  }

  put<T>(path: string, body: unknown): Promise<T> {
    return this.#call<T>('PUT', path, body);
  }

  delete<T>(path: string): Promise<T> {
    return this.#call<T>('DELETE', path, undefined);
  }

  #call<T>(method: string, path: string, body: unknown): Promise<T> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    return new Promise<T>((resolve, reject) => {
      const call = request(
        `${this.#url}/api/v1${path}`,
        {
          method,
          // The certificate is its own authority: it is compared, not believed.
          rejectUnauthorized: false,
          agent: false,
          timeout: 240_000,
          headers: {
            'x-dozo-request': '1',
            ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
            ...(this.#token === null ? {} : { authorization: `Bearer ${this.#token}` }),
          },
        },
        (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(parts).toString();
            const status = response.statusCode ?? 0;
            if (status < 200 || status >= 300) {
              reject(new ApiError(`${method} ${path}: ${status} ${text}`, status, text));
              return;
            }
            resolve((text === '' ? undefined : JSON.parse(text)) as T);
          });
        },
      );
      call.on('socket', (socket) => {
        socket.on('secureConnect', () => {
          const shown = (socket as TLSSocket).getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase();
          if (shown !== this.#fingerprint) call.destroy(new Error('the server shows another certificate'));
        });
      });
      call.on('timeout', () => call.destroy(new Error(`${method} ${path}: no answer`)));
      call.on('error', reject);
      call.end(payload);
    });
  }
}

export class ApiError extends Error {
  readonly status: number;
  readonly body: string;

  constructor(message: string, status: number, body: string) {
    super(message);
    this.status = status;
    this.body = body;
  }

  get code(): string {
    try {
      return (JSON.parse(this.body) as { code: string }).code;
    } catch {
      return '';
    }
  }
}
