import { AppError } from '../../errors/index.ts';
import { shell, type ShellCommand } from '../../ssh/index.ts';
import { parseCsv, parseKeyValues, parseTable } from './esxcli.ts';
import { commandFailed, type HostShell } from './host-shell.ts';

/** The software iSCSI adapter of a host, by `esxcli` (docs/vmware.md has the sources of the syntax). */

export interface HostAdapter {
  /** `vmhba64`; another number on each host. */
  name: string;
  /** By which the host logs in. */
  initiatorName: string;
}

export interface StaticTarget {
  name: string;
  /** `192.0.2.10:3260` */
  address: string;
}

/** A rescan of an adapter with dead paths takes this long and more; the device may be there before. */
const RESCAN_TIMEOUT_MS = 5 * 60_000;

export async function isInitiatorEnabled(host: HostShell, signal?: AbortSignal): Promise<boolean> {
  const text = await host.run(shell`esxcli iscsi software get`, 'ask for software iSCSI', {
    ...(signal && { signal }),
  });
  return /\btrue\b/i.test(text);
}

export async function setInitiatorEnabled(host: HostShell, isEnabled: boolean): Promise<void> {
  const what = isEnabled ? 'enable software iSCSI' : 'disable software iSCSI';
  await host.run(shell`esxcli iscsi software set ${`--enabled=${String(isEnabled)}`}`, what);
}

/** The software adapter, null while there is none. */
export async function findAdapter(host: HostShell, signal?: AbortSignal): Promise<HostAdapter | null> {
  const rows = await listRows(host, ['iscsi', 'adapter', 'list'], signal);
  const row = rows.find((one) => one['Driver'] === 'iscsi_vmk' || /software/i.test(one['Description'] ?? ''));
  const name = row?.['Adapter'];
  if (name === undefined || name === '') return null;
  const text = await host.run(shell`esxcli iscsi adapter get -A ${name}`, `look at ${name}`, {
    ...(signal && { signal }),
  });
  const initiatorName = parseKeyValues(text).get('Name') ?? '';
  if (initiatorName !== '') return { name, initiatorName };
  throw new AppError('HOST_ANSWER_UNREADABLE', `The host did not tell the iSCSI name of ${name}.`, {
    details: { adapter: name },
  });
}

export async function listStaticTargets(host: HostShell, adapter: string): Promise<StaticTarget[]> {
  const rows = await listRows(host, ['iscsi', 'adapter', 'discovery', 'statictarget', 'list', '-A', adapter]);
  return rows.flatMap((row) => {
    const name = pick(row, 'Target Name');
    return name === '' ? [] : [{ name, address: pick(row, 'Target Address') }];
  });
}

/** Whether anybody else's targets are configured on the adapter, by discovery or by name. */
export async function isAdapterInUse(host: HostShell, adapter: string): Promise<boolean> {
  if ((await listStaticTargets(host, adapter)).length > 0) return true;
  const sends = await listRows(host, ['iscsi', 'adapter', 'discovery', 'sendtarget', 'list', '-A', adapter]);
  return sends.length > 0 || (await listSessionTargets(host, adapter)).length > 0;
}

/** Names of the targets that the adapter is logged in to. */
export async function listSessionTargets(host: HostShell, adapter: string): Promise<string[]> {
  const text = await host.run(shell`esxcli iscsi session list -A ${adapter}`, 'list iSCSI sessions');
  return [...new Set([...text.matchAll(/^ +Target: (\S+)\s*$/gm)].map((match) => match[1] ?? ''))];
}

export async function addStaticTarget(host: HostShell, adapter: string, target: StaticTarget): Promise<void> {
  const command = shell`esxcli iscsi adapter discovery statictarget add -A ${adapter} -a ${target.address} -n ${target.name}`;
  await host.run(command, 'add an iSCSI target');
}

export async function removeStaticTarget(host: HostShell, adapter: string, target: StaticTarget): Promise<void> {
  const command = shell`esxcli iscsi adapter discovery statictarget remove -A ${adapter} -a ${target.address} -n ${target.name}`;
  await host.run(command, 'remove an iSCSI target');
}

/**
 * Sets CHAP for one target, which leaves the settings of the adapter, and so the user's own targets, alone.
 * @returns whether the host knows such a setting
 */
export async function setTargetChap(
  host: HostShell,
  adapter: string,
  target: StaticTarget,
  chap: { user: string; secret: string },
): Promise<boolean> {
  const result = await host.exec(
    shell`esxcli iscsi adapter target portal auth chap set -A ${adapter} --direction=uni --level=required ${`--authname=${chap.user}`} ${`--secret=${chap.secret}`} -a ${target.address} -n ${target.name}`,
    { isRepeatable: true },
  );
  return result.code === 0;
}

/** Looks for devices anew. One that takes too long goes on on the host by itself. */
export async function rescanAdapter(host: HostShell, adapter: string, signal?: AbortSignal): Promise<void> {
  const command = shell`esxcli storage core adapter rescan ${`--adapter=${adapter}`}`;
  await host.exec(command, { isRepeatable: true, timeoutMs: RESCAN_TIMEOUT_MS, ...(signal && { signal }) });
}

/** What the host says of a device: null when it has none of that name. */
export async function readDevice(
  host: HostShell,
  device: string,
  signal?: AbortSignal,
): Promise<{ path: string; sizeMib: number; isOn: boolean } | null> {
  const options = { isRepeatable: true, ...(signal && { signal }) };
  const { code, stdout } = await host.exec(shell`esxcli storage core device list -d ${device}`, options);
  if (code !== 0) return null;
  const values = parseKeyValues(stdout.toString('utf8'));
  const path = values.get('Devfs Path') ?? '';
  if (!path.endsWith(device)) return null;
  const status = (values.get('Status') ?? 'on').toLowerCase();
  return { path, sizeMib: Number(values.get('Size')), isOn: status === 'on' || status === 'degraded' };
}

/** Takes a device out of use. @throws HOST_COMMAND_FAILED while something holds it */
export async function detachDevice(host: HostShell, device: string): Promise<void> {
  // Commands of a clone that was ended are under way for a moment still.
  const command = shell`n=0; until esxcli storage core device set --state=off -d ${device}; do n=$((n+1)); [ $n -lt 10 ] || exit 1; sleep 1; done`;
  await host.run(command, 'detach an iSCSI disk');
}

/** The host remembers detached devices for ever, also those that are gone. */
export async function forgetDetached(host: HostShell, device: string): Promise<void> {
  const rows = await listRows(host, ['storage', 'core', 'device', 'detached', 'list']);
  if (rows.every((row) => !Object.values(row).includes(device))) return;
  await host.run(shell`esxcli storage core device detached remove -d ${device}`, 'forget a detached disk');
}

export async function removeSession(host: HostShell, adapter: string, target: string): Promise<void> {
  // A device whose path is dead is not detached first, so its last commands may be under way here too.
  const command = shell`n=0; until esxcli iscsi session remove -A ${adapter} -n ${target}; do n=$((n+1)); [ $n -lt 15 ] || exit 1; sleep 1; done`;
  await host.run(command, 'end an iSCSI session');
}

/** Rows of a listing: CSV first, the table where a version knows no CSV for it. */
export async function listRows(
  host: HostShell,
  words: readonly string[],
  signal?: AbortSignal,
): Promise<Record<string, string>[]> {
  const options = { isRepeatable: true, ...(signal && { signal }) };
  const csv = await host.exec(shell`esxcli --formatter=csv ${words}`, options);
  if (csv.code === 0) return parseCsv(csv.stdout.toString('utf8'));
  const command: ShellCommand = shell`esxcli ${words}`;
  const plain = await host.exec(command, options);
  if (plain.code !== 0) throw commandFailed(`answer "esxcli ${words.join(' ')}"`, plain);
  return parseTable(plain.stdout.toString('utf8'));
}

/** The CSV formatter writes the keys without blanks. */
export function pick(row: Record<string, string>, key: string): string {
  return row[key] ?? row[key.replaceAll(' ', '')] ?? '';
}
