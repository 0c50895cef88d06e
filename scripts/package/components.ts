import { readFileSync } from 'node:fs';

/** An npm package inside the bundles. */
export interface Component {
  name: string;
  version: string;
  /** Where it lies, for its licence. */
  folder: string;
  licence: string | null;
  integrity: string | null;
}

interface LockedPackage {
  version?: string;
  license?: string;
  integrity?: string;
  optional?: boolean;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

/** Packages of the window, which are development packages to npm, since they come bundled. */
const WINDOW = ['vue', 'vue-router', 'vue-i18n', 'quasar'];

/** Everything that Dozo's bundles may hold, from the lock file: what `dependencies` need, and the window. */
export function listComponents(): Component[] {
  const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, LockedPackage> };
  const seen = new Map<string, Component>();
  const visit = (name: string, from: string): void => {
    const folder = resolveFolder(lock.packages, name, from);
    if (folder === null || seen.has(folder)) return;
    const { version, license, integrity, dependencies, optionalDependencies } = lock.packages[folder] ?? {};
    if (version === undefined) return;
    seen.set(folder, { name, version, folder, licence: license ?? null, integrity: integrity ?? null });
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) visit(next, folder);
  };
  for (const name of [...Object.keys(lock.packages['']?.dependencies ?? {}), ...WINDOW]) visit(name, '');
  return [...seen.values()].sort((left, right) => (left.folder < right.folder ? -1 : 1));
}

/** As Node finds it: beside the asker, then further up. */
function resolveFolder(packages: Record<string, LockedPackage>, name: string, from: string): string | null {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const candidate = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`;
    if (candidate in packages) return candidate;
    if (folder === '') return null;
  }
}
