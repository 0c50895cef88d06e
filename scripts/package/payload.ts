import { chmodSync, copyFileSync, globSync, mkdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bundleRestoreTool } from '../build/bundle-restore-tool.ts';
import { bundleServer } from '../build/bundle-server.ts';
import { writeSbom } from './bill-of-materials.ts';
import { compileAddons, compileValkey } from './compile.ts';
import { execute } from './execute.ts';
import { writeLicences } from './licences.ts';
import type { PayloadFile } from './payload-file.ts';
import type { Architecture } from './pins.ts';
import { CACHE, fetchNode, type LibrarySource, type Sources } from './sources.ts';
import type { TarEntry } from './tar.ts';

const OURS = 'scripts/package/payload';

/** What both kinds of packages and both architectures share: bundles and window. Made once a build. */
export async function buildShared(options: { withWindow: boolean }): Promise<PayloadFile[]> {
  const server = join(CACHE, 'server');
  await bundleServer(
    ['server/cli/main.ts', ...globSync('server/app/*-main.ts').sort(), ...globSync('server/**/*-thread.ts').sort()],
    server,
  );
  await bundleRestoreTool(join(server, 'dozo-restore.js'));
  const files = readFolder(server, 'server').filter(({ path }) => !path.endsWith('.map') && !path.endsWith('.node'));
  if (options.withWindow) {
    const window = join(CACHE, 'ui');
    execute('vite', [
      'build',
      '--config',
      'ui/vite.config.ts',
      '--logLevel',
      'warn',
      '--outDir',
      window,
      '--emptyOutDir',
    ]);
    files.push(...readFolder(window, 'ui').filter(({ path }) => !path.endsWith('.map')));
  }
  return files;
}

/**
 * Everything below the folder of an installed package, but for what one kind of NAS demands.
 *
 * @param interpreter absolute path of the dynamic loader once installed: the kernel looks there
 */
export function buildPayload(
  architecture: Architecture,
  options: { interpreter: string; shared: readonly PayloadFile[]; sources: Sources; version: string },
): PayloadFile[] {
  const addons = compileAddons(architecture, [
    { file: 'node_sqlite3.node', folder: 'node_modules/sqlite3', version: installedVersion('sqlite3') },
    {
      file: 'sshcrypto.node',
      folder: 'node_modules/ssh2/lib/protocol/crypto',
      version: installedVersion('ssh2'),
    },
  ]);
  const files: PayloadFile[] = [
    ...options.shared,
    ...[...addons].map(([name, path]) => readInto(`server/${name}`, path, 0o644)),
    { path: 'bin/node', mode: 0o755, data: patchNode(architecture, options.interpreter) },
    readInto('bin/valkey-server', compileValkey(architecture, options.sources.valkey), 0o755),
    readInto('bin/dozo', join(OURS, 'dozo'), 0o755),
    readInto('bin/service', join(OURS, 'service'), 0o755),
    readInto('bin/words.sh', join(OURS, 'words.sh'), 0o644),
    readInto('bin/probe.mjs', join(OURS, 'probe.mjs'), 0o644),
    ...readLibraries(architecture, options.sources.libraries),
    ...writeLicences(architecture, options.sources),
    {
      path: 'bill-of-materials.cdx.json',
      mode: 0o644,
      data: writeSbom(architecture, options.version, options.sources),
    },
  ];
  return sortByPath(files);
}

/** Entries of an archive for files and the folders above them, in one order. @param prefix for example `./` */
export function toTarEntries(files: readonly PayloadFile[], prefix = ''): TarEntry[] {
  const folders = new Set<string>();
  for (const { path } of files) {
    const parts = path.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth += 1) folders.add(`${parts.slice(0, depth).join('/')}/`);
  }
  const entries: TarEntry[] = [
    ...[...folders].map((name) => ({ name, mode: 0o755, data: null })),
    ...files.map(({ path, mode, data }) => ({ name: path, mode, data })),
  ];
  return entries
    .sort((left, right) => compare(left.name, right.name))
    .map((entry) => ({ ...entry, name: `${prefix}${entry.name}` }));
}

export function sortByPath(files: readonly PayloadFile[]): PayloadFile[] {
  const sorted = [...files].sort((left, right) => compare(left.path, right.path));
  for (const [index, { path }] of sorted.entries()) {
    if (sorted[index + 1]?.path === path) throw new Error(`two files of one path: ${path}`);
  }
  return sorted;
}

/** Every file below a folder of the project. @param mode of a file by its path; 0644 without it */
export function readFolder(folder: string, below: string, mode: (path: string) => number = () => 0o644): PayloadFile[] {
  return globSync('**/*', { cwd: folder, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path, relative: path.slice(folder.length + 1) }))
    .map(({ path, relative }) => readInto(below === '' ? relative : `${below}/${relative}`, path, mode(relative)))
    .sort((left, right) => compare(left.path, right.path));
}

/** Strip first, then patch: the other way round destroys the file. */
function patchNode(architecture: Architecture, interpreter: string): Buffer {
  const folder = join(CACHE, 'build');
  mkdirSync(folder, { recursive: true });
  const program = join(folder, `node-${architecture.machine}`);
  rmSync(program, { force: true });
  copyFileSync(join(fetchNode(architecture), 'bin/node'), program);
  chmodSync(program, 0o755);
  execute(`${architecture.crossPrefix}strip`, [program]);
  execute('patchelf', ['--set-interpreter', interpreter, '--force-rpath', '--set-rpath', '$ORIGIN/../lib', program]);
  const data = readFileSync(program);
  rmSync(program);
  return data;
}

function readLibraries(architecture: Architecture, libraries: readonly LibrarySource[]): PayloadFile[] {
  return libraries.flatMap(({ name: library, files, folder }) => {
    const wanted = library === 'libc6' ? [...files, architecture.loader] : files;
    return wanted.map((name) => {
      const [found] = globSync(`**/${name}`, { cwd: folder }).sort();
      if (found === undefined) throw new Error(`${library} has no ${name}`);
      // Behind a link lies the file with its full version.
      return readInto(`lib/${name}`, realpathSync(join(folder, found)), name === architecture.loader ? 0o755 : 0o644);
    });
  });
}

function installedVersion(name: string): string {
  return (JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')) as { version: string }).version;
}

function readInto(path: string, from: string, mode: number): PayloadFile {
  return { path, mode, data: readFileSync(from) };
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
