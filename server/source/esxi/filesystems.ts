import { shell } from '../../ssh/index.ts';
import { parseFilesystems, type Filesystem } from './esxcli.ts';
import type { HostShell } from './host-shell.ts';

/**
 * The volumes of a host with their free space of this moment; the one that SOAP shows may be minutes
 * old. CSV first, since names of any kind survive in it; the table where a version knows no CSV.
 */
export async function readFilesystems(host: HostShell, signal?: AbortSignal): Promise<Filesystem[]> {
  const options = { isRepeatable: true, ...(signal && { signal }) };
  const csv = await host.exec(shell`esxcli --formatter=csv storage filesystem list`, options);
  const found = csv.code === 0 ? parseFilesystems(csv.stdout.toString('utf8')) : [];
  if (found.length > 0) return found;
  return parseFilesystems(await host.run(shell`esxcli storage filesystem list`, 'list its file systems', options));
}
