import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { npmLicences } from './npm-licences.ts';
import type { PayloadFile } from './payload-file.ts';
import type { Architecture } from './pins.ts';
import { fetchNode, type Sources } from './sources.ts';

/** The licences of everything in a package, a file for each origin. */
export function writeLicences(architecture: Architecture, { valkey, libraries }: Sources): PayloadFile[] {
  const files: [string, string][] = [
    ['dozo.txt', readFileSync('LICENSE', 'utf8')],
    ['node.txt', readFileSync(join(fetchNode(architecture), 'LICENSE'), 'utf8')],
    ['valkey.txt', readFileSync(join(valkey.folder, 'debian/copyright'), 'utf8')],
    ['npm.txt', npmLicences()],
    ...libraries.map(({ name, folder }): [string, string] => [`${name}.txt`, readCopyright(folder, name)]),
  ];
  return files.map(([name, text]) => ({ path: `licences/${name}`, mode: 0o644, data: Buffer.from(text) }));
}

/** libgcc and libstdc++ link to the folder of gcc's base package; the text is the same. */
function readCopyright(folder: string, name: string): string {
  const path = join(folder, 'usr/share/doc', name, 'copyright');
  if (existsSync(path)) return readFileSync(path, 'utf8');
  return [
    `${name} is a part of GCC, under the GNU General Public License, version 3 or later, with the GCC Runtime`,
    'Library Exception, version 3.1, which permits its use by programs under any licence. The source is the',
    'Debian source package gcc-12. The texts: https://www.gnu.org/licenses/gpl-3.0.html and',
    'https://www.gnu.org/licenses/gcc-exception-3.1.html',
    '',
  ].join('\n');
}
