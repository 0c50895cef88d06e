import type { Advice, FolderView, NasView } from '../contract/api/nas.schema.ts';
import { inspectFolder, type FolderFacts, type Nas } from '../nas/index.ts';
import { formatBytes } from '../runtime/index.ts';

/** Less is gone before the first machine is in. */
const LOW_SPACE_BYTES = 8 * 1024 ** 3;

/** What to know of the NAS before the first backup. */
export async function describeNas(nas: Nas, port: NasView['port']): Promise<NasView> {
  const shares: NasView['shares'] = [];
  for (const { name, path } of await nas.listShares()) shares.push({ name, ...(await describeFolder(path)) });
  const advice: Advice[] = [];
  if (port.actual !== port.wanted) {
    advice.push({
      level: 'warning',
      code: 'NAS_PORT_MOVED',
      text: `Port ${port.wanted} is used by another program (Active Backup uses 5510); Dozo answers on ${port.actual}. Name that port to the command line, and in rules of the firewall.`,
      details: { ...port },
    });
  }
  if ((await nas.hasFirewall()) === true) {
    advice.push({
      level: 'info',
      code: 'NAS_FIREWALL_ON',
      text: `The firewall of the NAS is on. For the command line and workers on other machines allow TCP ${port.actual} there; the window needs no rule.`,
      details: { port: port.actual },
    });
  }
  const { name, hasSignIn, exampleFolder } = nas;
  return { name, hasSignIn, exampleFolder, port, shares, advice };
}

export async function describeFolder(path: string): Promise<FolderView> {
  const facts = await inspectFolder(path);
  return { ...facts, advice: adviseOn(facts) };
}

/** Exported for its tests. */
export function adviseOn(facts: FolderFacts): Advice[] {
  const { path, freeBytes, quotaBytes, quotaUsedBytes } = facts;
  const say = (
    level: Advice['level'],
    code: Advice['code'],
    text: string,
    details: Record<string, number | null> = {},
  ): Advice => ({ level, code, text, details: { path, ...details } });
  if (facts.isLocked) {
    return [
      say(
        'error',
        'FOLDER_LOCKED',
        `The shared folder of ${path} is encrypted and locked. Mount it in Control Panel > Shared Folder > Encryption.`,
      ),
    ];
  }
  if (!facts.exists) {
    return [
      say(
        'error',
        'FOLDER_MISSING',
        `${path} is not there. The share may be renamed, or its volume locked or not mounted.`,
      ),
    ];
  }
  if (facts.fileSystem === 'memory') {
    return [say('error', 'FOLDER_IN_MEMORY', `${path} lies in the memory of the NAS and is gone at its next start.`)];
  }
  const advice: Advice[] = [];
  if (facts.isFull) {
    advice.push(
      say(
        'error',
        'FOLDER_FULL',
        `There is no room left in ${path}: its volume is full, or a quota is used up. Free some, or raise the quota.`,
      ),
    );
  } else if (!facts.isWritable) {
    advice.push(
      say(
        'error',
        'FOLDER_READ_ONLY',
        `Dozo cannot write to ${path}. Give it read and write rights: on DSM in Control Panel > Shared Folder > Edit > Permissions > System internal user > Dozo.`,
      ),
    );
  }
  const isLow = freeBytes !== null && freeBytes < LOW_SPACE_BYTES;
  if (quotaBytes !== null && quotaUsedBytes !== null) {
    advice.push(
      say(
        isLow ? 'warning' : 'info',
        'FOLDER_QUOTA',
        `The NAS limits the shared folder of ${path} to ${formatBytes(quotaBytes)}; ${formatBytes(quotaUsedBytes)} are used. Backups fail once it is full: raise the quota in time, or switch it off.`,
        { quotaBytes, quotaUsedBytes },
      ),
    );
  }
  if (isLow && !facts.isFull) {
    advice.push(
      say('warning', 'FOLDER_LOW_SPACE', `Only ${formatBytes(freeBytes)} are free in ${path}.`, { freeBytes }),
    );
  }
  if (facts.isEncrypted === true) {
    advice.push(
      say(
        'warning',
        'FOLDER_ENCRYPTED',
        `${path} is encrypted by the NAS: after a restart it must be unlocked before a backup can run. Dozo can encrypt a repository itself.`,
      ),
    );
  }
  if (facts.isWritable && facts.hasReflink === false) {
    advice.push(
      say(
        'info',
        'FOLDER_NO_REFLINK',
        `${path} is not on Btrfs. Backups and restores work all the same. On DSM, Btrfs adds snapshots of the NAS and its checksums.`,
      ),
    );
  }
  if (facts.hasChecksums === false) {
    advice.push(
      say(
        'info',
        'FOLDER_NO_CHECKSUMS',
        `The file system keeps no checksums of data in ${path}. Nothing is missing for that: Dozo keeps its own for every block, and notices damage when it reads or checks.`,
      ),
    );
  }
  return advice;
}
