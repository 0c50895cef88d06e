import { availableParallelism } from 'node:os';
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execute } from './execute.ts';
import { NODE, type Architecture } from './pins.ts';
import { CACHE, fetchNode, type ValkeySource } from './sources.ts';

/** A static Valkey: it asks nothing but the kernel. @returns path of the stripped program */
export function compileValkey(architecture: Architecture, source: ValkeySource): string {
  return cached(`valkey-${source.debianVersion}-${architecture.machine}`, (result) => {
    const build = join(CACHE, 'build', `valkey-${architecture.machine}`);
    rmSync(build, { recursive: true, force: true });
    cpSync(source.folder, build, { recursive: true });
    const tools = isNative(architecture)
      ? []
      : [
          `CC=${architecture.crossPrefix}gcc`,
          `CXX=${architecture.crossPrefix}g++`,
          `AR=${architecture.crossPrefix}ar`,
          `uname_M=${architecture.machine}`,
        ];
    execute(
      'nice',
      [
        ...['-n', '15', 'make', '-C', 'src', `-j${availableParallelism()}`, 'valkey-server'],
        ...['MALLOC=libc', 'BUILD_TLS=no', 'USE_SYSTEMD=no', 'CFLAGS=-O2', 'LDFLAGS=-static', ...tools],
      ],
      // Of the build's identity, which Valkey tells: otherwise the machine's name, the time and our own commit
      // would be in it.
      { cwd: build, env: { SOURCE_DATE_EPOCH: '1', GIT_DIR: '/nonexistent' } },
    );
    strip(architecture, join(build, 'src/valkey-server'), result);
    rmSync(build, { recursive: true, force: true });
  });
}

interface Addon {
  file: string;
  folder: string;
  version: string;
}

/**
 * The native addons, stripped. Those of this machine's architecture were compiled by scripts/setup; the
 * others are cross-compiled in a copy.
 * @returns path by file name
 */
export function compileAddons(architecture: Architecture, addons: readonly Addon[]): Map<string, string> {
  const results = new Map<string, string>();
  for (const { file, folder, version } of addons) {
    const built = join('build/Release', file);
    const path = cached(`${file}-${version}-${NODE.version}-${architecture.machine}`, (result) => {
      let from = join(folder, built);
      const copy = join(CACHE, 'build', `${file}-${architecture.machine}`);
      if (!isNative(architecture)) {
        rmSync(copy, { recursive: true, force: true });
        cpSync(folder, copy, { recursive: true, filter: (name) => !name.endsWith('/build') });
        execute(
          'nice',
          [
            ...['-n', '15', 'node-gyp', 'rebuild', `--arch=${architecture.node}`],
            `--nodedir=${fetchNode(architecture)}`,
          ],
          {
            cwd: copy,
            env: {
              CC: `${architecture.crossPrefix}gcc`,
              CXX: `${architecture.crossPrefix}g++`,
              JOBS: 'max',
              // Settings of npm for all that is built on this machine would win over the argument.
              npm_config_nodedir: fetchNode(architecture),
              // Headers name themselves in what they say when an assertion fails: without the place of the build.
              CFLAGS: `-ffile-prefix-map=${process.cwd()}=.`,
              CXXFLAGS: `-ffile-prefix-map=${process.cwd()}=.`,
            },
          },
        );
        from = join(copy, built);
      }
      if (!existsSync(from)) throw new Error(`${from} is missing; run scripts/setup first`);
      strip(architecture, from, result);
      rmSync(copy, { recursive: true, force: true });
    });
    results.set(file, path);
  }
  return results;
}

export function isNative(architecture: Architecture): boolean {
  return process.arch === architecture.node;
}

/** Also without the build's identity: the folder of the build is in its hash. */
function strip(architecture: Architecture, from: string, to: string): void {
  execute(`${architecture.crossPrefix}strip`, ['-R', '.note.gnu.build-id', '-o', to, from]);
}

function cached(name: string, make: (result: string) => void): string {
  const path = resolve(CACHE, 'compiled', name);
  if (existsSync(path)) return path;
  mkdirSync(join(CACHE, 'compiled'), { recursive: true });
  make(`${path}.new`);
  renameSync(`${path}.new`, path);
  return path;
}
