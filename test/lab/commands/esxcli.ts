import { setTimeout as delay } from 'node:timers/promises';
import type { Host } from '../hostd/host.ts';
import type { Command, Invocation } from './command.ts';
import { FIREWALL } from './esxcli-firewall.ts';
import { ISCSI } from './esxcli-iscsi.ts';
import { EsxcliError, type Handler, type Result, type Row } from './esxcli-result.ts';
import { addNfs, removeDatastore } from './nfs-mounts.ts';

const IS_CHANGE = /^(iscsi|network firewall|storage core) .*(set|add|remove|rescan)$/;

export const esxcli: Command = async (host, call) => {
  const words: string[] = [];
  let formatter = '';
  for (const arg of call.args) {
    if (arg.startsWith('--formatter=')) formatter = arg.slice('--formatter='.length);
    else words.push(arg);
  }
  const flagsAt = words.findIndex((word) => word.startsWith('-'));
  const path = (flagsAt < 0 ? words : words.slice(0, flagsAt)).join(' ');
  const handler = HANDLERS[path];
  if (handler === undefined) {
    call.out(`Error: Unknown command or namespace ${path}\n`);
    return 1;
  }
  if (IS_CHANGE.test(path)) await standStill(host, call);
  if (call.signal.aborted) return 255;
  try {
    const result = await handler(host, flags(flagsAt < 0 ? [] : words.slice(flagsAt)), call);
    if (result !== null) call.out(render(result, formatter));
    return 0;
  } catch (error) {
    if (!(error instanceof EsxcliError)) throw error;
    call.out(error.message + '\n');
    return 1;
  }
};

/** Waits where a switch says so, unless it is killed. The end of its SSH connection does not kill it. */
async function standStill(host: Host, call: Invocation): Promise<void> {
  host.iscsiChanges.begun += 1;
  if (host.iscsiChanges.begun !== host.switches.iscsiChangeWaitsAt) return;
  host.iscsiChanges.waiting += 1;
  while (host.switches.iscsiChangeWaitsAt !== null && !call.signal.aborted) await delay(20);
  host.iscsiChanges.waiting -= 1;
}

/** `-H x`, `--host=x`, `--host x`, `--readonly`. */
function flags(words: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    const equals = word.indexOf('=');
    if (word.startsWith('--') && equals > 0) found.set(word.slice(2, equals), word.slice(equals + 1));
    else {
      const next = words[index + 1];
      const name = word.replace(/^--?/, '');
      if (next !== undefined && !next.startsWith('-')) {
        found.set(name, next);
        index += 1;
      } else found.set(name, '');
    }
  }
  return found;
}

const HANDLERS: Record<string, Handler> = {
  ...FIREWALL,
  ...ISCSI,
  'system version get': ({ profile }) => ({
    blocks: [
      {
        Product: 'VMware ESXi',
        Version: profile.version,
        Build: `Releasebuild-${profile.build}`,
        Update: String(profile.update),
        Patch: String(profile.patch),
      },
    ],
  }),
  'system hostname get': ({ hostName }) => ({
    blocks: [{ 'Domain Name': '', 'Fully Qualified Domain Name': hostName, 'Host Name': hostName }],
  }),
  'system uuid get': ({ uuid }) => ({ text: uuid + '\n' }),
  'system time get': () => ({ text: new Date().toISOString().replace(/\.\d+Z$/, 'Z') + '\n' }),
  'system module list': () => ({
    table: [{ Name: 'vmkernel', 'Is Loaded': 'true', 'Is Enabled': 'true' }],
    columns: ['Name', 'Is Loaded', 'Is Enabled'],
  }),
  'system module load': () => null,
  'system settings advanced list': (_host, options) => {
    const option = options.get('o') ?? options.get('option') ?? '';
    return { blocks: [{ Path: option, Type: 'integer', 'Int Value': '0', 'Default Int Value': '0' }], title: '' };
  },
  'system account list': ({ options }) => ({
    table: [{ 'User ID': options.user ?? 'root', Description: 'Administrator' }],
    columns: ['User ID', 'Description'],
  }),
  'hardware platform get': ({ uuid }) => ({
    blocks: [{ UUID: uuid, 'Product Name': 'Lab', 'Vendor Name': 'Lab' }],
    title: 'Platform Information',
  }),
  'storage filesystem list': (host) => ({
    table: host.state().datastores.map((store) => ({
      'Mount Point': store.url.replace(/\/$/, ''),
      'Volume Name': store.name,
      UUID: store.uuid,
      Mounted: 'true',
      Type: store.type,
      Size: String(store.capacityBytes),
      Free: String(store.freeBytes),
    })),
    columns: ['Mount Point', 'Volume Name', 'UUID', 'Mounted', 'Type', 'Size', 'Free'],
    right: ['Mounted', 'Size', 'Free'],
  }),
  'storage vmfs extent list': (host) => ({
    table: host
      .state()
      .datastores.filter((store) => store.nfs === null)
      .map((store) => ({
        'Volume Name': store.name,
        'VMFS UUID': store.uuid,
        'Extent Number': '0',
        'Device Name': 'naa.600508b1001c0000',
        Partition: '1',
      })),
    columns: ['Volume Name', 'VMFS UUID', 'Extent Number', 'Device Name', 'Partition'],
  }),
  'storage nfs list': (host) => ({
    table: host.state().datastores.flatMap((store) =>
      store.nfs === null
        ? []
        : [
            {
              'Volume Name': store.name,
              Host: store.nfs.host,
              Share: store.nfs.share,
              Accessible: String(store.accessible),
              Mounted: 'true',
              'Read-Only': String(store.nfs.readOnly),
              isPE: 'false',
              'Hardware Acceleration': 'Not Supported',
            },
          ],
    ),
    columns: ['Volume Name', 'Host', 'Share', 'Accessible', 'Mounted', 'Read-Only', 'isPE', 'Hardware Acceleration'],
    right: ['Accessible', 'Mounted', 'Read-Only', 'isPE'],
  }),
  'storage nfs add': async (host, options) => {
    const failed = await addNfs(host, {
      name: options.get('v') ?? options.get('volume-name') ?? '',
      server: options.get('H') ?? options.get('host') ?? '',
      share: options.get('s') ?? options.get('share') ?? '',
      isReadOnly: options.has('r') || options.has('readonly'),
    });
    if (failed !== null) throw new EsxcliError(failed);
    return null;
  },
  'storage nfs remove': async (host, options) => {
    const failed = await removeDatastore(host, options.get('v') ?? options.get('volume-name') ?? '');
    if (failed !== null) throw new EsxcliError(failed);
    return null;
  },
  'storage nfs41 list': () => ({ table: [], columns: ['Volume Name', 'Host(s)', 'Share', 'Accessible', 'Mounted'] }),
  'vm process list': (host) => ({
    blocks: host
      .vms()
      .filter((vm) => vm.power === 'poweredOn')
      .map((vm) => {
        const state = vm.toState();
        return {
          '': vm.name,
          'World ID': String(2100431 + vm.id * 2),
          'Process ID': '0',
          'VMX Cartel ID': String(2100430 + vm.id * 2),
          UUID: vm.vmx.get('uuid.bios') ?? '',
          'Display Name': vm.name,
          'Config File': state.vmxAbsolutePath,
        };
      }),
  }),
};

function render(result: Result, formatter: string): string {
  if ('text' in result) return result.text;
  const rows = 'table' in result ? result.table : result.blocks;
  const columns = 'table' in result ? result.columns : [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const compact = (name: string) => name.replace(/[^A-Za-z0-9]/g, '');
  const named = columns.filter((column) => column !== '');
  switch (formatter) {
    case 'csv':
      return (
        named.map((column) => compact(column) + ',').join('') +
        '\n' +
        rows.map((row) => named.map((column) => csvField(row[column] ?? '') + ',').join('') + '\n').join('')
      );
    case 'json':
      return (
        JSON.stringify(
          rows.map((row) => Object.fromEntries(named.map((column) => [compact(column), row[column] ?? '']))),
          null,
          3,
        ) + '\n'
      );
    case 'keyvalue':
      return rows
        .map((row, index) =>
          named.map((column) => `structure[${index}].${compact(column)}.string=${row[column] ?? ''}\n`).join(''),
        )
        .join('');
    default:
      return 'table' in result ? renderTable(result) : renderBlocks(result);
  }
}

function csvField(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function renderTable({ table, columns, right }: { table: Row[]; columns: string[]; right?: string[] }): string {
  const widths = columns.map((column) => Math.max(column.length, ...table.map((row) => (row[column] ?? '').length)));
  const line = (row: Row) =>
    columns
      .map((column, index) => {
        const text = row[column] ?? '';
        const width = widths[index] ?? 0;
        return right?.includes(column) === true ? text.padStart(width) : text.padEnd(width);
      })
      .join('  ')
      .trimEnd() + '\n';
  const header = columns
    .map((column, index) => column.padEnd(widths[index] ?? 0))
    .join('  ')
    .trimEnd();
  return `${header}\n${widths.map((width) => '-'.repeat(width)).join('  ')}\n${table.map(line).join('')}`;
}

function renderBlocks({ blocks, title }: { blocks: Row[]; title?: string }): string {
  return blocks
    .map((row) => {
      const head = row[''] ?? title;
      const lines = Object.entries(row).filter(([key]) => key !== '');
      return (
        (head === undefined || head === '' ? '' : `${head}\n`) +
        lines.map(([key, value]) => `   ${key}: ${value}\n`).join('')
      );
    })
    .join('\n');
}
