import type { IncomingMessage } from 'node:http';
import pLimit from 'p-limit';
import { AppError, cancelled } from '../errors/index.ts';
import { MIB } from '../runtime/index.ts';
import { explainExchange } from './pinned-agent.ts';
import { readBody, requestHost, type HostPlace } from './host-request.ts';
import type { DatastoreFolder } from './vsphere.ts';

const FILE_BYTES_MAX = 64 * MIB;

interface FolderOptions {
  place: HostPlace;
  user: string;
  password: string;
  silenceTimeoutMs: number;
  /** Reads at once, each on a connection of its own; the rest wait in line. */
  readsMax: number;
  /** The SOAP session's cookies: requests in its name open no session of their own on the host. */
  cookies: () => string;
}

/** `/folder` of an ESXi host: datastore files by name, ranges of those that are not locked. */
export class HttpsFolder implements DatastoreFolder {
  readonly #options: FolderOptions;
  readonly #turns: ReturnType<typeof pLimit>;
  #needsPassword = false;
  #wasRefused = false;

  constructor(options: FolderOptions) {
    this.#options = options;
    this.#turns = pLimit(options.readsMax);
  }

  async read(datastore: string, path: string): Promise<Buffer> {
    return await this.#turns(async () => await this.#readFile(datastore, path));
  }

  async readRange(
    datastore: string,
    path: string,
    range: { offsetBytes: number; lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const { promise, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(cancelled(signal?.reason));
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    const reading = this.#turns(async () => await this.#readPart(datastore, path, range, signal));
    reading.catch(() => undefined); // An abort in the line is answered before the turn comes.
    try {
      return await Promise.race([reading, promise]);
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async #readFile(datastore: string, path: string): Promise<Buffer> {
    const response = await this.#get(datastore, path, {});
    if (response.statusCode !== 200) throw this.#explain(response, datastore, path);
    const body = await readBody(this.#options.place, response, FILE_BYTES_MAX);
    const told = response.headers['content-length'];
    if (told !== undefined && Number(told) !== body.length)
      throw this.#short(datastore, path, Number(told), body.length);
    return body;
  }

  async #readPart(
    datastore: string,
    path: string,
    range: { offsetBytes: number; lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const { offsetBytes, lengthBytes } = range;
    if (lengthBytes === 0) return Buffer.alloc(0);
    const last = offsetBytes + lengthBytes - 1;
    const response = await this.#get(datastore, path, { range: `bytes=${offsetBytes}-${last}` }, signal);
    if (response.statusCode === 200) {
      response.destroy();
      throw new AppError(
        'DISK_RANGE_IGNORED',
        `${this.#options.place.host} sent all of [${datastore}] ${path} though a part was asked for.`,
        {
          hint: 'Nothing to do: Dozo reads this disk another way.',
          details: { datastore, path, offsetBytes, lengthBytes },
        },
      );
    }
    if (response.statusCode !== 206) throw this.#explain(response, datastore, path);
    const told = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers['content-range'] ?? '');
    if (told === null || Number(told[1]) !== offsetBytes || Number(told[2]) !== last) {
      response.destroy();
      const isShort = told !== null && Number(told[1]) === offsetBytes && Number(told[2]) < last;
      if (isShort) throw this.#short(datastore, path, lengthBytes, Number(told[2]) - offsetBytes + 1);
      throw new AppError(
        'HOST_ANSWER_UNREADABLE',
        `${this.#options.place.host} sent another part of [${datastore}] ${path} than was asked for.`,
        {
          hint: 'Nothing to do: Dozo reads this disk another way.',
          details: {
            datastore,
            path,
            offsetBytes,
            lengthBytes,
            contentRange: response.headers['content-range'] ?? null,
          },
        },
      );
    }
    return await this.#fill(response, datastore, path, lengthBytes, signal);
  }

  async #fill(
    response: IncomingMessage,
    datastore: string,
    path: string,
    lengthBytes: number,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(lengthBytes);
    let filledBytes = 0;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    response.on('data', (chunk: Buffer) => {
      if (filledBytes + chunk.length > lengthBytes) {
        response.destroy(this.#short(datastore, path, lengthBytes, filledBytes + chunk.length));
        return;
      }
      chunk.copy(buffer, filledBytes);
      filledBytes += chunk.length;
    });
    response.on('end', resolve);
    response.on('error', reject);
    try {
      await promise;
    } catch (error) {
      response.destroy();
      if (signal?.aborted === true) throw cancelled(error);
      throw explainExchange(this.#options.place, error);
    }
    if (filledBytes !== lengthBytes) throw this.#short(datastore, path, lengthBytes, filledBytes);
    return buffer;
  }

  /** Asks in the name of the SOAP session; when that has ended, with the password, until it is refused. */
  async #get(
    datastore: string,
    path: string,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    const { place, user, password, silenceTimeoutMs, cookies } = this.#options;
    for (;;) {
      if (this.#wasRefused) throw this.#loginRefused();
      const cookie = cookies();
      const withPassword = this.#needsPassword || cookie === '';
      const login: Record<string, string> = withPassword
        ? { authorization: `Basic ${Buffer.from(`${user}:${password}`, 'utf8').toString('base64')}` }
        : { cookie };
      const response = await requestHost(place, {
        method: 'GET',
        path: folderPath(datastore, path),
        headers: { ...headers, ...login },
        silenceTimeoutMs,
        isRepeatable: true,
        signal,
      });
      if (response.statusCode !== 401) return response;
      response.destroy();
      if (withPassword) this.#wasRefused = true;
      else this.#needsPassword = true;
    }
  }

  #explain(response: IncomingMessage, datastore: string, path: string): AppError {
    const { host } = this.#options.place;
    const status = response.statusCode ?? 0;
    const details = { host, datastore, path, status };
    response.destroy();
    switch (status) {
      case 404:
        return new AppError('NOT_FOUND', `There is no [${datastore}] ${path} on ${host}.`, {
          hint: 'The machine may have been moved, renamed or deleted; refresh the list of machines.',
          details,
        });
      case 403:
        return new AppError('HOST_NOT_ADMINISTRATOR', `The user may not read [${datastore}] ${path} on ${host}.`, {
          hint: 'Give the user the role Administrator on the host (Host Client: Manage, Permissions).',
          details,
        });
      case 416:
        return new AppError(
          'DISK_READ_SHORT',
          `[${datastore}] ${path} on ${host} ends before the part that was asked for.`,
          {
            hint: 'The disk may have been changed or replaced; the next run looks at it anew.',
            details,
          },
        );
      case 500:
        return new AppError('DISK_READ_REFUSED', `${host} does not let [${datastore}] ${path} be read: it is in use.`, {
          hint: 'Nothing to do: Dozo reads this disk another way.',
          details,
        });
      default:
        return new AppError('HOST_ANSWER_UNREADABLE', `${host} answered HTTP ${status} to [${datastore}] ${path}.`, {
          hint: 'Check that the management agents of the host run.',
          details,
        });
    }
  }

  #short(datastore: string, path: string, wantedBytes: number, gotBytes: number): AppError {
    const { host } = this.#options.place;
    return new AppError(
      'DISK_READ_SHORT',
      `${host} sent ${gotBytes} bytes of [${datastore}] ${path} where ${wantedBytes} were asked for.`,
      {
        hint: 'The disk may have been changed or replaced, or the host is overloaded; the next attempt reads it again.',
        details: { host, datastore, path, wantedBytes, gotBytes },
      },
    );
  }

  #loginRefused(): AppError {
    const { host } = this.#options.place;
    return new AppError('HOST_LOGIN_REFUSED', `${host} refused the login for reading files.`, {
      hint: 'Correct the user or password. Dozo does not try again by itself, since repeated wrong passwords lock the account.',
      details: { host },
    });
  }
}

/** Every byte outside the unreserved ones of RFC 3986 is encoded; slashes separate folders. */
export function folderPath(datastore: string, path: string): string {
  const folders = path.split('/').map(encodeStrictly).join('/');
  return `/folder/${folders}?dcPath=ha-datacenter&dsName=${encodeStrictly(datastore)}`;
}

function encodeStrictly(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
