import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listComponents } from './components.ts';

/** The licences of all npm packages in the bundles, one after the other. */
export function npmLicences(): string {
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
