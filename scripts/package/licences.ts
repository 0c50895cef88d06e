import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listComponents } from './components.ts';
import type { PayloadFile } from './payload-file.ts';
import { LIBRARIES, type Architecture } from './pins.ts';
import { fetchDebianPackage, fetchNode, fetchValkeySource } from './sources.ts';

/** The licences of everything in a package, a file for each origin. */
export function writeLicences(architecture: Architecture): PayloadFile[] {
  const valkey = fetchValkeySource();
  const files: [string, string][] = [
    ['dozo.txt', readFileSync('LICENSE', 'utf8')],
    ['node.txt', readFileSync(join(fetchNode(architecture), 'LICENSE'), 'utf8')],
    ['valkey.txt', readFileSync(join(valkey, 'debian/copyright'), 'utf8')],
    ['npm.txt', npmLicences()],
    ...LIBRARIES.map((pin): [string, string] => [
      `${pin.name}.txt`,
      readCopyright(fetchDebianPackage(pin, architecture), pin.name),
    ]),
  ];
  return files.map(([name, text]) => ({ path: `licences/${name}`, mode: 0o644, data: Buffer.from(text) }));
}

function npmLicences(): string {
  return listComponents()
    .filter(({ folder }) => existsSync(folder))
    .map(({ name, version, folder, licence }) => {
      const [file] = globSync('{LICEN[SC]E,licen[sc]e,COPYING}*', { cwd: folder }).sort();
      const text =
        file === undefined ? 'No text of the licence comes with it.' : readFileSync(join(folder, file), 'utf8');
      return `${'='.repeat(78)}\n${name} ${version} (${licence ?? 'see below'})\n${'='.repeat(78)}\n\n${text.trim()}\n`;
    })
    .join('\n');
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
