import * as z from 'zod';
import type { RepositoryAddress, Sealed } from '../contract/task.ts';
import { MACHINE_KEY_PURPOSE, KEY_TEXT_PURPOSE } from '../orchestration/index.ts';
import type { Sealer } from '../queue/index.ts';
import { looksLikeRecoveryKey, type KeySecret } from '../repository/index.ts';

const machineKeySchema = z.object({ machineKey: z.string().regex(/^[0-9a-f]{64}$/) });
const textSchema = z.object({ text: z.string() });

/** What opens the repository of a task. @throws SECRET_UNREADABLE */
export function openAddressKey(sealer: Sealer, { key }: RepositoryAddress): KeySecret {
  if (key === undefined) return {};
  const { machineKey } = machineKeySchema.parse(sealer.open(MACHINE_KEY_PURPOSE, key));
  return { machineKey: Buffer.from(machineKey, 'hex') };
}

export function sealMachineKey(sealer: Sealer, machineKey: Buffer): Sealed {
  return sealer.seal(MACHINE_KEY_PURPOSE, { machineKey: machineKey.toString('hex') });
}

/** What somebody typed: a recovery key if it looks like one, else a passphrase. */
export function openTypedKey(sealer: Sealer, sealed: Sealed): KeySecret {
  const text = openText(sealer, sealed);
  return looksLikeRecoveryKey(text) ? { recoveryKey: text } : { passphrase: text };
}

export function openText(sealer: Sealer, sealed: Sealed): string {
  return textSchema.parse(sealer.open(KEY_TEXT_PURPOSE, sealed)).text;
}

export function sealText(sealer: Sealer, text: string): Sealed {
  return sealer.seal(KEY_TEXT_PURPOSE, { text });
}
