import { createHmac } from 'node:crypto';
import { request, type ClientRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AppError, isAppError } from '../errors/index.ts';
import { assertPeer } from './peer-certificate.ts';

export interface WebhookTarget {
  url: string;
  /** JSON. */
  body: string;
  /** Of this message: the same at every try. */
  id: string;
  authorization: { kind: 'none' } | { kind: 'signature'; secret: string } | { kind: 'bearer'; token: string };
  tlsCertificate: string | null;
  /** Time of the signature. */
  nowMs: number;
}

const WHOLE_MS = 30_000;

/**
 * Signature of a message, in both directions: HMAC-SHA-256 over the time in seconds, a full stop and the bytes of the
 * body, as lower-case hex after `v1=`.
 */
export function signWebhook(secret: string, timestampSeconds: number, body: string | Buffer): string {
  return `v1=${createHmac('sha256', secret).update(`${timestampSeconds}.`).update(body).digest('hex')}`;
}

/**
 * Posts once. Private addresses are fine: that is where such servers stand. Redirects are answers like any other that
 * is not a success, since they could lead a signature or a token elsewhere.
 * @throws NOTIFICATION_UNREACHABLE, NOTIFICATION_CERTIFICATE, NOTIFICATION_DEFERRED, NOTIFICATION_REFUSED
 */
export async function deliverWebhook(target: WebhookTarget, limits: { wholeMs?: number } = {}): Promise<void> {
  const url = new URL(target.url);
  const host = url.host;
  const signal = AbortSignal.timeout(limits.wholeMs ?? WHOLE_MS);
  let socket: Socket | null = null;
  let status: number;
  try {
    socket = await open(url, signal);
    if (url.protocol === 'https:') assertPeer(socket, { way: 'webhook', host }, target.tlsCertificate);
    status = await post(url, target, socket, signal);
  } catch (cause) {
    if (isAppError(cause)) throw cause;
    const reason = signal.aborted ? 'it took too long' : (cause as Error).message;
    throw new AppError('NOTIFICATION_UNREACHABLE', `The webhook at ${host} cannot be reached: ${reason}`, {
      hint: 'Check the address and the network. Dozo tries again by itself.',
      details: { way: 'webhook', host },
      cause,
    });
  } finally {
    socket?.destroy();
  }
  if (status >= 200 && status < 300) return;
  const isLater = status === 429 || status === 408 || status >= 500;
  const isLogin = status === 401 || status === 403;
  const message =
    status >= 300 && status < 400
      ? `The webhook at ${host} answered with a redirect (${status}), which is never followed.`
      : `The webhook at ${host} answered ${status}.`;
  throw new AppError(
    isLater ? 'NOTIFICATION_DEFERRED' : isLogin ? 'NOTIFICATION_LOGIN_REFUSED' : 'NOTIFICATION_REFUSED',
    message,
    {
      hint: isLater ? 'Dozo tries again by itself.' : 'Check the address of the webhook and its secret.',
      details: { way: 'webhook', host, status },
    },
  );
}

function open(url: URL, signal: AbortSignal): Promise<Socket> {
  const isTls = url.protocol === 'https:';
  const port = url.port === '' ? (isTls ? 443 : 80) : Number(url.port);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const socket: Socket = isTls
      ? connectTls({
          host,
          port,
          // Judged by the caller before anything is said over it.
          rejectUnauthorized: false,
          minVersion: 'TLSv1.2',
          ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
        })
      : connect({ host, port });
    const abort = (): void => void socket.destroy(new Error('time is up'));
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', reject);
    socket.once(isTls ? 'secureConnect' : 'connect', () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}

function post(url: URL, target: WebhookTarget, socket: Socket, signal: AbortSignal): Promise<number> {
  const { body, id, authorization, nowMs } = target;
  const seconds = Math.floor(nowMs / 1000);
  return new Promise((resolve, reject) => {
    const outgoing: ClientRequest = request(
      {
        method: 'POST',
        path: `${url.pathname}${url.search}`,
        createConnection: () => socket,
        signal,
        headers: {
          Host: url.host,
          'Content-Type': 'application/json; charset=utf-8',
          'Content-Length': Buffer.byteLength(body),
          'User-Agent': 'Dozo',
          Connection: 'close',
          'X-Dozo-Delivery': id,
          ...(authorization.kind === 'bearer' ? { Authorization: `Bearer ${authorization.token}` } : {}),
          ...(authorization.kind === 'signature'
            ? {
                'X-Dozo-Timestamp': String(seconds),
                'X-Dozo-Signature': signWebhook(authorization.secret, seconds, body),
              }
            : {}),
        },
      },
      (response) => {
        // What it says beyond its status is nobody's business, however long it is.
        response.destroy();
        resolve(response.statusCode ?? 0);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
