import type { Host } from '../hostd/host.ts';
import { EsxcliError, required, type Handler } from './esxcli-result.ts';

/** `esxcli network firewall …`. The set for NFS is on as long as something is mounted, as on a host. */
export const FIREWALL: Record<string, Handler> = {
  'network firewall get': () => ({ blocks: [{ 'Default Action': 'DROP', Enabled: 'true', Loaded: 'true' }] }),
  'network firewall refresh': () => null,
  'network firewall ruleset list': (host, flags) => ({
    table: chosen(host, flags).map((ruleset) => ({
      Name: ruleset.name,
      Enabled: String(ruleset.enabled || (ruleset.name === 'nfsClient' && hasMounts(host))),
    })),
    columns: ['Name', 'Enabled'],
  }),
  'network firewall ruleset rule list': (host, flags) => ({
    table: chosen(host, flags).flatMap(({ name, rules }) =>
      rules.map(([direction, begin, end]) => ({
        Ruleset: name,
        Direction: direction,
        Protocol: 'TCP',
        'Port Type': 'Dst',
        'Port Begin': String(begin),
        'Port End': String(end),
      })),
    ),
    columns: ['Ruleset', 'Direction', 'Protocol', 'Port Type', 'Port Begin', 'Port End'],
    right: ['Port Begin', 'Port End'],
  }),
  'network firewall ruleset set': (host, flags) => {
    const ruleset = find(host, flags);
    const enabled = flags.get('e') ?? flags.get('enabled');
    const allowedAll = flags.get('a') ?? flags.get('allowed-all');
    if (enabled !== undefined) ruleset.enabled = enabled === 'true';
    if (allowedAll !== undefined) ruleset.allowedAll = allowedAll === 'true';
    return null;
  },
  'network firewall ruleset allowedip list': (host, flags) => ({
    table: chosen(host, flags).map(({ name, allowedAll, allowedAddresses }) => ({
      Ruleset: name,
      'Allowed IP Addresses': allowedAll ? 'All' : allowedAddresses.join(', '),
    })),
    columns: ['Ruleset', 'Allowed IP Addresses'],
  }),
  'network firewall ruleset allowedip add': (host, flags) => {
    const ruleset = find(host, flags);
    const address = required(flags, 'i', 'ip-address');
    if (ruleset.allowedAll) throw new EsxcliError('Please disable the allowed all flag to add an ip address.');
    if (ruleset.allowedAddresses.includes(address)) throw new EsxcliError('Already exist in allowed ip list.');
    ruleset.allowedAddresses.push(address);
    return null;
  },
  'network firewall ruleset allowedip remove': (host, flags) => {
    const ruleset = find(host, flags);
    const index = ruleset.allowedAddresses.indexOf(required(flags, 'i', 'ip-address'));
    if (index < 0) throw new EsxcliError('Not found in allowed ip list.');
    ruleset.allowedAddresses.splice(index, 1);
    return null;
  },
};

type Rulesets = Host['firewall']['rulesets'];

function chosen({ firewall }: Host, flags: Map<string, string>): Rulesets {
  const name = flags.get('r') ?? flags.get('ruleset-id');
  return name === undefined ? firewall.rulesets : firewall.rulesets.filter((ruleset) => ruleset.name === name);
}

function find(host: Host, flags: Map<string, string>): Rulesets[number] {
  const name = required(flags, 'r', 'ruleset-id');
  const ruleset = host.firewall.find(name);
  if (ruleset === undefined) throw new EsxcliError(`Ruleset ${name} not found.`);
  return ruleset;
}

function hasMounts(host: Host): boolean {
  return host.datastores.list().some(({ nfs }) => nfs !== null);
}
