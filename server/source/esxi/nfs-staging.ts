import { AppError } from '../../errors/index.ts';
import { shell } from '../../ssh/index.ts';
import { holdFolder } from './context.ts';
import type { HostShell } from './host-shell.ts';
import { lastWords } from './vmkfstools.ts';

/** A folder of the NAS that hosts may mount. */
export interface NfsStaging {
  server: string;
  share: string;
  /** The same folder on the NAS itself. */
  localPath: string;
}

/**
 * Mounts the staging folder as a datastore named by the hold, and makes the hold's folder in it.
 * @returns its root for the shell
 * @throws DISK_READ_REFUSED when the host cannot mount or write it: another route is then chosen
 */
export async function mountStaging(
  host: HostShell,
  staging: NfsStaging,
  hold: string,
  signal: AbortSignal,
): Promise<string> {
  const root = `/vmfs/volumes/${hold}`;
  if (!(await host.exists(root, signal))) {
    const add = await host.exec(shell`esxcli storage nfs add -H ${staging.server} -s ${staging.share} -v ${hold}`, {
      signal,
    });
    if (add.code !== 0) throw mountRefused(staging, `${add.stdout.toString('utf8')}\n${add.stderr}`);
  }
  const folder = holdFolder(root, hold);
  const made = await host.exec(shell`mkdir -p -- ${folder} && echo dozo > ${folder}/.probe && rm -- ${folder}/.probe`, {
    isRepeatable: true,
    signal,
  });
  if (made.code !== 0) {
    await unmountStaging(host, root, hold);
    throw mountRefused(staging, made.stderr);
  }
  return root;
}

/** Removes the hold's folder and the mount. Idempotent. @throws HOST_COMMAND_FAILED */
export async function unmountStaging(host: HostShell, root: string, hold: string): Promise<void> {
  await host.exec(shell`rm -rf -- ${holdFolder(root, hold)}`, { isRepeatable: true });
  const removal = await host.exec(shell`esxcli storage nfs remove -v ${hold}`, { isRepeatable: true });
  if (removal.code === 0 || !(await host.exists(root))) return;
  throw new AppError('HOST_COMMAND_FAILED', `The host could not unmount the staging folder ${hold}.`, {
    hint: `Unmount the datastore "${hold}" in the Host Client; the next run tries again.`,
    details: { datastore: hold, words: lastWords(`${removal.stdout.toString('utf8')}\n${removal.stderr}`) },
  });
}

function mountRefused(staging: NfsStaging, words: string): AppError {
  return new AppError(
    'DISK_READ_REFUSED',
    `The host cannot use the NFS folder ${staging.server}:${staging.share} for staging.`,
    {
      hint: 'Check that NFS is on, that the host may write there as root (no root squash), and its number of mounts.',
      details: { server: staging.server, share: staging.share, words: lastWords(words) },
    },
  );
}
