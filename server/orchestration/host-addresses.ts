import type { HostInput } from '../contract/api/host.schema.ts';
import type { Sealed } from '../contract/task.ts';
import type { HostRecord } from '../database/index.ts';
import type { Sealer } from '../queue/index.ts';

/** What the address of a host is sealed for; workers open it with the same word. */
export const ADDRESS_PURPOSE = 'host-address';

/** What opens a host. Both may be there: SSH takes the key then, the rest the password. */
export interface HostSecret {
  password: string | null;
  privateKey: string | null;
}

/** Secrets of a host at rest: bound to the host, so that they cannot be moved to another row. */
export function sealHostSecret(sealer: Sealer, hostId: string, secret: HostSecret): Sealed {
  const { password, privateKey } = secret;
  return sealer.seal(`host-secret ${hostId}`, { password, privateKey });
}

/** @throws SECRET_UNREADABLE */
export function openHostSecret(sealer: Sealer, host: Pick<HostRecord, 'id' | 'secret'>): HostSecret {
  return sealer.open(`host-secret ${host.id}`, host.secret) as HostSecret;
}

/**
 * The address as a worker needs it (`HostAddress` of `source`), sealed.
 * @throws SECRET_UNREADABLE
 */
export function sealHostAddress(sealer: Sealer, host: HostRecord): Sealed {
  return sealNewAddress(sealer, { ...host, ...openHostSecret(sealer, host) });
}

/** The address of a host that is not in the catalogue yet. */
export function sealNewAddress(sealer: Sealer, input: Omit<HostInput, 'name'>): Sealed {
  return sealer.seal(ADDRESS_PURPOSE, {
    host: input.host,
    sshPort: input.sshPort,
    httpsPort: input.httpsPort,
    user: input.user,
    ...(input.password === null ? {} : { password: input.password }),
    ...(input.privateKey === null ? {} : { privateKey: input.privateKey }),
    sshHostKey: input.sshHostKey,
    tlsCertificate: input.tlsCertificate,
  });
}
