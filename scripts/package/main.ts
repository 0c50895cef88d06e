/**
 * `npm run package [-- --arch x86_64|aarch64] [--out FOLDER] [--without-window] [--newer-patches]`: the packages for
 * DSM and QTS, with their SHA-256 sums and bills of materials. The same commit gives the same bytes. What was packed is
 * started once, which shows that it does and how much memory it takes.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeSbom } from './bill-of-materials.ts';
import { execute } from './execute.ts';
import { measureIdleMemory } from './measure-memory.ts';
import { buildPayload, buildShared } from './payload.ts';
import { ARCHITECTURES, type Architecture } from './pins.ts';
import { QPKG_FOLDER, writeQpkg } from './qpkg.ts';
import { fetchSources, type Sources } from './sources.ts';
import { installedBytes, SPK_FOLDER, writeSpk } from './spk.ts';

const { values } = parseArgs({
  options: {
    arch: { type: 'string' },
    out: { type: 'string', default: 'dist' },
    // For tests of what surrounds it.
    'without-window': { type: 'boolean', default: false },
    // Where Debian has replaced what is pinned: for what must build, though not the same bytes.
    'newer-patches': { type: 'boolean', default: false },
  },
});
const architectures = ARCHITECTURES.filter(({ machine }) => values.arch === undefined || values.arch === machine);
if (architectures.length === 0) throw new Error(`there is no architecture ${values.arch}: x86_64 or aarch64`);
findTools(architectures);

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const modifiedS = Number(execute('git', ['log', '-1', '--format=%ct']).trim());
const shared = await buildShared({ withWindow: !values['without-window'] });
mkdirSync(values.out, { recursive: true });
const sums: string[] = [];
for (const architecture of architectures) {
  const { loader, spk, qpkg } = architecture;
  const sources = fetchSources(architecture, { allowsNewer: values['newer-patches'] });
  warnOfNewer(sources);
  for (const [name, folder, write] of [
    [`Dozo-${spk}-${version}.spk`, SPK_FOLDER, writeSpk],
    [`Dozo_${version}_${qpkg}.qpkg`, QPKG_FOLDER, writeQpkg],
  ] as const) {
    const payload = buildPayload(architecture, { interpreter: `${folder}/lib/${loader}`, shared, sources, version });
    const data = write({ architecture, version, payload, modifiedS });
    save(name, data);
    console.log(`${name}: ${toMib(data.length)} MiB, installed ${toMib(installedBytes(payload))} MiB`);
    if (write !== writeSpk) continue;
    // Both packages have the same in them.
    const memory = measureIdleMemory(architecture, payload);
    console.log(
      `${architecture.machine}: ${typeof memory === 'number' ? `server and queue at rest ${toMib(memory * 1024)} MiB` : `memory not measured: ${memory}`}`,
    );
  }
  save(`Dozo-${version}-${architecture.machine}.cdx.json`, writeSbom(architecture, version, sources));
}
writeFileSync(join(values.out, 'SHA256SUMS'), sums.join(''));

function save(name: string, data: Buffer): void {
  writeFileSync(join(values.out, name), data);
  sums.push(`${createHash('sha256').update(data).digest('hex')}  ${name}\n`);
}

function warnOfNewer({ valkey, libraries }: Sources): void {
  const newer = [
    ...(valkey.isPinned ? [] : [`valkey ${valkey.debianVersion}`]),
    ...libraries.filter(({ isPinned }) => !isPinned).map(({ name, version: taken }) => `${name} ${taken}`),
  ];
  if (newer.length === 0) return;
  console.error(`package: Debian has replaced what is pinned; taken instead: ${newer.join(', ')}.`);
  console.error(
    '  These are not the bytes that this commit gave before: change scripts/package/pins.ts to publish them',
  );
}

function toMib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}

/** Says at once what a build would stop at after minutes. */
function findTools(wanted: readonly Architecture[]): void {
  const tools = [
    ...['patchelf', 'make', 'patch', 'xz', 'dpkg-deb', 'apt-get'],
    ...wanted.flatMap(({ crossPrefix }) => [`${crossPrefix}gcc`, `${crossPrefix}g++`, `${crossPrefix}strip`]),
  ];
  const missing = tools.filter((tool) => {
    try {
      execute('which', [tool]);
      return false;
    } catch {
      return true;
    }
  });
  if (missing.length === 0) return;
  console.error(`package: missing here: ${missing.join(', ')}. On Debian 12: apt-get install patchelf patch xz-utils`);
  console.error('  gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross');
  process.exit(1);
}
