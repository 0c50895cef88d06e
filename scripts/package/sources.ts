import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execute } from './execute.ts';
import { LIBRARIES, NODE, PINNED_AT, VALKEY, type Architecture, type DebianPackage } from './pins.ts';

/** Outside the tree's own files; what lies here can be deleted at any time. */
export const CACHE = resolve('.cache/package');

/** The npm package with the program of Node, unpacked. @returns its folder */
export function fetchNode(architecture: Architecture): string {
  const name = `node-linux-${architecture.node}`;
  const archive = join(CACHE, 'sources', `${name}-${NODE.version}.tgz`);
  if (!existsSync(archive)) {
    mkdirSync(join(CACHE, 'sources'), { recursive: true });
    execute('npm', ['pack', `${name}@${NODE.version}`, '--silent', '--pack-destination', join(CACHE, 'sources')]);
  }
  checkHash(archive, 'sha512', Buffer.from(NODE.integrity[architecture.node].slice('sha512-'.length), 'base64'));
  return unpacked(`${name}-${NODE.version}`, (folder) =>
    execute('tar', ['-xzf', archive, '-C', folder, '--strip-components=1']),
  );
}

/** What a package is made of besides Node and this repository. */
export interface Sources {
  valkey: ValkeySource;
  libraries: readonly LibrarySource[];
}

/** Valkey's source as it is built. */
export interface ValkeySource {
  /** Unpacked, with Debian's patches. */
  folder: string;
  debianVersion: string;
  sourceSha256: string;
  /** False: Debian has replaced the pinned patches, and the same commit does not give the same bytes any more. */
  isPinned: boolean;
}

/** A binary package of Debian 12 as it is taken. */
export interface LibrarySource extends Pick<DebianPackage, 'name' | 'licence' | 'files'> {
  /** Unpacked. */
  folder: string;
  version: string;
  sha256: string;
  /** False: Debian has replaced the pinned one. */
  isPinned: boolean;
}

export interface SourceOptions {
  /**
   * Where nobody has what is pinned any more, what Debian has signed now is taken: of the same release of Valkey,
   * whose own archive must be the pinned one, and of the libraries.
   */
  allowsNewer: boolean;
}

export function fetchSources(architecture: Architecture, options: SourceOptions): Sources {
  return {
    valkey: fetchValkey(options),
    libraries: LIBRARIES.map((pin) => fetchLibrary(pin, architecture, options)),
  };
}

function fetchValkey(options: SourceOptions): ValkeySource {
  const { debianVersion, pool, source, patches } = VALKEY;
  const pinned = { debianVersion, patches, isPinned: true };
  const taken = orNewer(options, pinned, findOfferedValkey, ({ patches: revision }) => {
    download({ ...source, pool });
    download({ ...revision, pool });
  });
  const [path, overlay] = [source, taken.patches].map(({ name }) => join(CACHE, 'sources', name));
  if (path === undefined || overlay === undefined) throw new Error('no source of Valkey');
  const folder = unpacked(`valkey-${taken.debianVersion}`, (out) => {
    execute('tar', ['-xJf', path, '-C', out, '--strip-components=1']);
    execute('tar', ['-xJf', overlay, '-C', out]);
    const series = readFileSync(join(out, 'debian/patches/series'), 'utf8').split('\n');
    // Those of the packaging are about Debian's own paths.
    for (const patch of series.filter((line) => line !== '' && !line.includes('/'))) {
      execute('patch', ['-p1', '-s', '-i', join(out, 'debian/patches', patch)], { cwd: out });
    }
  });
  return { folder, debianVersion: taken.debianVersion, isPinned: taken.isPinned, sourceSha256: source.sha256 };
}

type ValkeyPatches = Pick<ValkeySource, 'debianVersion' | 'isPinned'> & { patches: { name: string; sha256: string } };

/** Out of Debian's index, whose signature apt has checked. */
function findOfferedValkey(): ValkeyPatches {
  const index = askIndex(['showsrc', '--only-source', 'valkey']);
  const debianVersion = /^Version: (\S+)$/m.exec(index)?.[1];
  if (debianVersion === undefined) throw new Error('Debian 13 has no source of Valkey');
  const name = `valkey_${debianVersion}.debian.tar.xz`;
  const listed = new Map([...index.matchAll(/^ ([0-9a-f]{64}) \d+ (\S+)$/gm)].map(([, hash, file]) => [file, hash]));
  const sha256 = listed.get(name);
  if (sha256 === undefined || listed.get(VALKEY.source.name) !== VALKEY.source.sha256) {
    throw new Error(`Debian has another release of Valkey, ${debianVersion}: scripts/package/pins.ts needs a new pin`);
  }
  return { debianVersion, patches: { name, sha256 }, isPinned: false };
}

/** A binary package of Debian 12, unpacked. */
export function fetchLibrary(pin: DebianPackage, { debian }: Architecture, options: SourceOptions): LibrarySource {
  const { name, licence, files, pool } = pin;
  const pinned = { version: pin.version, sha256: pin.sha256[debian], isPinned: true };
  const toFile = (version: string): string => `${name}_${version}_${debian}.deb`;
  const taken = orNewer(
    options,
    pinned,
    () => findOfferedLibrary(name, debian),
    ({ version, sha256 }) => download({ name: toFile(version), sha256, pool }),
  );
  const path = join(CACHE, 'sources', toFile(taken.version));
  const folder = unpacked(`${name}-${taken.version}-${debian}`, (out) => execute('dpkg-deb', ['-x', path, out]));
  return { name, licence, files, folder, ...taken };
}

function findOfferedLibrary(name: string, debian: string): Pick<LibrarySource, 'version' | 'sha256' | 'isPinned'> {
  const index = askIndex(['show', '--no-all-versions', `${name}:${debian}`]);
  const [, version] = /^Version: (\S+)$/m.exec(index) ?? [];
  const [, sha256] = /^SHA256: ([0-9a-f]{64})$/m.exec(index) ?? [];
  if (version === undefined || sha256 === undefined) throw new Error(`Debian 12 has no ${name} for ${debian}`);
  return { version, sha256, isPinned: false };
}

/** @returns what of the two was downloaded */
function orNewer<T>({ allowsNewer }: SourceOptions, pinned: T, find: () => T, fetch: (one: T) => void): T {
  try {
    fetch(pinned);
    return pinned;
  } catch (error) {
    if (!allowsNewer) throw error;
  }
  const offered = find();
  fetch(offered);
  return offered;
}

/** A file of Debian's archive into the cache. @throws Error when no mirror has it, or it is another one */
function download({ name, pool, sha256 }: { name: string; pool: string; sha256: string }): void {
  const path = join(CACHE, 'sources', name);
  if (!existsSync(path)) {
    mkdirSync(join(CACHE, 'sources'), { recursive: true });
    const refusals: string[] = [];
    const isThere = listMirrors().some((mirror) => {
      try {
        // Through apt, with its proxies; the path is known, and needs no index that may have moved on.
        execute('/usr/lib/apt/apt-helper', [
          ...['-o', 'Acquire::Retries=2', '-o', 'APT::Sandbox::User=root'],
          ...['download-file', `${mirror}/${pool}/${name}`, `${path}.new`],
        ]);
        return true;
      } catch (error) {
        refusals.push(String(error));
        return false;
      }
    });
    if (!isThere) {
      throw new Error(
        `Debian does not give ${name}, which scripts/package/pins.ts names. A newer version needs a new pin, or --newer-patches\n${refusals.join('\n')}`,
      );
    }
    renameSync(`${path}.new`, path);
  }
  checkHash(path, 'sha256', Buffer.from(sha256, 'hex'));
}

function checkHash(path: string, algorithm: 'sha256' | 'sha512', expected: Buffer): void {
  const actual = createHash(algorithm).update(readFileSync(path)).digest();
  if (actual.equals(expected)) return;
  rmSync(path);
  throw new Error(`${path} has the ${algorithm} ${actual.toString('hex')}, expected was ${expected.toString('hex')}`);
}

/** Fills a folder of the cache once; a build that was cut leaves nothing that looks whole. */
function unpacked(name: string, fill: (folder: string) => void): string {
  const folder = join(CACHE, 'unpacked', name);
  if (existsSync(folder)) return folder;
  const staging = `${folder}.new`;
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  fill(staging);
  renameSync(staging, folder);
  return folder;
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Those that this machine gets Debian from, and Debian's archive of all that it ever had. */
function listMirrors(): string[] {
  const mirror = debianMirror();
  return [
    `${mirror}/pool/main`,
    `${mirror.replace(/\/debian$/, '/debian-security')}/pool/updates/main`,
    `https://snapshot.debian.org/archive/debian/${PINNED_AT}/pool/main`,
  ];
}

/** The mirror that this machine gets Debian from; its security archive has other suites. */
function debianMirror(): string {
  const listed = execute('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']);
  const mirror = listed.split('\n').find((address) => address !== '' && !address.includes('security'));
  if (mirror === undefined) throw new Error('apt knows no Debian mirror; run apt-get update first');
  return mirror.replace(/\/+$/, '');
}

/**
 * What apt-cache says from lists of its own: both architectures of Debian 12 and the sources of Debian 13, without a
 * change to the machine's.
 */
function askIndex(args: readonly string[]): string {
  const home = join(CACHE, 'apt');
  const env = { APT_CONFIG: join(home, 'apt.conf') };
  rmSync(home, { recursive: true, force: true });
  for (const folder of ['lists/partial', 'cache/archives/partial', 'state']) {
    mkdirSync(join(home, folder), { recursive: true });
  }
  writeFileSync(join(home, 'status'), '');
  const mirror = debianMirror();
  writeFileSync(
    join(home, 'sources.list'),
    [
      `deb [arch=amd64,arm64 signed-by=${KEYRING}] ${mirror} bookworm main`,
      `deb-src [signed-by=${KEYRING}] ${mirror} trixie main`,
      '',
    ].join('\n'),
  );
  writeFileSync(
    env.APT_CONFIG,
    [
      `Dir::State "${home}/state";`,
      `Dir::State::lists "${home}/lists";`,
      `Dir::State::status "${home}/status";`,
      `Dir::Cache "${home}/cache";`,
      `Dir::Etc::sourcelist "${home}/sources.list";`,
      'Dir::Etc::sourceparts "/dev/null";',
      'APT::Architecture "amd64";',
      'APT::Architectures {"amd64"; "arm64";};',
      'APT::Sandbox::User "root";',
      'Acquire::Retries "3";',
      '',
    ].join('\n'),
  );
  execute('apt-get', ['update', '-qq'], { env });
  return execute('apt-cache', args, { env });
}
