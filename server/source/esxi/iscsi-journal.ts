import { AppError } from '../../errors/index.ts';
import type { Clock } from '../../runtime/index.ts';
import { shell } from '../../ssh/index.ts';
import { holdingLock } from './host-lock.ts';
import type { HostShell } from './host-shell.ts';
import { openRuleset, planOpening, restoreRuleset, type RulesetChange } from './iscsi-firewall.ts';
import {
  findAdapter,
  isAdapterInUse,
  isInitiatorEnabled,
  setInitiatorEnabled,
  type HostAdapter,
} from './iscsi-initiator.ts';

/**
 * What Dozo changes on a host as a whole to be reached by iSCSI: the software initiator, which it enables where it was
 * off, and the firewall, which it opens where the port is not the usual one. Each change is written into the hold's
 * folder before it is made, so that any later run can take it back; holds that need the same change write it down
 * each, and the last one of them takes it back.
 */

/** One hold at a time changes a host. */
const LOCK = 'dozo-iscsi';
const ENABLED = 'iscsi-enabled';
const OPENED = 'iscsi-opened';

const ADAPTER_ATTEMPTS = 20;
const ADAPTER_POLL_MS = 500;
const DISABLE_ATTEMPTS = 5;
const DISABLE_POLL_MS = 2_000;

/** Which hold speaks, and where it writes. */
export interface JournalPlace {
  /** The hold's folder on a datastore; there already. */
  folder: string;
  /** Tells this host's entries from those of others that share a datastore. */
  hostUuid: string;
}

export async function readHostUuid(host: HostShell, signal?: AbortSignal): Promise<string> {
  const text = await host.run(shell`esxcli system uuid get`, 'tell its identity', { ...(signal && { signal }) });
  return text
    .trim()
    .replace(/[^0-9a-zA-Z-]/g, '')
    .slice(0, 64);
}

/** The software adapter, enabled if need be. @throws HOST_COMMAND_FAILED when the host has none */
export async function useInitiator(
  host: HostShell,
  clock: Clock,
  place: JournalPlace,
  signal: AbortSignal,
): Promise<HostAdapter> {
  await holdingLock(host, LOCK, signal, async (held) => {
    const isEnabled = await isInitiatorEnabled(held, signal);
    if (!isEnabled || (await others(held, place, ENABLED)).length > 0) await note(held, place, ENABLED, '');
    if (!isEnabled) await setInitiatorEnabled(held, true);
  });
  for (let attempt = 0; attempt < ADAPTER_ATTEMPTS; attempt += 1) {
    const adapter = await findAdapter(host, signal);
    if (adapter !== null) return adapter;
    await clock.sleep(ADAPTER_POLL_MS, signal);
  }
  throw new AppError('HOST_COMMAND_FAILED', 'The host enabled software iSCSI but shows no adapter for it.', {
    hint: 'Look at Storage, Adapters in the Host Client.',
  });
}

/** Lets the host connect to a port of ours. @returns the set of rules that was opened for it, if one was */
export async function openWay(
  host: HostShell,
  place: JournalPlace,
  portal: { address: string; port: number },
  signal: AbortSignal,
): Promise<string | null> {
  return await holdingLock(host, LOCK, signal, async (held) => {
    const isForUs = ({ content }: { content: string }): boolean => parseChange(content)?.address === portal.address;
    const earlier = (await others(held, place, OPENED)).find(isForUs);
    if (earlier !== undefined) await note(held, place, OPENED, earlier.content);
    const plan = await planOpening(held, portal.address, portal.port);
    if (plan === null) return null;
    // Half opened by an attempt that was interrupted: what was there before it stands in its note alone.
    const content = earlier?.content ?? (await own(held, place, OPENED));
    const begun = content === null || !isForUs({ content }) ? null : parseChange(content);
    const change = begun?.ruleset === plan.ruleset ? begun : plan;
    await note(held, place, OPENED, encodeChange(change));
    await openRuleset(held, change);
    return change.ruleset;
  });
}

/**
 * Takes back what a hold changed, unless another hold still needs it. Idempotent; does nothing for a hold that
 * changed nothing.
 * @returns what was taken back, in words
 * @throws HOST_COMMAND_FAILED
 */
export async function takeBackChanges(
  host: HostShell,
  clock: Clock,
  place: JournalPlace,
  signal?: AbortSignal,
): Promise<string[]> {
  const enabled = await own(host, place, ENABLED);
  const opened = await own(host, place, OPENED);
  if (enabled === null && opened === null) return [];
  return await holdingLock(host, LOCK, signal, async (held) => {
    const done: string[] = [];
    if (opened !== null) {
      const change = parseChange(opened);
      const isShared = (await others(held, place, OPENED)).some(({ content }) => content === opened);
      if (change !== null && !isShared) {
        await restoreRuleset(held, change);
        done.push(`firewall rule ${change.ruleset}`);
      }
      await forget(held, place, OPENED);
    }
    if (enabled !== null) {
      const isShared = (await others(held, place, ENABLED)).length > 0;
      if (!isShared && (await disableUnused(held, clock))) done.push('software iSCSI');
      await forget(held, place, ENABLED);
    }
    return done;
  });
}

/** What somebody has begun to use meanwhile stays. @returns whether it is off now */
async function disableUnused(host: HostShell, clock: Clock): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    if (!(await isInitiatorEnabled(host))) return true;
    const adapter = await findAdapter(host);
    if (adapter !== null && (await isAdapterInUse(host, adapter.name))) return false;
    try {
      await setInitiatorEnabled(host, false);
      return true;
    } catch (error) {
      // The last session may need a moment to end.
      if (attempt >= DISABLE_ATTEMPTS) throw error;
      await clock.sleep(DISABLE_POLL_MS);
    }
  }
}

function pathOf({ folder, hostUuid }: JournalPlace, entry: string): string {
  return `${folder}/${entry}.${hostUuid}`;
}

async function note(host: HostShell, place: JournalPlace, entry: string, content: string): Promise<void> {
  await host.writeFile(pathOf(place, entry), Buffer.from(`${content}\n`));
}

async function own(host: HostShell, place: JournalPlace, entry: string): Promise<string | null> {
  const content = await host.readFileIfThere(pathOf(place, entry));
  return content === null ? null : content.toString('utf8').trim();
}

async function forget(host: HostShell, place: JournalPlace, entry: string): Promise<void> {
  await host.run(shell`rm -f -- ${pathOf(place, entry)}`, 'forget a change of its iSCSI settings');
}

/** The same entry of other holds on this host, wherever their folders lie. */
async function others(
  host: HostShell,
  place: JournalPlace,
  entry: string,
): Promise<{ hold: string; content: string }[]> {
  const script =
    'for f in /vmfs/volumes/*/.dozo-*/"$1"; do [ -f "$f" ] && printf "%s\\0%s\\0" "$f" "$(cat "$f")"; done; true';
  const text = await host.run(shell`sh -c ${script} dozo ${`${entry}.${place.hostUuid}`}`, 'look for other backups');
  const ownHold = holdOf(`${place.folder}/x`);
  const found = new Map<string, string>();
  const parts = text.split('\0');
  for (let at = 0; at + 1 < parts.length; at += 2) {
    const hold = holdOf(parts[at] ?? '');
    if (hold !== '' && hold !== ownHold) found.set(hold, (parts[at + 1] ?? '').trim());
  }
  return [...found].map(([hold, content]) => ({ hold, content }));
}

function holdOf(path: string): string {
  return path.split('/').at(-2) ?? '';
}

function encodeChange({ ruleset, address, wasEnabled, wasOpenToAll }: RulesetChange): string {
  return [ruleset, address, wasEnabled ? 'enabled' : 'disabled', wasOpenToAll ? 'all' : 'some'].join(' ');
}

function parseChange(text: string): RulesetChange | null {
  const [ruleset, address, enabled, all] = text.split(' ');
  if (ruleset === undefined || address === undefined || enabled === undefined || all === undefined) return null;
  return { ruleset, address, wasEnabled: enabled === 'enabled', wasOpenToAll: all === 'all' };
}
