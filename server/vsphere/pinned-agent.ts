import { createHash } from 'node:crypto';
import { Agent, type RequestOptions } from 'node:https';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { constants } from 'node:crypto';
import { connect as connectTls } from 'node:tls';
import { AppError, isAppError } from '../errors/index.ts';

interface PinnedAgentOptions {
  host: string;
  port: number;
  /** SHA-256 of the certificate, lower-case hex; null takes the first one shown and holds on to it. */
  certificate: string | null;
  connectTimeoutMs: number;
}

/**
 * TLS connections to one host, handed over only after the certificate was compared: a byte of a
 * request is never written to another host. A self-signed certificate is as good as any other here,
 * the pin is what counts. Hosts before 6.5 speak TLS 1.0 with old ciphers. The number of connections
 * is the callers' matter: an agent whose connections are made in the background does not count them.
 */
export class PinnedAgent extends Agent {
  readonly #options: PinnedAgentOptions;
  readonly #sockets = new Set<Socket>();
  #certificate: string | null;
  #closedBytes = 0;
  #ownConnections = 0;

  constructor(options: PinnedAgentOptions) {
    super({ keepAlive: true, maxCachedSessions: 0 });
    this.#options = options;
    this.#certificate = options.certificate;
  }

  /** What the host showed; null before the first connection. */
  get certificate(): string | null {
    return this.#certificate;
  }

  /** Bytes on the wire, TLS included. */
  wireBytes(): number {
    let bytes = this.#closedBytes;
    for (const socket of this.#sockets) bytes += socket.bytesRead + socket.bytesWritten;
    return bytes;
  }

  /** Options of a request that takes no kept connection; with `connection: close` it leaves none either. */
  ownConnection(): { ownConnection: number } {
    this.#ownConnections += 1;
    return { ownConnection: this.#ownConnections };
  }

  /** Connections are kept by this name. */
  override getName(options?: RequestOptions & { ownConnection?: number }): string {
    return `${super.getName(options)}:${options?.ownConnection ?? 'kept'}`;
  }

  override createConnection(
    _options: unknown,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | undefined {
    const { host, port, connectTimeoutMs } = this.#options;
    let isSettled = false;
    const fail = (error: Error & { code?: string }): void => {
      if (isSettled) return;
      isSettled = true;
      clearTimeout(timer);
      tls.destroy();
      tcp.destroy();
      callback?.(isAppError(error) ? error : explainConnection(this.#options, error), undefined as never);
    };
    const timer = setTimeout(() => fail(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })), connectTimeoutMs);
    const tcp = connectTcp({ host, port, noDelay: true });
    this.#sockets.add(tcp);
    tcp.once('close', () => {
      this.#sockets.delete(tcp);
      this.#closedBytes += tcp.bytesRead + tcp.bytesWritten;
    });
    const tls = connectTls({
      socket: tcp,
      rejectUnauthorized: false,
      minVersion: 'TLSv1',
      ciphers: 'DEFAULT:@SECLEVEL=0',
      secureOptions: constants.SSL_OP_LEGACY_SERVER_CONNECT,
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    tcp.on('error', fail);
    tls.on('error', fail);
    tls.once('close', () => fail(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
    tls.once('secureConnect', () => {
      if (isSettled) return;
      const shown = createHash('sha256').update(tls.getPeerCertificate().raw).digest('hex');
      if (this.#certificate !== null && this.#certificate !== shown)
        return fail(certificateChanged(host, this.#certificate, shown));
      this.#certificate = shown;
      isSettled = true;
      clearTimeout(timer);
      callback?.(null, tls);
    });
    return undefined;
  }
}

function certificateChanged(host: string, expected: string, shown: string): AppError {
  return new AppError('HOST_CERTIFICATE_CHANGED', `${host} showed another certificate than the one known to Dozo.`, {
    hint: 'If the certificate was renewed or the host reinstalled, compare the new one in the Host Client and accept it; otherwise someone may be in between.',
    details: { host, expected, shown },
  });
}

function explainConnection(where: { host: string; port: number }, error: Error & { code?: string }): AppError {
  const { host, port } = where;
  const because = { details: { host, port }, cause: error };
  switch (error.code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_FAIL':
    case 'ENODATA':
      return new AppError('HOST_NAME_UNKNOWN', `The name ${host} has no address.`, {
        hint: 'Check the spelling and the DNS server of this NAS, or give the IP address.',
        ...because,
      });
    case 'ECONNREFUSED':
      return new AppError('HOST_PORT_REFUSED', `${host} refuses connections on port ${port}.`, {
        hint: 'Check the HTTPS port (443 unless it was moved) and that the management agents of the host run.',
        ...because,
      });
    case 'ECONNRESET':
    case 'EPIPE':
      return new AppError('HOST_CONNECTION_LOST', `${host} closed the connection on port ${port}.`, {
        hint: 'The management agents of the host may be restarting; the next attempt connects anew.',
        ...because,
      });
    default:
      if (error.code?.startsWith('ERR_SSL') === true || error.code === 'EPROTO') {
        return new AppError('HOST_NOT_ESXI', `Port ${port} of ${host} does not speak TLS as an ESXi host does.`, {
          hint: 'Check the port; the HTTPS port of an ESXi host is 443 unless it was moved.',
          ...because,
        });
      }
      return new AppError('HOST_UNREACHABLE', `${host} cannot be reached on port ${port}.`, {
        hint: 'Check that the host is on, the address is right and the network between is up.',
        ...because,
      });
  }
}

/** For errors in the middle of an exchange, on a connection that stood. */
export function explainExchange(where: { host: string; port: number }, error: unknown): AppError {
  if (isAppError(error)) return error;
  return new AppError('HOST_CONNECTION_LOST', `The connection to ${where.host} was lost in the middle of an answer.`, {
    hint: 'Check the network and whether the host or its management agents restarted.',
    details: { host: where.host, port: where.port },
    cause: error,
  });
}
