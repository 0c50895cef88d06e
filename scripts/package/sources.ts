import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execute } from './execute.ts';
import { NODE, VALKEY, type Architecture, type DebianPackage } from './pins.ts';

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

/** Valkey's source with Debian's patches. @returns its folder */
export function fetchValkeySource(): string {
  const folder = join(CACHE, 'sources');
  const archives = [VALKEY.source, VALKEY.patches].map((pin) => ({ ...pin, path: join(folder, pin.name) }));
  if (!archives.every(({ path }) => existsSync(path))) {
    mkdirSync(folder, { recursive: true });
    apt('apt-get', ['source', '--download-only', '-qq', `valkey=${VALKEY.debianVersion}`], folder);
  }
  for (const { path, sha256 } of archives) checkHash(path, 'sha256', Buffer.from(sha256, 'hex'));
  const [source, patches] = archives;
  if (source === undefined || patches === undefined) throw new Error('no source of Valkey');
  return unpacked(`valkey-${VALKEY.debianVersion}`, (out) => {
    execute('tar', ['-xJf', source.path, '-C', out, '--strip-components=1']);
    execute('tar', ['-xJf', patches.path, '-C', out]);
    const series = readFileSync(join(out, 'debian/patches/series'), 'utf8').split('\n');
    // Those of the packaging are about Debian's own paths.
    for (const patch of series.filter((line) => line !== '' && !line.includes('/'))) {
      execute('patch', ['-p1', '-s', '-i', join(out, 'debian/patches', patch)], { cwd: out });
    }
  });
}

/** A binary package of Debian 12, unpacked. @returns its folder */
export function fetchDebianPackage(pin: DebianPackage, architecture: Architecture): string {
  const folder = join(CACHE, 'sources');
  const { debian } = architecture;
  const path = join(folder, `${pin.name}_${pin.version.replace(':', '%3a')}_${debian}.deb`);
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true });
    apt('apt-get', ['download', '-qq', `${pin.name}:${debian}=${pin.version}`], folder);
  }
  checkHash(path, 'sha256', Buffer.from(pin.sha256[debian], 'hex'));
  return unpacked(`${pin.name}-${pin.version}-${debian}`, (out) => execute('dpkg-deb', ['-x', path, out]));
}

export function checkHash(path: string, algorithm: 'sha256' | 'sha512', expected: Buffer): void {
  const actual = createHash(algorithm).update(readFileSync(path)).digest();
  if (actual.equals(expected)) return;
  rmSync(path);
  throw new Error(`${path} has the ${algorithm} ${actual.toString('hex')}, expected was ${expected.toString('hex')}`);
}

/** Fills a folder of the cache once; a build that was cut leaves nothing that looks whole. */
export function unpacked(name: string, fill: (folder: string) => void): string {
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

/** The mirror that this machine gets Debian from; its security archive has other suites. */
function debianMirror(): string {
  const listed = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'], {
    encoding: 'utf8',
  });
  const mirror = listed.split('\n').find((address) => address !== '' && !address.includes('security'));
  if (mirror === undefined) throw new Error('apt knows no Debian mirror; run apt-get update first');
  return mirror;
}

/**
 * apt with lists of its own: both architectures and the sources of Debian 13, without a change to the
 * machine's.
 */
function apt(program: string, args: readonly string[], cwd: string): void {
  const home = join(CACHE, 'apt');
  const configuration = join(home, 'apt.conf');
  const env = { APT_CONFIG: configuration };
  if (!existsSync(join(home, 'updated'))) {
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
      configuration,
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
        '',
      ].join('\n'),
    );
    execute('apt-get', ['update', '-qq'], { env });
    writeFileSync(join(home, 'updated'), '');
  }
  try {
    execute(program, args, { cwd, env });
  } catch (cause) {
    // The next attempt asks for fresh lists: the archive may have moved on since.
    rmSync(join(home, 'updated'), { force: true });
    throw new Error('Debian does not give what scripts/package/pins.ts names; a newer version needs a new pin', {
      cause,
    });
  }
}
