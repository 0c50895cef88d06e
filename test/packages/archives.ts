/**
 * Readers of the two package formats, written from their descriptions alone: they share no code with the
 * writers in scripts/package.
 */
import { createHash } from 'node:crypto';
import { gunzipSync } from 'node:zlib';

export interface Member {
  name: string;
  mode: number;
  type: string;
  owner: [number, number];
  modifiedS: number;
  data: Buffer;
}

/** Members of a USTAR archive up to its end. @throws Error on anything else than plain files and folders */
export function readTar(archive: Buffer): { members: Member[]; bytes: number } {
  const members: Member[] = [];
  let offset = 0;
  for (; offset + 512 <= archive.length;) {
    const block = archive.subarray(offset, offset + 512);
    if (block.every((byte) => byte === 0)) return { members, bytes: offset + 1024 };
    const text = (start: number, length: number): string =>
      block
        .subarray(start, start + length)
        .toString('utf8')
        .split('\0')[0] ?? '';
    const octal = (start: number, length: number): number => Number.parseInt(text(start, length).trim(), 8);
    const blank = Buffer.from(block);
    blank.fill(' ', 148, 156);
    if (blank.reduce((sum, byte) => sum + byte, 0) !== octal(148, 8)) throw new Error(`checksum at ${offset}`);
    if (text(257, 5) !== 'ustar') throw new Error(`no USTAR header at ${offset}`);
    const type = text(156, 1);
    if (type !== '0' && type !== '5') throw new Error(`${text(0, 100)} is of type ${type}`);
    const bytes = octal(124, 12);
    members.push({
      name: text(0, 100),
      mode: octal(100, 8),
      type,
      owner: [octal(108, 8), octal(116, 8)],
      modifiedS: octal(136, 12),
      data: archive.subarray(offset + 512, offset + 512 + bytes),
    });
    offset += 512 + Math.ceil(bytes / 512) * 512;
  }
  throw new Error('the archive has no end');
}

export interface Spk {
  info: Map<string, string>;
  members: Map<string, Member>;
  payload: Member[];
}

export function readSpk(file: Buffer): Spk {
  const { members, bytes } = readTar(file);
  if (bytes !== file.length) throw new Error('something lies behind the archive');
  const byName = new Map(members.map((member) => [member.name, member]));
  const info = new Map<string, string>();
  for (const line of (byName.get('INFO')?.data.toString() ?? '').trimEnd().split('\n')) {
    const match = /^([a-z_]+)="([^"]*)"$/.exec(line);
    if (match === null) throw new Error(`INFO: ${line}`);
    info.set(match[1] ?? '', match[2] ?? '');
  }
  const inner = byName.get('package.tgz')?.data ?? Buffer.alloc(0);
  if (createHash('md5').update(inner).digest('hex') !== info.get('checksum')) throw new Error('checksum');
  return { info, members: byName, payload: readTar(gunzipSync(inner)).members };
}

export interface Qpkg {
  header: string;
  control: Member[];
  payload: Member[];
  tail: { model: string; sum: string; firmware: string; name: string; version: string; flag: string };
}

export function readQpkg(file: Buffer): Qpkg {
  const tail = file.subarray(-100).toString('latin1');
  const start = file.subarray(0, 16384).toString('latin1');
  const headerBytes = Number(/^script_len=(\d+)$/m.exec(start)?.[1]);
  const header = file.subarray(0, headerBytes).toString('latin1');
  const offsets = [...header.matchAll(/^offset=\$\(\/usr\/bin\/expr \$(?:script_len|offset) \+ (\d+)\)$/gm)];
  const [controlBytes = 0, dataBytes = 0] = offsets.map((match) => Number(match[1]));
  if (headerBytes + controlBytes + dataBytes + 100 !== file.length) throw new Error('the lengths do not add up');
  const [control] = readTar(file.subarray(headerBytes, headerBytes + controlBytes)).members;
  const [data] = readTar(file.subarray(headerBytes + controlBytes, headerBytes + controlBytes + dataBytes)).members;
  if (control?.name !== 'control.tar.gz' || data?.name !== './data.tar.gz') throw new Error('names of the archives');
  return {
    header,
    control: readTar(gunzipSync(control.data)).members,
    payload: readTar(gunzipSync(data.data)).members,
    tail: {
      model: tail.slice(0, 10),
      sum: tail.slice(40, 50),
      firmware: tail.slice(50, 60),
      name: tail.slice(60, 80),
      version: tail.slice(80, 90),
      flag: tail.slice(90, 100),
    },
  };
}
