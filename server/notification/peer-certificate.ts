import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { AppError } from '../errors/index.ts';

/**
 * Judges the certificate of a connection that was opened without judging it.
 * @param pin SHA-256 of the only one to be accepted, lower-case hex; null: one that an authority has signed for `host`
 * @throws NOTIFICATION_CERTIFICATE; `details.fingerprint` is what the server showed, for a person to compare
 */
export function assertPeer(socket: Socket, host: string, pin: string | null): void {
  if (!(socket instanceof TLSSocket)) throw refused(host, 'The connection is not encrypted.', null);
  const certificate = socket.getPeerCertificate();
  const fingerprint = (certificate.fingerprint256 as string | undefined)?.replaceAll(':', '').toLowerCase() ?? null;
  if (pin !== null) {
    if (fingerprint === pin) return;
    throw refused(host, 'It is not the certificate that was agreed upon.', fingerprint);
  }
  if (socket.authorized) return;
  throw refused(host, `It is not trusted: ${String(socket.authorizationError)}.`, fingerprint);
}

function refused(host: string, reason: string, fingerprint: string | null): AppError {
  return new AppError(
    'NOTIFICATION_CERTIFICATE',
    `The certificate of ${host} was refused. ${reason} Nothing was sent.`,
    {
      hint: 'Compare the fingerprint with that of the server, and accept it in the settings only if it agrees.',
      details: { host, fingerprint },
    },
  );
}
