import { identityOf } from '../../iscsi/index.ts';
import type { HostShell } from './host-shell.ts';
import {
  detachDevice,
  findAdapter,
  forgetDetached,
  isInitiatorEnabled,
  listSessionTargets,
  listStaticTargets,
  readDevice,
  removeSession,
  removeStaticTarget,
  rescanAdapter,
  type StaticTarget,
} from './iscsi-initiator.ts';

/**
 * Begins the name of every target that a hold is served. `invalid` is a domain that nobody has (RFC 2606), so no
 * product's names can be the same.
 */
const PREFIX = 'iqn.2026-01.invalid.dozo:';

/** @param attempt makes another device of each attempt, since hosts remember devices */
export function targetName(hold: string, key: string, attempt: string): string {
  return `${PREFIX}${hold}.${key.replace(':', '-')}.${attempt}`.toLowerCase();
}

/** By which the host knows the disk of a target: it follows from the target's name alone. */
export function deviceOf(target: string): string {
  return `naa.${identityOf(target).naa}`;
}

/**
 * Takes a target of ours from a host: device detached, session ended, the detached device forgotten, and last the
 * entry, since that is how a later run would find the rest; then a rescan. Whatever of it is gone already is passed by.
 * @throws HOST_COMMAND_FAILED
 */
export async function removeTarget(host: HostShell, adapter: string, target: StaticTarget): Promise<void> {
  const device = deviceOf(target.name);
  if ((await readDevice(host, device))?.isOn === true) await detachDevice(host, device);
  const hasSession = (await listSessionTargets(host, adapter)).includes(target.name);
  if (hasSession) await removeSession(host, adapter, target.name);
  const entry = (await listStaticTargets(host, adapter)).find(({ name }) => name === target.name);
  await forgetDetached(host, device);
  if (entry !== undefined) await removeStaticTarget(host, adapter, entry);
  if (entry !== undefined || hasSession) await rescanAdapter(host, adapter);
}

/** Takes every target of a hold from a host. @returns their names */
export async function removeHoldTargets(host: HostShell, hold: string): Promise<string[]> {
  if (!(await isInitiatorEnabled(host))) return [];
  const adapter = await findAdapter(host);
  if (adapter === null) return [];
  const begin = `${PREFIX}${hold}.`;
  const entries = await listStaticTargets(host, adapter.name);
  const sessions = await listSessionTargets(host, adapter.name);
  const names = new Set([...entries.map(({ name }) => name), ...sessions].filter((name) => name.startsWith(begin)));
  for (const name of names) {
    const address = entries.find((entry) => entry.name === name)?.address ?? '';
    await removeTarget(host, adapter.name, { name, address });
  }
  return [...names];
}
