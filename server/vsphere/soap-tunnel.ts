import { timingSafeEqual } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import pLimit from 'p-limit';
import { generate } from 'selfsigned';
import { AppError, toAppError } from '../errors/index.ts';
import { MIB, randomHex } from '../runtime/index.ts';
import { readBody, requestHost, type HostPlace } from './host-request.ts';
import { localWsdl } from './local-wsdl.ts';

const REQUEST_BYTES_MAX = 4 * MIB;
/** Calls on their way at once, each on a connection of its own. */
const CALLS_MAX = 4;
const REPLY_BYTES_MAX = 256 * MIB;
/** Types that a host's API version does not know are sent as their base type, so the newest is asked for. */
const FIRST_API_VERSION = '6.0';
const READS = /<(RetrieveServiceContent|RetrieveProperties|QueryChangedDiskAreas)/;

/**
 * The only way from node-vsphere-soap to a host. The client builds its own address and trusts any
 * certificate; this end is ours, on the loopback, behind a path that no other process can guess. It
 * gives out the local service description, mends what the client sends, keeps the session's cookies,
 * and passes requests on over a connection whose certificate was compared.
 */
export class SoapTunnel {
  /** What the client is told to be its host: it puts `https://` before and `/sdk/vimService.wsdl` after. */
  readonly address: string;
  readonly #server: Server;
  readonly #path: Buffer;
  readonly #place: HostPlace;
  readonly #answerTimeoutMs: number;
  readonly #errors = new Map<string, AppError>();
  readonly #cookies = new Map<string, string>();
  readonly #turns = pLimit(CALLS_MAX);
  #apiVersion = FIRST_API_VERSION;

  private constructor(server: Server, token: string, place: HostPlace, answerTimeoutMs: number) {
    this.#server = server;
    this.#place = place;
    this.#answerTimeoutMs = answerTimeoutMs;
    this.#path = Buffer.from(`/${token}/sdk/vimService.wsdl`);
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}/${token}`;
    server.on('request', (request, response) => void this.#handle(request, response));
  }

  static async open(place: HostPlace, answerTimeoutMs: number): Promise<SoapTunnel> {
    const server = createServer(await loopbackCertificate());
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // The client's to end: a thread that is held up would send its next call on one that was ended meanwhile.
    server.keepAliveTimeout = 0;
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
    await promise;
    return new SoapTunnel(server, randomHex(24), place, answerTimeoutMs);
  }

  /** The session's cookies, for other requests in its name. */
  cookies(): string {
    return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  /** The error that the tunnel answered with, from the text that the client made of it. */
  takeError(text: string): AppError | undefined {
    const id = /<faultcode>dozo-error-([0-9a-f]+)</.exec(text)?.[1] ?? '';
    const error = this.#errors.get(id);
    this.#errors.delete(id);
    return error;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = Buffer.from(request.url ?? '');
    if (path.length !== this.#path.length || !timingSafeEqual(path, this.#path)) {
      response.writeHead(404).end();
      return;
    }
    if (request.method === 'GET') {
      response
        .writeHead(200, { 'content-type': 'text/xml; charset=utf-8' })
        .end(localWsdl(`https://${this.address}/sdk`));
      return;
    }
    try {
      const { status, body } = await this.#turns(async (text) => await this.#forward(text), await readRequest(request));
      response.writeHead(status, { 'content-type': 'text/xml; charset=utf-8' }).end(body);
    } catch (error) {
      const id = randomHex(8);
      this.#errors.set(id, toAppError(error));
      response.writeHead(500, { 'content-type': 'text/xml; charset=utf-8' }).end(errorReply(id));
    }
  }

  async #forward(request: string): Promise<{ status: number; body: string }> {
    const cookies = this.cookies();
    const response = await requestHost(this.#place, {
      method: 'POST',
      path: '/sdk',
      headers: {
        'content-type': 'text/xml; charset=utf-8',
        soapaction: `"urn:vim25/${this.#apiVersion}"`,
        ...(cookies === '' ? {} : { cookie: cookies }),
      },
      body: mended(request),
      silenceTimeoutMs: this.#answerTimeoutMs,
      isRepeatable: READS.test(request),
    });
    const body = (await readBody(this.#place, response, REPLY_BYTES_MAX)).toString('utf8');
    const status = response.statusCode ?? 0;
    if (!/<(\w+:)?Envelope[\s>]/.test(body.slice(0, 2_000))) throw this.#noSoap(status);
    this.#keepCookies(response.headers['set-cookie'] ?? []);
    this.#apiVersion = /<apiVersion>([\d.]+)<\/apiVersion>/.exec(body)?.[1] ?? this.#apiVersion;
    return { status, body: status === 200 ? body : withoutLoginCall(body) };
  }

  #keepCookies(headers: readonly string[]): void {
    for (const header of headers) {
      const [pair = ''] = header.split(';');
      const equals = pair.indexOf('=');
      if (equals > 0) this.#cookies.set(pair.slice(0, equals).trim(), pair.slice(equals + 1).trim());
    }
  }

  #noSoap(status: number): AppError {
    const { host, port } = this.#place;
    const details = { host, port, status };
    if (status === 503 || status === 502 || status === 504) {
      return new AppError('HOST_UNREACHABLE', `The management agent of ${host} does not answer (HTTP ${status}).`, {
        hint: 'Wait until the host has started, or restart its management agents (services.sh restart).',
        details,
      });
    }
    return new AppError(
      'HOST_NOT_ESXI',
      `Port ${port} of ${host} does not answer as the vSphere API does (HTTP ${status}).`,
      {
        hint: 'Check the address and the HTTPS port; Dozo connects to ESXi hosts themselves.',
        details,
      },
    );
  }
}

let madeCertificate: Promise<{ key: string; cert: string }> | undefined;

/** Made once a process, never stored; nobody checks it. */
async function loopbackCertificate(): Promise<{ key: string; cert: string }> {
  madeCertificate ??= generate([{ name: 'commonName', value: '127.0.0.1' }], {
    keyType: 'ec',
    algorithm: 'sha256',
  }).then((made) => ({ key: made.private, cert: made.cert }));
  return await madeCertificate;
}

async function readRequest(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > REQUEST_BYTES_MAX) throw new AppError('INPUT_INVALID', 'A request to the host is too long.');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The client sends the first object's name without its type, which stricter hosts do not find then. */
function mended(request: string): string {
  return request.replace(/<((?:\w+:)?_this)>ServiceInstance</, '<$1 type="ServiceInstance">ServiceInstance<');
}

/**
 * On these words the client logs in anew and repeats the call up to ten times, whatever the call does.
 * Logging in again is decided above, once; the fault's type still tells.
 */
function withoutLoginCall(body: string): string {
  return body.replaceAll(/session is not authenticated/gi, 'session has ended');
}

function errorReply(id: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><soapenv:Fault><faultcode>dozo-error-${id}</faultcode><faultstring>The host did not answer.</faultstring></soapenv:Fault></soapenv:Body></soapenv:Envelope>`;
}
