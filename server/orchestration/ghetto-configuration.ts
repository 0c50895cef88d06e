import type { JobOptions } from '../contract/api/job.schema.ts';
import type { GhettoImportReport } from '../contract/api/configuration.schema.ts';

type SettingReport = GhettoImportReport['settings'][number];

/** What a configuration of ghettoVCB says, in terms of a job. */
export interface GhettoConfiguration {
  settings: SettingReport[];
  quiesce: JobOptions['quiesce'] | null;
  /** Versions to keep; null: not said. */
  keepLast: number | null;
  /** File names of the only disks to be backed up; null: all. */
  disks: string[] | null;
}

type Judgement = Pick<SettingReport, 'outcome' | 'reason'>;

/** Values are read as text: nothing of the file is executed, whatever stands in it. */
export function readGhettoConfiguration(text: string): GhettoConfiguration {
  const result: GhettoConfiguration = { settings: [], quiesce: null, keepLast: null, disks: null };
  for (const line of text.split(/\r?\n/)) {
    const [, key, raw = ''] = /^\s*(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)$/.exec(line) ?? [];
    if (key === undefined) continue;
    const value = unquote(raw);
    result.settings.push({ key, value: isSecret(key) ? '***' : value.slice(0, 500), ...judge(key, value, result) });
  }
  return result;
}

/** Names of the list, without comments and empty lines; a path to a VM's folder stands for its last part. */
export function readGhettoMachines(text: string): string[] {
  return text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

function unquote(raw: string): string {
  const text = raw.trim();
  const [, quoted] = /^"([^"]*)"/.exec(text) ?? /^'([^']*)'/.exec(text) ?? [];
  return quoted ?? text.replace(/\s+#.*$/, '');
}

function isSecret(key: string): boolean {
  return /PASSWORD/.test(key);
}

function judge(key: string, value: string, result: GhettoConfiguration): Judgement {
  switch (key) {
    case 'VM_SNAPSHOT_QUIESCE':
      result.quiesce = value === '1' ? 'try' : 'off';
      return taken(
        value === '1' ? 'The guest is brought to rest where that is possible.' : 'The guest is not brought to rest.',
      );
    case 'VM_BACKUP_ROTATION_COUNT': {
      const count = Number(value);
      if (!Number.isInteger(count) || count < 1 || count > 10_000) return ignored('It is not a number of versions.');
      result.keepLast = count;
      return taken(`The newest ${count} versions stay.`);
    }
    case 'VMDK_FILES_TO_BACKUP':
      if (value === '' || value.toLowerCase() === 'all') return taken('All disks are backed up.');
      result.disks = value.split(',').map((name) => name.trim());
      return taken('Other disks of these machines are left out.');
    case 'POWER_VM_DOWN_BEFORE_BACKUP':
    case 'ENABLE_HARD_POWER_OFF':
      return value === '1'
        ? ignored('Dozo backs machines up as they are and shuts none down.')
        : taken('Machines are backed up as they are.');
    case 'VM_SNAPSHOT_MEMORY':
      return value === '1' ? ignored('Dozo does not keep the memory of machines.') : taken('Memory is not kept.');
    default:
      return OTHERS.find(({ pattern }) => pattern.test(key))?.judgement ?? ignored('Dozo does not know this setting.');
  }
}

const OTHERS: { pattern: RegExp; judgement: Judgement }[] = [
  { pattern: /^VM_BACKUP_VOLUME$/, judgement: replaced('Versions go to the storage that was chosen for the task.') },
  { pattern: /^DISK_BACKUP_FORMAT$/, judgement: replaced('The format is chosen at a restore or an export.') },
  { pattern: /^ENABLE_COMPRESSION$/, judgement: replaced('Dozo always compresses what becomes smaller by it.') },
  {
    pattern: /^ALLOW_VMS_WITH_SNAPSHOTS_TO_BE_BACKEDUP$/,
    judgement: replaced('Machines with snapshots are backed up, and their snapshots are left alone.'),
  },
  {
    pattern: /^(SNAPSHOT_TIMEOUT|ITER_TO_WAIT_SHUTDOWN|POWER_DOWN_TIMEOUT)$/,
    judgement: replaced('Dozo has time limits of its own.'),
  },
  {
    pattern: /^(VM_SHUTDOWN_ORDER|VM_STARTUP_ORDER)$/,
    judgement: ignored('Dozo backs machines up as they are and shuts none down.'),
  },
  {
    pattern: /^(ENABLE_NON_PERSISTENT_NFS|UNMOUNT_NFS|NFS_.*)$/,
    judgement: replaced('Dozo fetches the data itself; the host needs no NFS datastore for it.'),
  },
  { pattern: /^EMAIL_/, judgement: ignored('Set up the mail server and recipients under notifications.') },
  { pattern: /^RSYNC_LINK$/, judgement: ignored('Versions are found in the window, not by a link.') },
  { pattern: /^(WORKDIR_DEBUG|LOG_.*|BACKUP_FILES_CHMOD)$/, judgement: ignored('It has no meaning in Dozo.') },
];

function taken(reason: string): Judgement {
  return { outcome: 'taken', reason };
}

function replaced(reason: string): Judgement {
  return { outcome: 'replaced', reason };
}

function ignored(reason: string): Judgement {
  return { outcome: 'ignored', reason };
}
