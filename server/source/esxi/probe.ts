import { AppError } from '../../errors/index.ts';
import { shell } from '../../ssh/index.ts';
import type { VsphereClient } from '../../vsphere/index.ts';
import type { HostAddress, HostFacts, Note } from '../source.ts';
import type { HostShell } from './host-shell.ts';
import { parseMachineList } from './vim-cmd.ts';
import { lastWords } from './vmkfstools.ts';

/** Versions that Dozo was written for; others are used as well, with a word of caution. */
const KNOWN_VERSION = /^(?:6\.[057]|7\.0|8\.0|9\.0)(?:\.|$)/;

/**
 * Who the host is and what it lets us do. What only behaviour tells (writing calls, change tracking,
 * routes) is taken over from `remembered` as long as build and edition are the same.
 *
 * @throws HOST_NOT_ESXI, HOST_NOT_ADMINISTRATOR, HOST_LOCKDOWN
 */
export async function probeHost(
  host: HostShell,
  vsphere: VsphereClient,
  address: HostAddress,
  remembered: HostFacts | undefined,
): Promise<HostFacts> {
  const { about } = vsphere;
  const [licenses, lockdown] = await Promise.all([vsphere.licenses(), vsphere.lockdownMode()]);
  const { edition, name: licenseName } = judgeLicense(licenses);
  const version = await host.exec(shell`vmware -v; hostname`, { isRepeatable: true });
  const [product = '', hostName = ''] = version.stdout.toString('utf8').trim().split('\n');
  if (about.apiType === 'HostAgent' && version.code !== 0 && !/ESX/i.test(product)) {
    // A program that only says so stands in the shell's place.
    throw new AppError('HOST_NOT_ADMINISTRATOR', `${address.host} gives the account ${address.user} no shell.`, {
      hint: 'Use root, or give the account the role Administrator and shell access on the host.',
      details: { host: address.host, user: address.user, words: lastWords(`${product}\n${version.stderr}`) },
    });
  }
  if (about.apiType !== 'HostAgent' || !/ESX/i.test(product)) {
    throw new AppError('HOST_NOT_ESXI', `${address.host} is not an ESXi host.`, {
      hint: 'Give the address of the ESXi host itself; a vCenter or another system cannot be used.',
      details: { host: address.host, product: product.slice(0, 100) },
    });
  }
  const warnings: Note[] = [];
  const list = await host.exec(shell`vim-cmd vmsvc/getallvms`, { isRepeatable: true });
  if (list.code !== 0) {
    throw new AppError('HOST_NOT_ADMINISTRATOR', `The account ${address.user} may not manage ${address.host}.`, {
      hint: 'Use root, or give the account the role Administrator and shell access on the host.',
      details: { host: address.host, user: address.user, words: lastWords(list.stderr) },
    });
  }
  const { invalidIds } = parseMachineList(list.stdout.toString('utf8'));
  if (invalidIds.length > 0) {
    const text = `The host has ${String(invalidIds.length)} machines that it cannot read; they are not backed up.`;
    warnings.push({ level: 'warning', code: 'MACHINES_INVALID', text, details: { ids: invalidIds.join(', ') } });
  }
  if (lockdown !== null && lockdown !== 'lockdownDisabled') {
    const text = 'The host is in lockdown mode; this account is an exception and works as long as it stays one.';
    warnings.push({ level: 'warning', code: 'HOST_LOCKDOWN', text, details: { mode: lockdown } });
  }
  if (!KNOWN_VERSION.test(about.version)) {
    const text = `ESXi ${about.version} is newer than this version of Dozo knows. What it can do is found out by trying.`;
    warnings.push({ level: 'warning', code: 'HOST_VERSION_UNKNOWN', text, details: { version: about.version } });
  }
  const isSame = remembered !== undefined && remembered.build === about.build && remembered.edition === edition;
  return {
    product: product.slice(0, 200),
    version: about.version,
    build: about.build,
    edition,
    licenseName,
    hostName: hostName.trim() === '' ? address.host : hostName.trim(),
    sshHostKey: host.hostKey,
    tlsCertificate: vsphere.certificate,
    // The free edition refuses all of them; the first try elsewhere decides.
    soapWrites: edition === 'free' ? 'refused' : isSame ? remembered.soapWrites : 'unknown',
    changeTracking: isSame ? remembered.changeTracking : 'unknown',
    routes: isSame ? { ...remembered.routes } : {},
    ...(isSame && remembered.rates !== undefined && { rates: remembered.rates }),
    ...(isSame && remembered.iscsiRefusedAtMs !== undefined && { iscsiRefusedAtMs: remembered.iscsiRefusedAtMs }),
    warnings,
  };
}

function judgeLicense(licenses: readonly { editionKey: string; name: string }[]): {
  edition: HostFacts['edition'];
  name: string;
} {
  const [first] = licenses;
  const name = first?.name ?? '';
  const key = (first?.editionKey ?? '').toLowerCase();
  if (key === 'eval' || /evaluation/i.test(name)) return { edition: 'evaluation', name };
  if (/^esx\.hypervisor|^esxifree/.test(key) || /hypervisor.*free|free.*hypervisor/i.test(name))
    return { edition: 'free', name };
  return { edition: 'licensed', name };
}
