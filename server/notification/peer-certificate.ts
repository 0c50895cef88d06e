import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { AppError } from '../errors/index.ts';

interface Server {
  way: 'mail' | 'webhook';
  host: string;
}

/**
 * Judges the certificate of a connection that was opened without judging it.
 * @param pin SHA-256 of the only one to be accepted, lower-case hex; null: one that an authority has signed for its
 *   name
 * @throws NOTIFICATION_CERTIFICATE; `details.fingerprint` is what the server showed, for a person to compare
 */
export function assertPeer(socket: Socket, server: Server, pin: string | null): void {
  if (!(socket instanceof TLSSocket)) throw refused(server, 'The connection is not encrypted.', null);
  const certificate = socket.getPeerCertificate();
  const fingerprint = (certificate.fingerprint256 as string | undefined)?.replaceAll(':', '').toLowerCase() ?? null;
  if (pin !== null) {
    if (fingerprint === pin) return;
    throw refused(server, 'It is not the certificate that was agreed upon.', fingerprint);
  }
  if (socket.authorized) return;
  throw refused(server, `It is not trusted: ${String(socket.authorizationError)}.`, fingerprint);
}

function refused({ way, host }: Server, reason: string, fingerprint: string | null): AppError {
  return new AppError(
    'NOTIFICATION_CERTIFICATE',
    `The certificate of ${host} was refused. ${reason} Nothing was sent.`,
    {
      hint: 'Compare the fingerprint with that of the server, and accept it in the settings only if it agrees.',
      details: { way, host, fingerprint },
    },
  );
}
