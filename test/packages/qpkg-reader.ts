/**
 * A second reader of the QPKG format, from its description alone: neither the writer nor the other reader was looked
 * at for it. It is as strict as the strictest of the programs that look at such a file, and shares nothing with them.
 */
import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';

const TAIL_BYTES = 100;
const BLOCK_BYTES = 512;
/** QNAP's tool for signatures looks for its mark no further. */
const HEADER_BYTES_MAX = 16_384;
/** Every key that QTS knows; others of ours begin with DOZO_. */
const KEYS = new Set([
  ...['NAME', 'DISPLAY_NAME', 'VER', 'AUTHOR', 'LICENSE', 'SUMMARY', 'RC_NUM', 'SERVICE_PROGRAM', 'SERVICE_PORT'],
  ...['SERVICE_PIDFILE', 'WEBUI', 'WEB_PORT', 'WEB_SSL_PORT', 'USE_PROXY', 'PROXY_PATH', 'DESKTOP_APP'],
  ...['DESKTOP_APP_WIN_WIDTH', 'DESKTOP_APP_WIN_HEIGHT', 'REQUIRE', 'CONFLICT', 'VOLUME_SELECT', 'TIMEOUT', 'VISIBLE'],
  ...['DISTRIBUTION_TYPE', 'MOUNT_ACTION', 'UNMOUNT_ACTION', 'ACTION_TIMEOUT'],
]);

export interface QpkgEntry {
  name: string;
  mode: number;
  isFolder: boolean;
  modifiedS: number;
  data: Buffer;
}

export interface QpkgFacts {
  headerBytes: number;
  controlBytes: number;
  dataBytes: number;
  settings: Map<string, string>;
  control: Map<string, QpkgEntry>;
  payload: Map<string, QpkgEntry>;
}

/** Reads a package that nobody has signed. @throws AssertionError that names what an App Center would stumble over */
export function inspectQpkg(file: Buffer): QpkgFacts {
  const tail = readTail(file);
  const header = readHeader(file);
  const { headerBytes, controlBytes, dataBytes } = header;
  const contentBytes = headerBytes + controlBytes + dataBytes;
  assert.equal(contentBytes + TAIL_BYTES, file.length, 'the regions and the tail are not the whole file');

  const control = readArchive(file.subarray(headerBytes, headerBytes + controlBytes), 'control.tar.gz', 'control');
  const payload = readArchive(file.subarray(headerBytes + controlBytes, contentBytes), './data.tar.gz', 'data');
  const settings = readSettings(must(control, './qpkg.cfg').data.toString());
  assert.equal(tail.name, settings.get('QPKG_NAME'), 'name in the tail');
  assert.equal(tail.version, settings.get('QPKG_VER'), 'version in the tail');
  assert.match(must(control, './built_info').data.toString(), /^time = \d{4}(0[1-9]|1[0-2])([0-2]\d|3[01])\n$/);
  must(control, './package_routines');
  const program = must(payload, `./${settings.get('QPKG_SERVICE_PROGRAM') ?? ''}`);
  assert.equal(program.mode, 0o755, 'the service program cannot be run');
  for (const [suffix, side] of [
    ['', 64],
    ['_80', 80],
    ['_gray', 64],
  ] as const) {
    const name = `./.qpkg_icon${suffix}.gif`;
    assert.equal(pictureSize(must(payload, name).data), `${side}x${side}`, name);
  }
  return { headerBytes, controlBytes, dataBytes, settings, control, payload };
}

/** The last hundred bytes; all fields are padded with blanks, and none of ours is for one model or firmware. */
function readTail(file: Buffer): { name: string; version: string } {
  assert.ok(file.length > TAIL_BYTES + BLOCK_BYTES, 'too short');
  const tail = file.toString('latin1', file.length - TAIL_BYTES);
  assert.match(tail, /^[\x20-\x7e]{100}$/, 'the tail is not plain text');
  assert.equal(tail.slice(0, 40).trim(), '', 'model and reserved');
  const digits = (3589n * BigInt(file.length) + 1_000_000_000n).toString();
  assert.equal(tail.slice(40, 50), digits.slice(0, 10), 'checksum of the size');
  assert.equal(tail.slice(50, 60).trim(), '', 'firmware');
  assert.equal(tail.slice(90), 'QNAPQPKG  ', 'flag');
  return { name: tail.slice(60, 80).trimEnd(), version: tail.slice(80, 90).trimEnd() };
}

/** As programs read it that never run it: line by line, up to the first that begins with `exit 1`. */
function readHeader(file: Buffer): { headerBytes: number; controlBytes: number; dataBytes: number } {
  const start = file.toString('latin1', 0, HEADER_BYTES_MAX);
  assert.ok(start.startsWith('#!/bin/sh\n'), 'first line');
  assert.ok(start.includes('control.tar.gz'), 'the mark of its type is too far behind');
  const headerBytes = Number(/^script_len=(\d+)$/m.exec(start)?.[1]);
  assert.ok(headerBytes < HEADER_BYTES_MAX, 'the header tells no length');
  const header = start.slice(0, headerBytes);
  assert.match(header, /^[\n\t\x20-\x7e]+\nexit 1\n$/, 'more than plain lines, or another end');
  // Readers stop at the first line that begins so.
  const lines = header.slice(0, header.indexOf('\nexit 1')).split('\n');

  const lengths = lines.filter((line) => line.startsWith('script_len='));
  assert.deepEqual(lengths, [`script_len=${headerBytes}`], 'length of the header');

  const extractions = lines.filter((line) => line.includes('if="${0}"'));
  assert.equal(extractions.filter((line) => line.includes('v -C')).length, 1, 'lines that a query would run');
  const [first = '', second = ''] = extractions;
  assert.match(
    first,
    /^\S*dd if="\$\{0\}" bs=\$script_len skip=1( 2>\/dev\/null)? *\| *\S*tar -xO( 2>\/dev\/null)? *\| *\S*tar -xzv -C \$_EXTRACT_DIR( >\/dev\/null)? \|\| exit 1$/,
  );
  assert.equal(extractions.length, 2, 'archives that are taken out');
  assert.match(second, /\bdd if="\$\{0\}" bs=\$offset skip=1\b.*\| *\S*tar -x -C \$_EXTRACT_DIR\b/);

  const offsets = lines.filter((line) => line.startsWith('offset='));
  const sums = offsets.map((line) => /^offset=\$\(\/usr\/bin\/expr \$(script_len|offset) \+ (\d+)\)$/.exec(line));
  assert.deepEqual(
    sums.map((sum) => sum?.[1]),
    ['script_len', 'offset'],
    `offsets:\n${offsets.join('\n')}`,
  );
  const [controlBytes = 0, dataBytes = 0] = sums.map((sum) => Number(sum?.[2]));
  // Another program adds up every number of these lines instead.
  const added = offsets.flatMap((line) => line.match(/\d+/g) ?? []).reduce((sum, digits) => sum + Number(digits), 0);
  assert.equal(added, controlBytes + dataBytes, 'numbers that are no lengths');
  assert.ok(
    lines.indexOf(first) < lines.indexOf(offsets[0] ?? '') && lines.indexOf(offsets[0] ?? '') < lines.indexOf(second),
  );
  return { headerBytes, controlBytes, dataBytes };
}

/** An uncompressed archive that holds one compressed archive. */
function readArchive(region: Buffer, member: string, what: string): Map<string, QpkgEntry> {
  const outer = readUstar(region);
  assert.deepEqual([...outer.keys()], [member], `${what}: what it holds`);
  const inner = readUstar(gunzipSync(must(outer, member).data));
  for (const { name } of inner.values()) assert.match(name, /^\.\/(?!\/)/, `${what}: ${name}`);
  const times = new Set([...outer.values(), ...inner.values()].map(({ modifiedS }) => modifiedS));
  assert.equal(times.size, 1, `${what}: times of the machine that built it`);
  return inner;
}

/** Only what the oldest tar of a NAS understands: no extensions, no links, short names; all of it is root's. */
function readUstar(archive: Buffer): Map<string, QpkgEntry> {
  assert.equal(archive.length % BLOCK_BYTES, 0, 'not whole blocks');
  const entries = new Map<string, QpkgEntry>();
  let at = 0;
  for (; archive[at] !== 0;) {
    assert.ok(at + BLOCK_BYTES <= archive.length, 'cut off');
    const block = archive.subarray(at, at + BLOCK_BYTES);
    const field = (from: number, bytes: number): string => block.toString('latin1', from, from + bytes);
    const number = (from: number, bytes: number): number => {
      const digits = /^ *([0-7]+)[\0 ]*$/.exec(field(from, bytes))?.[1];
      assert.ok(digits !== undefined, `a number at ${at + from}`);
      return Number.parseInt(digits, 8);
    };
    const name = field(0, 100).replace(/\0+$/, '');
    assert.match(name, /^[\x21-\x7e]+$/, `a name at ${at}`);
    let sum = 0;
    for (const [index, byte] of block.entries()) sum += index >= 148 && index < 156 ? 0x20 : byte;
    assert.equal(number(148, 8), sum, `${name}: checksum`);
    assert.equal(field(257, 8), 'ustar\x0000', `${name}: dialect`);
    assert.equal(field(345, 155), '\0'.repeat(155), `${name}: a name in two parts`);
    const type = field(156, 1);
    assert.ok(type === '0' || type === '5', `${name}: kind ${type}`);
    assert.ok(!name.split('/').includes('..') && !name.startsWith('/'), `${name}: leads elsewhere`);
    assert.deepEqual([number(108, 8), number(116, 8)], [0, 0], `${name}: owner`);
    const mode = number(100, 8);
    assert.ok([0o644, 0o755].includes(mode), `${name}: mode ${mode.toString(8)}`);
    const bytes = number(124, 12);
    assert.ok(type === '0' || bytes === 0, `${name}: a folder with bytes`);
    assert.ok(!entries.has(name), `${name}: twice`);
    const from = at + BLOCK_BYTES;
    assert.ok(from + bytes <= archive.length, `${name}: cut off`);
    const data = archive.subarray(from, from + bytes);
    entries.set(name, { name, mode, isFolder: type === '5', modifiedS: number(136, 12), data });
    at = from + Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
  }
  assert.ok(archive.length - at >= 2 * BLOCK_BYTES, 'no end of the archive');
  assert.ok(
    archive.subarray(at).every((byte) => byte === 0),
    'something behind the end of the archive',
  );
  return entries;
}

/** Lines `KEY="value"`, which a shell reads as well. */
function readSettings(text: string): Map<string, string> {
  const settings = new Map<string, string>();
  for (const line of text.trimEnd().split('\n')) {
    const match = /^([A-Z][A-Z0-9_]*)="?([^"$`\\]*)"?$/.exec(line);
    assert.ok(match, `qpkg.cfg: ${line}`);
    const [, key = '', value = ''] = match;
    assert.ok(!settings.has(key), `qpkg.cfg: ${key} twice`);
    const isKnown = key.startsWith('QPKG_')
      ? KEYS.has(key.slice('QPKG_'.length))
      : /^(QTS_MINI_VERSION|DOZO_\w+)$/.test(key);
    assert.ok(isKnown, `qpkg.cfg: ${key} is nothing to QTS`);
    // QTS leaves out what is empty, and keeps what an earlier version wrote there.
    assert.notEqual(value, '', `qpkg.cfg: ${key} is empty`);
    settings.set(key, value);
  }
  for (const [key, pattern] of [
    ['QPKG_NAME', /^[A-Za-z][\w-]{0,19}$/],
    ['QPKG_VER', /^[\d.]{1,10}$/],
    ['QPKG_AUTHOR', /./],
    ['QPKG_SERVICE_PROGRAM', /^[\w.]+$/],
    ['QPKG_RC_NUM', /^1[0-9]{2}$/],
    ['QPKG_WEBUI', /^\//],
    ['QPKG_PROXY_PATH', /^\/[^/]+$/],
    ['QPKG_TIMEOUT', /^\d+,\d+$/],
    ['QTS_MINI_VERSION', /^\d+\.\d+\.\d+$/],
  ] as const) {
    assert.match(settings.get(key) ?? '', pattern, key);
  }
  assert.ok(Number(settings.get('QPKG_DESKTOP_APP_WIN_WIDTH')) <= 1178, 'width of the window');
  assert.ok(Number(settings.get('QPKG_DESKTOP_APP_WIN_HEIGHT')) <= 600, 'height of the window');
  return settings;
}

function must(entries: Map<string, QpkgEntry>, name: string): QpkgEntry {
  const entry = entries.get(name);
  assert.ok(entry !== undefined && !entry.isFolder, `${name} is missing`);
  return entry;
}

/** Of a PNG or a GIF: QTS takes both below the names of GIFs. */
function pictureSize(picture: Buffer): string {
  if (picture.toString('latin1', 1, 4) === 'PNG') return `${picture.readUInt32BE(16)}x${picture.readUInt32BE(20)}`;
  assert.match(picture.toString('latin1', 0, 6), /^GIF8[79]a$/, 'kind of a picture');
  return `${picture.readUInt16LE(6)}x${picture.readUInt16LE(8)}`;
}
