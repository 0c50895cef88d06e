import { shell } from '../../ssh/index.ts';
import type { HostShell } from './host-shell.ts';
import { listRows, pick } from './iscsi-initiator.ts';

/** A set of firewall rules as it was before Dozo let one connection through it. */
export interface RulesetChange {
  ruleset: string;
  address: string;
  wasEnabled: boolean;
  wasOpenToAll: boolean;
}

/** Sets that let every port out and mean little else, in the order of preference; others after them. */
const PREFERRED = ['vSPC', 'remoteSerialPort', 'nfs41Client', 'nfsClient'];

interface Ruleset {
  name: string;
  isEnabled: boolean;
  /** Null: all. */
  addresses: string[] | null;
}

/** The sets of rules that would let a connection to that port out. */
async function findCandidates(host: HostShell, port: number): Promise<Ruleset[]> {
  const firewall = ['network', 'firewall', 'ruleset'];
  const rules = await listRows(host, [...firewall, 'rule', 'list']);
  const names = new Set(
    rules
      .filter(
        (row) =>
          /^out/i.test(pick(row, 'Direction')) &&
          /^tcp$/i.test(pick(row, 'Protocol')) &&
          Number(pick(row, 'Port Begin')) <= port &&
          port <= Number(pick(row, 'Port End')),
      )
      .map((row) => pick(row, 'Ruleset')),
  );
  const enabled = new Map(
    (await listRows(host, [...firewall, 'list'])).map((row) => [pick(row, 'Name'), /true/i.test(pick(row, 'Enabled'))]),
  );
  const allowed = new Map(
    (await listRows(host, [...firewall, 'allowedip', 'list'])).map((row) => [
      pick(row, 'Ruleset'),
      pick(row, 'Allowed IP Addresses'),
    ]),
  );
  return [...names].map((name) => {
    const addresses = allowed.get(name) ?? 'All';
    return {
      name,
      isEnabled: enabled.get(name) ?? false,
      addresses: /^\s*all\s*$/i.test(addresses) ? null : addresses.split(/[,\s]+/).filter((one) => one !== ''),
    };
  });
}

/**
 * Plans what to open so that the host may connect to a port of an address. Null: it may already, or no set of rules
 * of this host could let it.
 */
export async function planOpening(host: HostShell, address: string, port: number): Promise<RulesetChange | null> {
  const candidates = await findCandidates(host, port);
  if (candidates.some((one) => one.isEnabled && letsThrough(one, address))) return null;
  const rank = ({ name, isEnabled }: Ruleset): number => {
    const at = PREFERRED.indexOf(name);
    // One that is in use has a purpose of its own; it is only widened when there is no other.
    return (at < 0 ? PREFERRED.length : at) + (isEnabled ? 100 : 0);
  };
  const [best] = candidates.sort((a, b) => rank(a) - rank(b));
  if (best === undefined) return null;
  return { ruleset: best.name, address, wasEnabled: best.isEnabled, wasOpenToAll: best.addresses === null };
}

function letsThrough({ addresses }: Ruleset, address: string): boolean {
  return addresses === null || addresses.includes(address);
}

/** Goes on from whatever an interruption left. @throws HOST_COMMAND_FAILED */
export async function openRuleset(host: HostShell, { ruleset, address, wasEnabled }: RulesetChange): Promise<void> {
  const what = `open the firewall for ${address}`;
  // Restricted before it is enabled, so that it never stands open to all.
  await host.run(shell`esxcli network firewall ruleset set -r ${ruleset} --allowed-all false`, what);
  if (!(await isListed(host, ruleset, address)))
    await host.run(shell`esxcli network firewall ruleset allowedip add -r ${ruleset} -i ${address}`, what);
  if (!wasEnabled) await host.run(shell`esxcli network firewall ruleset set -r ${ruleset} -e true`, what);
}

/** Brings a set of rules back to what it was, from whatever an interruption left. Idempotent. */
export async function restoreRuleset(host: HostShell, change: RulesetChange): Promise<void> {
  const { ruleset, address, wasEnabled, wasOpenToAll } = change;
  const what = 'restore the firewall';
  if (!wasEnabled) await host.run(shell`esxcli network firewall ruleset set -r ${ruleset} -e false`, what);
  if (await isListed(host, ruleset, address))
    await host.run(shell`esxcli network firewall ruleset allowedip remove -r ${ruleset} -i ${address}`, what);
  if (wasOpenToAll) await host.run(shell`esxcli network firewall ruleset set -r ${ruleset} --allowed-all true`, what);
}

async function isListed(host: HostShell, ruleset: string, address: string): Promise<boolean> {
  const rows = await listRows(host, ['network', 'firewall', 'ruleset', 'allowedip', 'list', '-r', ruleset]);
  return rows.some((row) =>
    pick(row, 'Allowed IP Addresses')
      .split(/[,\s]+/)
      .includes(address),
  );
}
