import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Descriptor, type Provisioning, readDescriptor, sectorsOf, writeDescriptor } from '../disks/descriptor.ts';
import { ChainError, mergeRuns, readLinks } from '../disks/disk-chain.ts';
import { mapFileSync } from '../disks/map-file.ts';
import { createBaseDisk, type Host } from '../hostd/host.ts';
import { deleteLayer, extentPaths } from '../hostd/layer-forest.ts';
import type { Command, Invocation } from './command.ts';
import { cloneToDevice } from './clone-device.ts';
import { cloneDisk } from './clone-disk.ts';
import { StorageToolError } from './storage-tool-error.ts';

const FORMATS: Record<string, Provisioning> = {
  thin: 'thin',
  zeroedthick: 'zeroedthick',
  eagerzeroedthick: 'eagerzeroedthick',
};

const USAGE = `OPTIONS FOR FILE SYSTEMS:

vmkfstools -C --createfs [vmfs6|vmfs5|vmfsl]
                -S --setfsname fsName
           -P --queryfs -h --humanreadable

OPTIONS FOR VIRTUAL DISKS:

vmkfstools -c --createvirtualdisk #[bBsSkKmMgGtT]
               -d --diskformat [zeroedthick
                               |thin
                               |eagerzeroedthick
                               ]
               -a --adaptertype [deprecated]
           -w --writezeros
           -j --inflatedisk
           -k --eagerzero
           -K --punchzero
           -U --deletevirtualdisk
           -E --renamevirtualdisk srcDisk
           -i --clonevirtualdisk srcDisk
               -d --diskformat [zeroedthick
                               |thin
                               |eagerzeroedthick
                               |rdm:<device>|rdmp:<device>
                               |2gbsparse]
               -N --avoidnativeclone
           -X --extendvirtualdisk #[bBsSkKmMgGtT]
               [-d --diskformat eagerzeroedthick]
           -r --createrdm /vmfs/devices/disks/...
           -q --queryrdm
           -z --createrdmpassthru /vmfs/devices/disks/...
           -v --verbose #
           -g --geometry
           -x --fix [check|repair]
           -e --chainConsistent
           -Q --objecttype name/value pair
           --uniqueblocks childDisk
           --dry-run [-K]
           vmfsPath
`;

const USAGE_OLD = USAGE.replace('[deprecated]', '[buslogic|lsilogic|ide|lsisas|pvscsi]');

/** One-letter name of every option, and whether a value follows. */
const OPTIONS: Record<string, { letter: string; hasValue: boolean }> = {
  '-c': { letter: 'c', hasValue: true },
  '--createvirtualdisk': { letter: 'c', hasValue: true },
  '-d': { letter: 'd', hasValue: true },
  '--diskformat': { letter: 'd', hasValue: true },
  '-a': { letter: 'a', hasValue: true },
  '--adaptertype': { letter: 'a', hasValue: true },
  '-i': { letter: 'i', hasValue: true },
  '--clonevirtualdisk': { letter: 'i', hasValue: true },
  '-U': { letter: 'U', hasValue: false },
  '--deletevirtualdisk': { letter: 'U', hasValue: false },
  '-E': { letter: 'E', hasValue: true },
  '--renamevirtualdisk': { letter: 'E', hasValue: true },
  '-X': { letter: 'X', hasValue: true },
  '--extendvirtualdisk': { letter: 'X', hasValue: true },
  '-j': { letter: 'j', hasValue: false },
  '-w': { letter: 'w', hasValue: false },
  '-k': { letter: 'k', hasValue: false },
  '-K': { letter: 'K', hasValue: false },
  '-N': { letter: 'N', hasValue: false },
  '-q': { letter: 'q', hasValue: false },
  '-g': { letter: 'g', hasValue: false },
  '-e': { letter: 'e', hasValue: false },
  '-x': { letter: 'x', hasValue: true },
  '-D': { letter: 'D', hasValue: false },
  '-P': { letter: 'P', hasValue: false },
  '-t0': { letter: 't', hasValue: false },
  '-t': { letter: 't', hasValue: true },
  '-v': { letter: 'v', hasValue: true },
  '--extendedstatinfo': { letter: 's', hasValue: false },
  '-h': { letter: 'h', hasValue: false },
  '--help': { letter: 'h', hasValue: false },
};

export const vmkfstools: Command = async (host, call) => {
  const options = new Map<string, string>();
  const operands: string[] = [];
  for (let index = 0; index < call.args.length; index++) {
    const arg = call.args[index] ?? '';
    const [long, inline] = arg.startsWith('--') && arg.includes('=') ? splitOnce(arg, '=') : [arg, undefined];
    const option = OPTIONS[long];
    if (option === undefined) {
      if (arg.startsWith('-')) {
        call.out(`vmkfstools: unrecognized option '${arg}'\n${usage(host)}`);
        return 1;
      }
      operands.push(arg);
    } else if (!option.hasValue) options.set(option.letter, '');
    else options.set(option.letter, inline ?? call.args[++index] ?? '');
  }
  if (options.has('h') && !options.has('P')) {
    call.out(usage(host));
    return host.profile.version.startsWith('6') ? 1 : 0;
  }
  const target = operands[0];
  if (target === undefined) {
    call.err(usage(host));
    return 1;
  }
  if (operands.length > 1 && !options.has('E')) {
    call.err('Extra arguments at the end of the command line.\n\n' + usage(host));
    return 1;
  }
  const paths = { target, local: host.datastores.local(target, call.folder) };
  try {
    if (options.has('i')) return await clone(host, call, options, paths);
    if (options.has('c')) return create(host, call, options, paths);
    if (options.has('U')) return remove(host, paths);
    if (options.has('E')) return rename(host, call, options.get('E') ?? '', paths);
    if (options.has('X')) return grow(host, call, options, paths);
    if (options.has('D')) return showLock(host, call, paths);
    if (options.has('P')) return showFileSystem(host, call, paths);
    if (options.has('t')) return showBlocks(host, call, paths);
    if (options.has('s')) return showStatistics(host, call, paths);
    if (options.has('e') || options.get('x') === 'check') return checkChain(host, call, paths);
    if (options.has('q')) return queryMapping(call, paths);
    if (options.has('g')) return showGeometry(call, paths);
    if (options.has('j') || options.has('k') || options.has('w')) return inflate(host, call, options, paths);
    if (options.has('K')) return punch(call, paths);
    call.err(usage(host));
    return 1;
  } catch (error) {
    if (error instanceof StorageToolError) {
      call.err(error.message + '\n');
      return 255;
    }
    throw error;
  }
};

interface Paths {
  /** As typed. */
  target: string;
  /** On this machine. */
  local: string;
}

function usage(host: Host): string {
  return Number(host.profile.version[0]) >= 7 ? USAGE : USAGE_OLD;
}

function splitOnce(text: string, at: string): [string, string] {
  const index = text.indexOf(at);
  return [text.slice(0, index), text.slice(index + 1)];
}

/** Reads a descriptor, or complains as vmkfstools does. */
function openDescriptor(paths: Paths, what = 'source disk'): Descriptor {
  if (!existsSync(paths.local)) {
    throw new StorageToolError(`DiskLib_Check() failed for ${what} The system cannot find the file specified (25).`);
  }
  try {
    return readDescriptor(paths.local);
  } catch {
    throw new StorageToolError(`Failed to open '${paths.target}': The file specified is not a virtual disk (15).`);
  }
}

/** Refuses while a running machine or a clone holds any file of the disk for itself. */
function assertUnlocked(host: Host, paths: Paths): void {
  for (const extent of extentPaths(paths.local, openDescriptor(paths), (path) => host.datastores.local(path))) {
    if (host.locks.ofPath(extent) !== undefined) {
      throw new StorageToolError(`Failed to open '${paths.target}': Failed to lock the file (16392).`);
    }
  }
}

function provisioningOf(call: Invocation, options: Map<string, string>): Provisioning {
  const format = options.get('d');
  if (format === undefined) return 'zeroedthick';
  const known = FORMATS[format];
  if (known === undefined) {
    call.out(`Invalid disk format ${format}\n`);
    throw new StorageToolError(
      `Failed to create virtual disk: The specified feature is not supported by this version (24).`,
    );
  }
  return known;
}

/** `10G`, `512m`, `1048576`: bytes, rounded up to a sector. */
export function parseSize(text: string): number | null {
  const match = /^(\d+)([bBsSkKmMgGtT]?)$/.exec(text);
  if (match === null) return null;
  const factors: Record<string, number> = { '': 1, b: 1, s: 512, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };
  return Math.ceil((Number(match[1]) * (factors[(match[2] ?? '').toLowerCase()] ?? 1)) / 512) * 512;
}

function create(host: Host, call: Invocation, options: Map<string, string>, paths: Paths): number {
  const sizeBytes = parseSize(options.get('c') ?? '');
  if (sizeBytes === null || sizeBytes === 0) {
    throw new StorageToolError(
      `Failed to create virtual disk: The capacity specified is invalid (${options.get('c') ?? ''}).`,
    );
  }
  const provisioning = provisioningOf(call, options);
  const volume = host.datastores.locate(paths.target, call.folder)?.volume;
  if (volume === undefined || !existsSync(dirname(paths.local))) {
    throw new StorageToolError('Failed to create virtual disk: The system cannot find the file specified (25).');
  }
  if (existsSync(paths.local)) {
    throw new StorageToolError('Failed to create virtual disk: The file already exists (39).');
  }
  const needed = provisioning === 'thin' ? 1024 * 1024 : sizeBytes;
  if (host.datastores.freeBytes(volume) < needed) {
    throw new StorageToolError(
      'Failed to create virtual disk: There is not enough space on the file system for the selected operation (13).',
    );
  }
  createBaseDisk(
    paths.local,
    sizeBytes,
    volume.nfs === null ? provisioning : 'thin',
    '19',
    options.get('a') ?? 'lsilogic',
  );
  call.out('Create: 100% done.\n');
  return 0;
}

async function clone(host: Host, call: Invocation, options: Map<string, string>, paths: Paths): Promise<number> {
  const typed = options.get('i') ?? '';
  const source: Paths = { target: typed, local: host.datastores.local(typed, call.folder) };
  const format = options.get('d') ?? 'zeroedthick';
  const mapping = /^(rdmp?):(.*)$/.exec(format);
  if (mapping !== null) {
    const kind = mapping[1] === 'rdm' ? 'virtual' : 'physical';
    return cloneToDevice(host, call, { source, target: paths, kind, device: mapping[2] ?? '' });
  }
  if (format === '2gbsparse') {
    throw new StorageToolError('Failed to clone disk: The specified feature is not supported by this version (24).');
  }
  const provisioning = provisioningOf(call, options);
  return cloneDisk(host, call, { source, target: paths, provisioning });
}

function remove(host: Host, paths: Paths): number {
  openDescriptor(paths, 'disk');
  assertUnlocked(host, paths);
  deleteLayer(paths.local, (path) => host.datastores.local(path));
  return 0;
}

function rename(host: Host, call: Invocation, from: string, paths: Paths): number {
  const source: Paths = { target: from, local: host.datastores.local(from, call.folder) };
  const descriptor = openDescriptor(source);
  assertUnlocked(host, source);
  if (existsSync(paths.local)) {
    throw new StorageToolError(`Failed to rename virtual disk: The file already exists (39).`);
  }
  const extent = descriptor.extents[0];
  if (extent === undefined) throw new StorageToolError('Failed to rename virtual disk: no extent (1).');
  const suffix = /(-flat|-delta|-sesparse|-rdmp?)\.vmdk$/.exec(extent.fileName)?.[1] ?? '-flat';
  const fileName = `${basename(paths.local, '.vmdk')}${suffix}.vmdk`;
  renameSync(join(dirname(source.local), extent.fileName), join(dirname(paths.local), fileName));
  extent.fileName = fileName;
  writeDescriptor(paths.local, descriptor);
  rmSync(source.local);
  return 0;
}

function grow(host: Host, call: Invocation, options: Map<string, string>, paths: Paths): number {
  const descriptor = openDescriptor(paths);
  assertUnlocked(host, paths);
  const sizeBytes = parseSize(options.get('X') ?? '');
  const extent = descriptor.extents[0];
  if (descriptor.parentFileNameHint !== null || extent === undefined || sizeBytes === null) {
    throw new StorageToolError('Failed to extend the disk: Operation not supported on a disk with snapshots (1).');
  }
  if (sizeBytes <= extent.sectors * 512) {
    throw new StorageToolError('Failed to extend the disk: The capacity specified is invalid (1).');
  }
  extent.sectors = sizeBytes / 512;
  descriptor.ddb['ddb.geometry.cylinders'] = String(Math.min(65535, Math.floor(extent.sectors / (255 * 63))));
  const flat = join(dirname(paths.local), extent.fileName);
  const file = openSync(flat, 'r+');
  ftruncateSync(file, sizeBytes);
  closeSync(file);
  if (descriptor.ddb['ddb.thinProvisioned'] !== '1') execFileSync('fallocate', ['-l', String(sizeBytes), flat]);
  writeDescriptor(paths.local, descriptor);
  call.out('Grow: 100% done.\n');
  return 0;
}

function showLock(host: Host, call: Invocation, paths: Paths): number {
  const stat = statSync(paths.local, { throwIfNoEntry: false });
  if (stat === undefined) throw new StorageToolError(`Could not open ${paths.target}: No such file or directory`);
  const lock = host.locks.ofPath(paths.local);
  const mode = lock === undefined ? 0 : lock.mode === 'exclusive' ? 1 : 2;
  const zeros = '00000000-00000000-0000-000000000000';
  const hostUuid = '5f0e9a10-c3d1a3b2-7f1e-0cc47a000001';
  const owner = mode === 1 ? hostUuid : zeros;
  call.out(
    `Lock [type 10c00001 offset ${189607936 + (stat.ino % 4096) * 8192} v ${46492 + mode}, hb offset 3723264\n` +
      `gen 3377, mode ${mode}, owner ${owner} mtime ${Math.floor(stat.mtimeMs / 1000)}\n` +
      (mode === 2
        ? `num 0 gblnum 0 gblgen 0 gblbrk 0]\nnHld 1 nOvf 0]\nRO Owner[0] HB Offset 3723264 ${hostUuid}\n`
        : 'num 0 gblnum 0 gblgen 0 gblbrk 0]\n') +
      `Addr <4, 434, ${stat.ino % 1000}>, gen 46491, links 1, type reg, flags 0, uid 0, gid 0, mode 600\n` +
      `len ${stat.size}, nb ${Math.ceil((stat.blocks * 512) / 1048576)} tbz 0, cow 0, newSinceEpoch ${Math.ceil((stat.blocks * 512) / 1048576)}, zla 1, bs 1048576\n`,
  );
  return 0;
}

function showFileSystem(host: Host, call: Invocation, paths: Paths): number {
  const volume = host.datastores.locate(paths.target, call.folder)?.volume;
  if (volume === undefined) throw new StorageToolError(`Could not open ${paths.target}`);
  const human = (bytes: number) =>
    bytes >= 1024 ** 4 ? `${(bytes / 1024 ** 4).toFixed(1)} TB` : `${(bytes / 1024 ** 3).toFixed(1)} GB`;
  const capacity = host.datastores.capacityBytes(volume);
  const free = host.datastores.freeBytes(volume);
  const kind = volume.type === 'NFS' ? 'NFS-1.00' : volume.type === 'VMFS-6' ? 'VMFS-6.82' : 'VMFS-5.81';
  call.out(
    `${kind} (Raw Major Version: 24) file system spanning 1 partitions.\n` +
      `File system label (if any): ${volume.name}\nMode: public\n` +
      `Capacity ${human(capacity)}, ${human(free)} available, file block size 1 MB, max supported file size 64 TB\n` +
      `UUID: ${volume.uuid}\nPartitions spanned (on "lvm"):\n\tnaa.600508b1001c0000:1\nIs Native Snapshot Capable: NO\n`,
  );
  return 0;
}

/** Block map of a base disk: written, lazily zeroed (thick) or unallocated (thin) ranges. */
function showBlocks(host: Host, call: Invocation, paths: Paths): number {
  const descriptor = openDescriptor(paths);
  const flat = extentPaths(paths.local, descriptor, (path) => host.datastores.local(path))[0];
  const lock = flat === undefined ? undefined : host.locks.ofPath(flat);
  if (flat === undefined || (lock !== undefined && !lock.rawRead)) {
    throw new StorageToolError(`Failed to open '${paths.target}': Failed to lock the file (16392).`);
  }
  const sizeBytes = sectorsOf(descriptor) * 512;
  const block = 1024 * 1024;
  const rounded = mapFileSync(host.programs.map, flat).map(({ offsetBytes, lengthBytes }) => {
    const from = Math.floor(offsetBytes / block) * block;
    return { offsetBytes: from, lengthBytes: Math.ceil((offsetBytes + lengthBytes) / block) * block - from };
  });
  const isThin = descriptor.ddb['ddb.thinProvisioned'] === '1';
  const volume = host.datastores.volumeOf(flat)?.uuid ?? '';
  const lvid = `LVID:${volume}/${volume}/1:( ${189607936} --> ${190656511} )`;
  let text = `Mapping for file ${paths.target} (${sizeBytes} bytes in size):\n`;
  const line = (start: number, length: number, kind: string) =>
    `[${String(start).padStart(16)}:${String(length).padStart(16)}] --> [${kind}]\n`;
  const hole = isThin ? 'NOMP -- :( 0 --> 0 )' : `VMFS Z- ${lvid}`;
  let at = 0;
  for (const run of mergeRuns(rounded, sizeBytes)) {
    if (run.offsetBytes > at) text += line(at, run.offsetBytes - at, hole);
    text += line(run.offsetBytes, run.lengthBytes, `VMFS -- ${lvid}`);
    at = run.offsetBytes + run.lengthBytes;
  }
  if (at < sizeBytes) text += line(at, sizeBytes - at, hole);
  call.out(text);
  return 0;
}

function showStatistics(host: Host, call: Invocation, paths: Paths): number {
  const descriptor = openDescriptor(paths);
  const flat = extentPaths(paths.local, descriptor, (path) => host.datastores.local(path))[0] ?? '';
  const used = statSync(flat).blocks * 512;
  call.out(`Capacity bytes: ${sectorsOf(descriptor) * 512}\nUsed bytes: ${used}\nUnshared bytes: ${used}\n`);
  return 0;
}

function checkChain(host: Host, call: Invocation, paths: Paths): number {
  openDescriptor(paths);
  try {
    for (const link of readLinks(paths.local, (path) => host.datastores.local(path))) {
      for (const extent of extentPaths(link.path, link.descriptor, (path) => host.datastores.local(path))) {
        if (!existsSync(extent)) throw new ChainError('missing', extent, 'missing');
      }
    }
  } catch (error) {
    if (!(error instanceof ChainError)) throw error;
    throw new StorageToolError(
      error.kind === 'parent-modified'
        ? `Failed to open disk link ${paths.target} :The parent virtual disk has been modified since the child was created. The content ID of the parent virtual disk does not match the corresponding parent content ID in the child (18)Disk chain is not consistent : The parent virtual disk has been modified since the child was created. (18)`
        : `Failed to open disk link ${paths.target} :The system cannot find the file specified (25)Disk chain is not consistent : The system cannot find the file specified (25)`,
    );
  }
  call.out('Disk chain is consistent.\n');
  return 0;
}

function queryMapping(call: Invocation, paths: Paths): number {
  const { createType } = openDescriptor(paths);
  if (createType === 'vmfsRawDeviceMap' || createType === 'vmfsPassthroughRawDeviceMap') {
    const kind = createType === 'vmfsRawDeviceMap' ? 'Non-passthrough' : 'Passthrough';
    call.out(`Disk ${paths.target} is a ${kind} Raw Device Mapping\nMaps to: vml.0200000000600508b1001c00000000\n`);
  } else call.out(`Disk ${paths.target} is not an rdm\n`);
  return 0;
}

function showGeometry(call: Invocation, paths: Paths): number {
  const { ddb } = openDescriptor(paths);
  const part = (name: string) => ddb[`ddb.geometry.${name}`] ?? '0';
  call.out(`Geometry information C/H/S is ${part('cylinders')}/${part('heads')}/${part('sectors')}\n`);
  return 0;
}

function inflate(host: Host, call: Invocation, options: Map<string, string>, paths: Paths): number {
  const descriptor = openDescriptor(paths);
  assertUnlocked(host, paths);
  const flat = extentPaths(paths.local, descriptor, (path) => host.datastores.local(path))[0] ?? '';
  const size = String(sectorsOf(descriptor) * 512);
  if (options.has('w')) execFileSync('fallocate', ['--punch-hole', '-o', '0', '-l', size, flat]);
  execFileSync('fallocate', ['-l', size, flat]);
  delete descriptor.ddb['ddb.thinProvisioned'];
  writeDescriptor(paths.local, descriptor);
  call.out(options.has('j') ? 'Inflate: 100% done.\n' : 'Eagerly Zeroing: 100% done.\n');
  return 0;
}

function punch(call: Invocation, paths: Paths): number {
  const descriptor = openDescriptor(paths);
  execFileSync('fallocate', ['--dig-holes', join(dirname(paths.local), descriptor.extents[0]?.fileName ?? '')]);
  call.out('vmfsDisk: 1, rdmDisk: 0, blockSize: 1048576\nHole Punching: 100% done.\n');
  return 0;
}
