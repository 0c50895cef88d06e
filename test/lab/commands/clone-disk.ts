import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, openSync, write } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { baseDescriptor, type Provisioning, writeDescriptor } from '../disks/descriptor.ts';
import { ChainError, DiskChain } from '../disks/disk-chain.ts';
import type { Host } from '../hostd/host.ts';
import type { Invocation } from './command.ts';
import { StorageToolError } from './storage-tool-error.ts';

const writeAsync = promisify(write);
const CHUNK_BYTES = 1024 * 1024;
const NO_ROOM = 'Failed to clone disk: There is not enough space on the file system for the selected operation (13).';

export interface ClonePath {
  target: string;
  local: string;
}

/**
 * `vmkfstools -i`: copies the merged content of a chain into a new flat disk. Blocks without any data
 * stay holes in a thin target. A killed clone leaves what it wrote.
 */
export async function cloneDisk(
  host: Host,
  call: Invocation,
  options: { source: ClonePath; target: ClonePath; provisioning: Provisioning },
): Promise<number> {
  const { source, target } = options;
  const volume = host.datastores.locate(target.target, call.folder)?.volume;
  const provisioning = volume?.nfs === null ? options.provisioning : 'thin';
  const formats: Record<Provisioning, string> = {
    thin: 'VMFS thin-provisioned',
    zeroedthick: 'VMFS zeroedthick',
    eagerzeroedthick: 'VMFS eagerzeroedthick',
  };
  if (!existsSync(source.local)) {
    throw new StorageToolError(
      'DiskLib_Check() failed for source disk The system cannot find the file specified (25).',
    );
  }
  call.out(`Destination disk format: ${formats[provisioning]}\nCloning disk '${source.target}'...\n`);
  if (volume === undefined || !existsSync(dirname(target.local))) {
    throw new StorageToolError('Failed to clone disk: The system cannot find the file specified (25).');
  }
  if (existsSync(target.local)) throw new StorageToolError('Failed to clone disk: The file already exists (39).');
  if (volume.nfs?.readOnly === true) throw new StorageToolError('Failed to clone disk: Read-only file system (30).');

  const chain = openSource(host, source);
  const releases: (() => void)[] = [];
  let output = -1;
  try {
    for (const link of chain.links) {
      for (const path of link.extentPaths) releases.push(host.locks.hold(path, 'shared'));
    }
    const sectors = chain.sizeBytes / 512;
    const needed = provisioning === 'thin' ? CHUNK_BYTES : chain.sizeBytes;
    if (host.datastores.freeBytes(volume) < needed) throw new StorageToolError(NO_ROOM);
    const stem = basename(target.local, '.vmdk');
    const flat = join(dirname(target.local), `${stem}-flat.vmdk`);
    output = openSync(flat, 'w', 0o600);
    ftruncateSync(output, chain.sizeBytes);
    if (provisioning !== 'thin' && chain.sizeBytes > 0)
      execFileSync('fallocate', ['-l', String(chain.sizeBytes), flat]);
    const base = chain.links.at(-1)?.descriptor;
    const descriptor = baseDescriptor({
      stem,
      sectors,
      provisioning,
      adapterType: base?.ddb['ddb.adapterType'] ?? 'lsilogic',
      hardwareVersion: base?.ddb['ddb.virtualHWVersion'] ?? '19',
      cid: chain.top.descriptor.cid,
    });
    writeDescriptor(target.local, descriptor);
    releases.push(host.locks.hold(flat, 'exclusive'));
    await copyBlocks(host, call, chain, flatTarget(host, { output, provisioning, volume }));
    call.out(host.switches.cloneFailAtPercent === null ? '\rClone: 100% done.\n' : '\n');
    return 0;
  } finally {
    chain.close();
    if (output >= 0) closeSync(output);
    for (const release of releases) release();
  }
}

/** Opens a chain for reading, as far as its locks let a clone. @throws StorageToolError */
export function openSource(host: Host, source: ClonePath): DiskChain {
  const locked = () => new StorageToolError(`Failed to open '${source.target}': Failed to lock the file (16392).`);
  let chain;
  try {
    chain = DiskChain.open(source.local, (path) => host.datastores.local(path));
  } catch (error) {
    if (!(error instanceof ChainError)) {
      throw new StorageToolError(`Failed to open '${source.target}': The file specified is not a virtual disk (15).`);
    }
    throw new StorageToolError(
      error.kind === 'missing'
        ? `Failed to open '${source.target}': The system cannot find the file specified (25).`
        : error.kind === 'parent-modified'
          ? `Failed to open '${source.target}': The parent virtual disk has been modified since the child was created. (18)`
          : 'Object type requires hosted I/O, which is not supported',
    );
  }
  for (const link of chain.links) {
    for (const path of link.extentPaths) {
      const lock = host.locks.machineLock(path);
      const isTaken =
        lock?.mode === 'exclusive' ||
        (lock !== undefined && host.switches.frozenCloneBug) ||
        (lock !== undefined && host.locks.isCloning(path) && host.switches.parallelClone === 'refuse') ||
        (lock === undefined && host.locks.ofPath(path)?.mode === 'exclusive');
      if (isTaken) {
        chain.close();
        throw locked();
      }
    }
  }
  return chain;
}

/** Where the blocks of a chain go. */
export interface BlockTarget {
  /** Takes the bytes over before it resolves. */
  write(offsetBytes: number, data: Buffer): Promise<void>;
  /** What no layer of the chain has. */
  leaveOut(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Resolves when everything taken over so far is written. */
  settle(): Promise<void>;
}

/** Copies in whole blocks of the file system, as a thin disk allocates them. */
export async function copyBlocks(host: Host, call: Invocation, chain: DiskChain, target: BlockTarget): Promise<void> {
  const runs = await chain.allocatedRuns(host.programs.map);
  const whole = Buffer.alloc(CHUNK_BYTES);
  const startedMs = performance.now();
  let shown = -1;
  let done = 0;
  const show = (atBytes: number) => {
    const percent = Math.floor((atBytes / chain.sizeBytes) * 100);
    const failAt = host.switches.cloneFailAtPercent;
    if (failAt !== null && percent >= failAt) {
      throw new StorageToolError('Failed to clone disk: Input/output error (327689).');
    }
    if (percent !== shown && percent < 100) {
      call.out(`${shown < 0 ? '' : '\r'}Clone: ${percent}% done.`);
      shown = percent;
    }
  };
  let next = 0;
  for (const run of runs) {
    const end = run.offsetBytes + run.lengthBytes;
    for (
      let at = Math.max(next, Math.floor(run.offsetBytes / CHUNK_BYTES) * CHUNK_BYTES);
      at < end;
      at += CHUNK_BYTES
    ) {
      await standStill(host, call, target, at / chain.sizeBytes);
      if (call.signal.aborted) return;
      if (at > next) await target.leaveOut(next, at - next);
      const length = Math.min(CHUNK_BYTES, chain.sizeBytes - at);
      const buffer = whole.subarray(0, length);
      buffer.fill(0);
      await chain.readInto(buffer, at);
      await target.write(at, buffer);
      next = at + CHUNK_BYTES;
      done += length;
      const rate = host.switches.cloneBytesPerSecond;
      if (rate !== null) {
        const aheadMs = (done / rate) * 1000 - (performance.now() - startedMs);
        if (aheadMs > 5) await delay(aheadMs);
      }
      show(at + length);
    }
  }
  await standStill(host, call, target, 1);
  if (next < chain.sizeBytes && !call.signal.aborted) await target.leaveOut(next, chain.sizeBytes - next);
  show(chain.sizeBytes);
}

/** Waits where a switch says so, unless it is killed. */
async function standStill(host: Host, call: Invocation, target: BlockTarget, share: number): Promise<void> {
  const isHeld = (): boolean => {
    const { cloneWaitsAtPercent } = host.switches;
    return cloneWaitsAtPercent !== null && share * 100 >= cloneWaitsAtPercent && !call.signal.aborted;
  };
  if (!isHeld()) return;
  await target.settle();
  host.waitingClones += 1;
  while (isHeld()) await delay(50);
  host.waitingClones -= 1;
}

/** A flat file beside its descriptor, which grows until its datastore is full. */
function flatTarget(
  host: Host,
  options: { output: number; provisioning: Provisioning; volume: Parameters<Host['datastores']['freeBytes']>[0] },
): BlockTarget {
  const { output, provisioning, volume } = options;
  const zeros = Buffer.alloc(CHUNK_BYTES);
  return {
    write: async (offsetBytes, data) => {
      if (provisioning === 'thin' && data.equals(zeros.subarray(0, data.length))) return;
      if (host.datastores.full.includes(volume.name) || host.datastores.freeBytes(volume) < CHUNK_BYTES) {
        throw new StorageToolError(NO_ROOM);
      }
      for (let written = 0; written < data.length;) {
        written += (await writeAsync(output, data, written, data.length - written, offsetBytes + written)).bytesWritten;
      }
    },
    leaveOut: () => Promise.resolve(),
    settle: () => Promise.resolve(),
  };
}
