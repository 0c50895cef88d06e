import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { PayloadFile } from './payload-file.ts';
import { readFolder, sortByPath, toTarEntries } from './payload.ts';
import type { Architecture } from './pins.ts';
import { writeTar, type TarEntry } from './tar.ts';

/** What DSM itself accepts: numbers only. */
const VERSION = /^\d+(\.\d+){0,5}(-\d+)?$/;

/** Where DSM puts a package, whatever its volume. */
export const SPK_FOLDER = '/var/packages/Dozo/target';

export interface PackageInput {
  architecture: Architecture;
  version: string;
  payload: readonly PayloadFile[];
  /** Of every file in the package, and of its date: the commit's, seconds since 1970. */
  modifiedS: number;
}

/** A package for DSM 7.2 and later: a plain tar around a compressed one, with a description in front. */
export function writeSpk({ architecture, version, payload, modifiedS }: PackageInput): Buffer {
  if (!VERSION.test(version)) throw new Error(`DSM does not take the version ${version}`);
  const files = sortByPath([
    ...payload,
    ...readFolder('spk/desktop', 'desktop').map((file) =>
      file.path === 'desktop/Dozo.js'
        ? { ...file, data: Buffer.from(file.data.toString().replaceAll('@VERSION@', version)) }
        : file,
    ),
    ...readFolder('spk/nginx', 'nginx'),
    ...readFolder('spk/port_conf', 'port_conf'),
  ]);
  const inner = gzipSync(writeTar(toTarEntries(files), modifiedS), { level: 9 });
  const values: Record<string, string> = {
    VERSION: version,
    ARCH: architecture.spk,
    EXTRACT_KIB: String(Math.ceil(installedBytes(files) / 1024)),
    MD5: createHash('md5').update(inner).digest('hex'),
    CREATE_TIME: formatTime(modifiedS),
  };
  const info = readFileSync('spk/INFO', 'utf8').replace(
    /@([A-Z0-9_]+)@/g,
    (word, name: string) => values[name] ?? word,
  );
  const entries: TarEntry[] = [
    { name: 'INFO', mode: 0o644, data: Buffer.from(info) },
    { name: 'LICENSE', mode: 0o644, data: readFileSync('LICENSE') },
    { name: 'PACKAGE_ICON.PNG', mode: 0o644, data: readFileSync('spk/icons/dozo_64.png') },
    { name: 'PACKAGE_ICON_256.PNG', mode: 0o644, data: readFileSync('spk/icons/dozo_256.png') },
    ...toTarEntries(readFolder('spk/WIZARD_UIFILES', 'WIZARD_UIFILES')),
    ...toTarEntries(readFolder('spk/conf', 'conf')),
    { name: 'package.tgz', mode: 0o644, data: inner },
    ...toTarEntries(readFolder('spk/scripts', 'scripts', () => 0o755)),
  ];
  return writeTar(entries, modifiedS);
}

/** Room that files take on a file system with blocks of 4 KiB. */
export function installedBytes(files: readonly PayloadFile[]): number {
  return files.reduce((total, { data }) => total + Math.ceil(data.length / 4096) * 4096, 0);
}

function formatTime(seconds: number): string {
  const [date = '', time = ''] = new Date(seconds * 1000).toISOString().split('T');
  return `${date.replaceAll('-', '')}-${time.slice(0, 8)}`;
}
