import type { Host } from '../hostd/host.ts';
import { IscsiRefusal, type ChapSettings, type IscsiDevice } from '../hostd/software-iscsi.ts';
import { EsxcliError, required, type Handler, type Row } from './esxcli-result.ts';

/** `esxcli iscsi …` and `esxcli storage core …`: the software initiator and the devices that it brings. */
export const ISCSI: Record<string, Handler> = {
  'iscsi software get': ({ iscsi }) => ({ text: `${iscsi.enabled}\n` }),
  'iscsi software set': async ({ iscsi }, flags) => {
    const enabled = required(flags, 'e', 'enabled') === 'true';
    await refusing(() => iscsi.setEnabled(enabled));
    return { text: `Software iSCSI ${enabled ? 'Enabled' : 'Disabled'}\n` };
  },
  'iscsi adapter list': ({ iscsi }) => ({
    table: iscsi.enabled
      ? [
          {
            Adapter: iscsi.adapter,
            Driver: 'iscsi_vmk',
            State: 'online',
            UID: `iscsi.${iscsi.adapter}`,
            Description: 'iSCSI Software Adapter',
          },
        ]
      : [],
    columns: ['Adapter', 'Driver', 'State', 'UID', 'Description'],
  }),
  'iscsi adapter get': (host, flags) => {
    const { adapter, initiator } = adapterOf(host, flags);
    return { blocks: [{ '': adapter, Name: initiator, Alias: '', Vendor: 'VMware', Model: 'iSCSI Software Adapter' }] };
  },
  'iscsi adapter discovery rediscover': (host, flags) => {
    adapterOf(host, flags);
    return null;
  },
  'iscsi adapter discovery sendtarget list': (host, flags) => {
    adapterOf(host, flags);
    return { table: [], columns: ['Adapter', 'Send Target'] };
  },
  'iscsi adapter discovery statictarget list': (host, flags) => {
    const { adapter, statics } = adapterOf(host, flags);
    return {
      table: statics.map(({ name, address, port }) => ({
        Adapter: adapter,
        'Target Name': name,
        'Target Address': `${address}:${port}`,
      })),
      columns: ['Adapter', 'Target Name', 'Target Address'],
    };
  },
  'iscsi adapter discovery statictarget add': (host, flags) => {
    const { statics } = adapterOf(host, flags);
    const entry = { name: required(flags, 'n', 'name'), ...portalOf(required(flags, 'a', 'address')) };
    if (statics.some(({ name, address }) => name === entry.name && address === entry.address)) {
      throw new EsxcliError('Unable to add static target. Error was: IMA_ERROR_OBJECT_ALREADY_EXISTS');
    }
    statics.push(entry);
    return null;
  },
  'iscsi adapter discovery statictarget remove': (host, flags) => {
    const { statics, targetChap } = adapterOf(host, flags);
    const wanted = { name: required(flags, 'n', 'name'), ...portalOf(required(flags, 'a', 'address')) };
    const at = statics.findIndex((one) => one.name === wanted.name && one.address === wanted.address);
    if (at < 0) throw new EsxcliError('Unable to remove static target. Error was: IMA_ERROR_OBJECT_NOT_FOUND');
    statics.splice(at, 1);
    targetChap.delete(wanted.name);
    return null;
  },
  'iscsi adapter auth chap set': (host, flags) => {
    setChap(adapterOf(host, flags).chap, flags);
    return null;
  },
  'iscsi adapter target portal auth chap set': (host, flags) => {
    const { statics, targetChap } = adapterOf(host, flags);
    if (host.switches.iscsiTargetChap === 'unknown') {
      throw new EsxcliError('Error: Unknown command or namespace iscsi adapter target portal auth chap set');
    }
    const name = required(flags, 'n', 'name');
    required(flags, 'a', 'address');
    if (statics.every((entry) => entry.name !== name)) {
      throw new EsxcliError(`Unable to find target ${name}. Error was: IMA_ERROR_OBJECT_NOT_FOUND`);
    }
    const settings = targetChap.get(name) ?? { uni: null, mutual: null };
    setChap(settings, flags);
    targetChap.set(name, settings);
    return null;
  },
  'iscsi session list': (host, flags) => {
    const { adapter } = adapterOf(host, flags);
    return {
      blocks: host.iscsi.sessions().map(({ entry }, index) => {
        const isid = `00023d${String(index + 1).padStart(6, '0')}`;
        return {
          '': `${adapter},${entry.name},${isid}`,
          Adapter: adapter,
          Target: entry.name,
          ISID: isid,
          TargetPortalGroupTag: '1',
          AuthenticationMethod: 'chap',
          DataPduInOrder: 'true',
        };
      }),
    };
  },
  'iscsi session remove': async (host, flags) => {
    adapterOf(host, flags);
    await refusing(() => host.iscsi.removeSession(required(flags, 'n', 'name')));
    return null;
  },
  'storage core adapter list': ({ iscsi }) => ({
    table: iscsi.enabled
      ? [
          {
            'HBA Name': iscsi.adapter,
            Driver: 'iscsi_vmk',
            'Link State': 'online',
            UID: iscsi.initiator,
            Description: '',
          },
        ]
      : [],
    columns: ['HBA Name', 'Driver', 'Link State', 'UID', 'Description'],
  }),
  'storage core adapter rescan': async (host, flags) => {
    if (!flags.has('all') && !flags.has('a')) adapterOf(host, flags, 'A', 'adapter');
    if (host.iscsi.enabled) await host.iscsi.rescan();
    return null;
  },
  'storage core device list': (host, flags) => ({ blocks: chosenDevices(host, flags).map(describeDevice) }),
  'storage core path list': (host, flags) => ({
    blocks: chosenDevices(host, flags).map((device) => ({
      '': `${host.iscsi.initiator}-00023d000001,${device.session.entry.name},t,1-${device.name}`,
      'Runtime Name': `${host.iscsi.adapter}:C0:T0:L0`,
      Device: device.name,
      'Device Display Name': displayName(device),
      Adapter: host.iscsi.adapter,
      LUN: '0',
      Plugin: 'NMP',
      State: device.isDetached ? 'off' : device.isAlive ? 'active' : 'dead',
      Transport: 'iscsi',
    })),
  }),
  'storage core device set': async (host, flags) => {
    const device = required(flags, 'd', 'device');
    const state = flags.get('state');
    if (state === 'on' || state === 'off') await refusing(() => host.iscsi.setDeviceState(device, state));
    return null;
  },
  'storage core device detached list': ({ iscsi }) => ({
    table: [...iscsi.detached].map((name) => ({ 'Device UID': name, State: 'off' })),
    columns: ['Device UID', 'State'],
  }),
  'storage core device detached remove': ({ iscsi }, flags) => {
    const device = required(flags, 'd', 'device');
    if (!iscsi.detached.delete(device)) throw new EsxcliError(`Unable to find detached device ${device}.`);
    return null;
  },
};

function adapterOf(host: Host, flags: Map<string, string>, letter = 'A', name = 'adapter'): Host['iscsi'] {
  const wanted = required(flags, letter, name);
  if (host.iscsi.enabled && wanted === host.iscsi.adapter) return host.iscsi;
  throw new EsxcliError(`Unable to find adapter ${wanted}. Error was: IMA_ERROR_INVALID_OBJECT_TYPE`);
}

function portalOf(text: string): { address: string; port: number } {
  const match = /^\[?(.*?)\]?(?::(\d+))?$/.exec(text);
  return { address: match?.[1] ?? text, port: Number(match?.[2] ?? 3260) };
}

function setChap(settings: ChapSettings, flags: Map<string, string>): void {
  const direction = required(flags, 'd', 'direction');
  const level = flags.get('l') ?? flags.get('level') ?? '';
  if (flags.has('D') || flags.has('default') || level === 'prohibited') {
    settings.uni = settings.mutual = null;
    return;
  }
  const chap = { user: required(flags, 'N', 'authname'), secret: required(flags, 'S', 'secret') };
  if (direction === 'mutual') settings.mutual = chap;
  else settings.uni = chap;
}

/** @throws EsxcliError with the words of the adapter */
async function refusing(work: () => Promise<void> | void): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw error instanceof IscsiRefusal ? new EsxcliError(error.message) : error;
  }
}

function chosenDevices({ iscsi }: Host, flags: Map<string, string>): IscsiDevice[] {
  const name = flags.get('d') ?? flags.get('device');
  if (name === undefined) return iscsi.devices();
  const device = iscsi.device(name);
  if (device === undefined) throw new EsxcliError(`Unable to find device with name ${name}`);
  return [device];
}

function displayName({ name }: IscsiDevice): string {
  return `DOZO iSCSI Disk (${name})`;
}

function describeDevice(device: IscsiDevice): Row {
  const { name, facts, isAlive, isDetached } = device;
  return {
    '': name,
    'Display Name': displayName(device),
    'Has Settable Display Name': 'true',
    Size: String(Math.floor(facts.sizeBytes / 1024 ** 2)),
    'Device Type': 'Direct-Access',
    'Multipath Plugin': 'NMP',
    'Devfs Path': `/vmfs/devices/disks/${name}`,
    Vendor: facts.vendor,
    Model: facts.model,
    Revision: facts.revision,
    'SCSI Level': '6',
    'Is Pseudo': 'false',
    Status: isDetached ? 'off' : isAlive ? 'on' : 'dead',
    'Is RDM Capable': 'true',
    'Is Local': 'false',
    'Is Offline': 'false',
  };
}
