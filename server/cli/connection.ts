import { request as plainRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { request as tlsRequest } from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { ErrorBody } from '../contract/error-codes.ts';
import { AppError, isAppError } from '../errors/index.ts';

/** Where the server is and how we are known to it. */
export interface Connection {
  /** `https://host:5510`; plain http to this machine only. */
  server: string;
  /** SHA-256 of its certificate, lower-case hex; null: it must be valid for the system. */
  fingerprint: string | null;
  token: string | null;
}

export interface Call {
  method: string;
  /** Below `/api/v1`. */
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  headers?: Record<string, string>;
}

const CONNECT_TIMEOUT_MS = 15_000;

/**
 * Asks the API and reads the whole answer.
 * @throws the server's own errors; SERVER_UNREACHABLE, SERVER_CERTIFICATE_CHANGED
 */
export async function callApi(connection: Connection, call: Call): Promise<unknown> {
  const response = await openAnswer(connection, call);
  const text = await readText(response);
  return text === '' ? null : (JSON.parse(text) as unknown);
}

/** Asks the API; the body is left to be read, for events and downloads. */
export async function openAnswer(connection: Connection, call: Call): Promise<IncomingMessage> {
  const response = await send(connection, call);
  if ((response.statusCode ?? 0) < 300) return response;
  const text = await readText(response);
  throw readError(text, response.statusCode ?? 0);
}

/** The certificate that a server shows, before anything is sent to it. */
export async function readFingerprint(server: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = tlsRequest(`${server}/api/v1/health`, { agent: false, rejectUnauthorized: false });
    outgoing.setTimeout(CONNECT_TIMEOUT_MS, () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('socket', (socket) => {
      socket.once('secureConnect', () => {
        resolve(fingerprintOf(socket as TLSSocket));
        outgoing.destroy();
      });
    });
    outgoing.on('error', (error) => reject(unreachable(server, error)));
    outgoing.end();
  });
}

function send(connection: Connection, call: Call): Promise<IncomingMessage> {
  const url = new URL(`/api/v1${call.path}`, connection.server);
  for (const [name, value] of Object.entries(call.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  const body = call.body === undefined ? null : JSON.stringify(call.body);
  const options = {
    method: call.method,
    agent: false,
    headers: {
      'x-dozo-request': '1',
      ...(body === null ? {} : { 'content-type': 'application/json' }),
      ...(connection.token === null ? {} : { authorization: `Bearer ${connection.token}` }),
      ...call.headers,
    },
  };
  return new Promise((resolve, reject) => {
    const isTls = url.protocol === 'https:';
    const { fingerprint } = connection;
    // A pinned certificate is compared, not believed; else the system's authorities decide.
    const outgoing = isTls
      ? tlsRequest(url, { ...options, rejectUnauthorized: fingerprint === null })
      : plainRequest(url, options);
    outgoing.on('response', resolve);
    outgoing.on('error', (error) => reject(isAppError(error) ? error : unreachable(connection.server, error)));
    const sendNow = (): void => {
      outgoing.end(body ?? undefined);
    };
    if (isTls && fingerprint !== null) sendWhenPinned(outgoing, { fingerprint, server: connection.server, sendNow });
    else sendNow();
  });
}

/** Nothing, and above all no token, leaves before the certificate was compared. */
function sendWhenPinned(
  outgoing: ClientRequest,
  options: { fingerprint: string; server: string; sendNow: () => void },
): void {
  outgoing.on('socket', (socket) => {
    socket.once('secureConnect', () => {
      const shown = fingerprintOf(socket as TLSSocket);
      if (shown === options.fingerprint) {
        options.sendNow();
        return;
      }
      outgoing.destroy(
        new AppError('SERVER_CERTIFICATE_CHANGED', `${options.server} shows another certificate than before.`, {
          hint: 'Find out why. If it is right, log in again with --fingerprint and the new value.',
          details: { expected: options.fingerprint, shown },
        }),
      );
    });
  });
}

function fingerprintOf(socket: TLSSocket): string {
  return socket.getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase();
}

async function readText(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  for await (const piece of response) text += piece as string;
  return text;
}

function readError(text: string, status: number): AppError {
  try {
    const body = JSON.parse(text) as ErrorBody;
    if (typeof body.code === 'string' && typeof body.message === 'string') return AppError.fromBody(body);
  } catch {
    // Not from Dozo: a proxy, another program.
  }
  return new AppError('SERVER_UNREACHABLE', `Something else than Dozo answered, with status ${status}.`, {
    hint: 'Check the address of the server.',
  });
}

function unreachable(server: string, error: Error): AppError {
  return new AppError('SERVER_UNREACHABLE', `${server} cannot be reached: ${error.message}`, {
    hint: 'Check the address, and whether Dozo runs there. A certificate that is not trusted needs `dozo login`.',
    details: { server },
    cause: error,
  });
}
