import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { PayloadFile } from './payload-file.ts';
import { sortByPath, toTarEntries } from './payload.ts';
import { installedBytes, type PackageInput } from './spk.ts';
import { writeTar } from './tar.ts';

/** A link that the service makes at each start: the volume of a package is known only then. */
export const QPKG_FOLDER = '/var/dozo';

/** Readers evaluate the header with this block size; it must hold the script. */
const HEADER_BYTES = 4096;
const NAME = 'Dozo';
const VERSION_CHARACTERS_MAX = 10;

/**
 * A package for QTS 5 and QuTS hero h5: a script, a tar of the control files, a tar of the data, a trailer.
 * The data lies in a tar of its own, so that neither a short read of `dd` nor the trailer can harm it.
 */
export function writeQpkg({ architecture, version, payload, modifiedS }: PackageInput): Buffer {
  if (version.length > VERSION_CHARACTERS_MAX) throw new Error(`QTS does not take the version ${version}`);
  const withOurs = sortByPath([
    ...payload,
    ourFile('dozo.sh', 0o755),
    { path: 'bin/verify.mjs', mode: 0o644, data: readFileSync('scripts/package/payload/verify.mjs') },
    // QTS wants this name whatever the format.
    { path: '.qpkg_icon.gif', mode: 0o644, data: readFileSync('spk/icons/dozo_64.png') },
    { path: '.qpkg_icon_80.gif', mode: 0o644, data: readFileSync('qpkg/icons/dozo_80.png') },
    { path: '.qpkg_icon_gray.gif', mode: 0o644, data: readFileSync('qpkg/icons/dozo_gray_64.png') },
  ]);
  const sums = withOurs.map(({ path, data }) => `${createHash('sha256').update(data).digest('hex')}  ${path}\n`);
  const files = sortByPath([...withOurs, { path: 'SHA256SUMS', mode: 0o644, data: Buffer.from(sums.join('')) }]);
  const configuration = [
    readFileSync('qpkg/qpkg.cfg', 'utf8').replaceAll('@VERSION@', version),
    `DOZO_INSTALLED_KIB="${Math.ceil(installedBytes(files) / 1024)}"\n`,
    `DOZO_LOADER="${architecture.loader}"\n`,
  ].join('');
  const control = gzipTar(
    [
      { path: 'qpkg.cfg', mode: 0o644, data: Buffer.from(configuration) },
      ourFile('install.sh', 0o755),
      ourFile('uninstall.sh', 0o755),
      ourFile('words.sh', 0o644),
      ourFile('package_routines', 0o644),
      { path: 'built_info', mode: 0o644, data: Buffer.from(`time = ${formatDay(modifiedS)}\n`) },
    ],
    modifiedS,
  );
  const controlTar = writeTar([{ name: 'control.tar.gz', mode: 0o644, data: control }], modifiedS);
  const dataTar = writeTar([{ name: './data.tar.gz', mode: 0o644, data: gzipTar(files, modifiedS) }], modifiedS);
  const header = writeHeader({
    VERSION: version,
    MACHINE: architecture.machine,
    CONTROL_LEN: String(controlTar.length),
    DATA_LEN: String(dataTar.length),
  });
  const content = Buffer.concat([header, controlTar, dataTar]);
  return Buffer.concat([content, writeTail(content.length, version)]);
}

function gzipTar(files: readonly PayloadFile[], modifiedS: number): Buffer {
  return gzipSync(writeTar(toTarEntries(files, './'), modifiedS), { level: 9 });
}

function ourFile(path: string, mode: number): PayloadFile {
  return { path, mode, data: readFileSync(`qpkg/${path}`) };
}

function writeHeader(values: Record<string, string>): Buffer {
  const script = readFileSync('qpkg/header.sh', 'utf8').replace(/@([A-Z_]+)@/g, (word, name: string) =>
    name === 'SCRIPT_LEN' ? String(HEADER_BYTES) : (values[name] ?? word),
  );
  // A round length serves as block size as well: filled up with a comment.
  const end = 'exit 1\n';
  const gap = HEADER_BYTES - Buffer.byteLength(script) - end.length;
  if (gap < 2) throw new Error('the header script is too long');
  return Buffer.from(`${script}${'#'.repeat(gap - 1)}\n${end}`);
}

const TAIL_BYTES = 100;

/** Fixed columns, filled up with spaces; the checksum depends on the size of the whole file alone. */
function writeTail(contentBytes: number, version: string): Buffer {
  const sum = String((contentBytes + TAIL_BYTES) * 3589 + 1_000_000_000).slice(0, 10);
  const tail = [
    [' ', 40],
    [sum, 10],
    [' ', 10],
    [NAME, 20],
    [version, 10],
    ['QNAPQPKG', 10],
  ] as const;
  return Buffer.from(tail.map(([text, width]) => text.padEnd(width)).join(''), 'ascii');
}

function formatDay(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 10).replaceAll('-', '');
}
