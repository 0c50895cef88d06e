type Rule = [direction: 'Inbound' | 'Outbound', portBegin: number, portEnd: number];

interface Ruleset {
  readonly name: string;
  readonly rules: readonly Rule[];
  enabled: boolean;
  allowedAll: boolean;
  allowedAddresses: string[];
}

const RULESETS: [name: string, enabled: boolean, rules: Rule[]][] = [
  ['sshServer', true, [['Inbound', 22, 22]]],
  ['sshClient', false, [['Outbound', 22, 22]]],
  ['nfsClient', false, [['Outbound', 0, 65535]]],
  ['nfs41Client', false, [['Outbound', 0, 65535]]],
  ['iSCSI', false, [['Outbound', 3260, 3260]]],
  // prettier-ignore
  ['NFC', true, [['Inbound', 902, 902], ['Outbound', 902, 902]]],
  // prettier-ignore
  ['vSphereClient', true, [['Inbound', 902, 902], ['Inbound', 443, 443]]],
  ['webAccess', true, [['Inbound', 80, 80]]],
  // prettier-ignore
  ['httpClient', false, [['Outbound', 80, 80], ['Outbound', 443, 443]]],
  // prettier-ignore
  ['remoteSerialPort', false, [['Inbound', 23, 23], ['Inbound', 1024, 65535], ['Outbound', 0, 65535]]],
  ['vSPC', false, [['Outbound', 0, 65535]]],
];

/** The host's firewall: drops what no enabled set of rules lets through. Only connections of the initiator ask it. */
export class Firewall {
  readonly rulesets: readonly Ruleset[] = RULESETS.map(([name, enabled, rules]) => {
    return { name, rules, enabled, allowedAll: true, allowedAddresses: [] };
  });

  find(name: string): Ruleset | undefined {
    return this.rulesets.find((ruleset) => ruleset.name === name);
  }

  letsOut(address: string, port: number): boolean {
    return this.rulesets.some(
      ({ enabled, allowedAll, allowedAddresses, rules }) =>
        enabled &&
        (allowedAll || allowedAddresses.includes(address)) &&
        rules.some(([direction, begin, end]) => direction === 'Outbound' && begin <= port && port <= end),
    );
  }
}
