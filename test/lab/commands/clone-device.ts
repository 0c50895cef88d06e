import { closeSync, existsSync, ftruncateSync, openSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { baseDescriptor, writeDescriptor } from '../disks/descriptor.ts';
import type { Host } from '../hostd/host.ts';
import { CommandFailed } from '../hostd/iscsi-session.ts';
import type { IscsiDevice } from '../hostd/software-iscsi.ts';
import type { Switches } from '../hostd/protocol.ts';
import { copyBlocks, openSource, type BlockTarget, type ClonePath } from './clone-disk.ts';
import type { Invocation } from './command.ts';
import { StorageToolError } from './storage-tool-error.ts';

const PIECE_BYTES = 1024 * 1024;
/** Writes under way at a time. */
const AT_ONCE = 8;

/**
 * `vmkfstools -i SOURCE -d rdm:DEVICE POINTER`: writes the merged content of a chain to a device of the software
 * initiator, and makes a pointer to it. A killed clone leaves pointer and device as far as it came.
 */
export async function cloneToDevice(
  host: Host,
  call: Invocation,
  options: { source: ClonePath; target: ClonePath; kind: 'virtual' | 'physical'; device: string },
): Promise<number> {
  const { source, target, kind } = options;
  const device = host.iscsi.device(options.device.replace(/^\/vmfs\/devices\/disks\//, ''));
  if (!existsSync(source.local)) {
    throw new StorageToolError(
      'DiskLib_Check() failed for source disk The system cannot find the file specified (25).',
    );
  }
  const kinds = { virtual: 'virtual compatibility', physical: 'physical compatibility' };
  call.out(`Destination disk format: raw device mapping, ${kinds[kind]}\nCloning disk '${source.target}'...\n`);
  if (!['both', kind].includes(host.switches.rdmClone)) {
    throw new StorageToolError('Failed to clone disk: The specified feature is not supported by this version (24).');
  }
  const volume = host.datastores.locate(target.target, call.folder)?.volume;
  if (device === undefined || device.isDetached || volume === undefined || !existsSync(dirname(target.local))) {
    throw new StorageToolError('Failed to clone disk: The system cannot find the file specified (25).');
  }
  if (volume.nfs !== null) {
    throw new StorageToolError('Failed to clone disk: The specified feature is not supported by this version (24).');
  }
  if (existsSync(target.local)) throw new StorageToolError('Failed to clone disk: The file already exists (39).');

  const chain = openSource(host, source);
  const release = device.open();
  const releases: (() => void)[] = [];
  try {
    if (device.facts.sizeBytes < chain.sizeBytes) {
      throw new StorageToolError('Failed to clone disk: The capacity of the device is too small (1).');
    }
    for (const link of chain.links) {
      for (const path of link.extentPaths) releases.push(host.locks.hold(path, 'shared'));
    }
    makePointer(target.local, device.facts.sizeBytes, kind);
    const writes = new DeviceWrites(device, host.switches.rdmHoles);
    try {
      await copyBlocks(host, call, chain, writes);
    } finally {
      await writes.settle();
    }
    if (call.signal.aborted) return 255;
    writes.assertWhole();
    await device.synchronize();
    call.out('\rClone: 100% done.\n');
    return 0;
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    throw new StorageToolError(`Failed to clone disk: Input/output error (327689).`);
  } finally {
    chain.close();
    release();
    for (const letGo of releases) letGo();
  }
}

/** Several writes under way, since a storage stack does not wait for each. */
class DeviceWrites implements BlockTarget {
  readonly #device: IscsiDevice;
  readonly #holes: Switches['rdmHoles'];
  readonly #working = new Set<Promise<void>>();
  #failure: unknown = null;

  constructor(device: IscsiDevice, holes: Switches['rdmHoles']) {
    this.#device = device;
    this.#holes = holes;
  }

  write(offsetBytes: number, data: Buffer): Promise<void> {
    const copy = Buffer.from(data);
    return this.#begin(() => this.#device.write(offsetBytes, copy));
  }

  async leaveOut(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (this.#holes === 'skip') return;
    for (let at = offsetBytes; at < offsetBytes + lengthBytes; at += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, offsetBytes + lengthBytes - at);
      if (this.#holes === 'zeros') await this.write(at, Buffer.alloc(length));
      else await this.#begin(() => this.#device.zero(at, length));
    }
  }

  async settle(): Promise<void> {
    await Promise.all(this.#working);
  }

  /** @throws what a write failed with */
  assertWhole(): void {
    if (this.#failure !== null) throw this.#failure as Error;
  }

  async #begin(work: () => Promise<void>): Promise<void> {
    this.assertWhole();
    const one = work().catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#working.add(one);
    void one.then(() => this.#working.delete(one));
    if (this.#working.size >= AT_ONCE) await Promise.race(this.#working);
  }
}

function makePointer(path: string, sizeBytes: number, kind: 'virtual' | 'physical'): void {
  const stem = basename(path, '.vmdk');
  const fileName = `${stem}${kind === 'virtual' ? '-rdm' : '-rdmp'}.vmdk`;
  // As long as the device, and taking no room: what it maps is elsewhere.
  const file = openSync(join(dirname(path), fileName), 'w', 0o600);
  ftruncateSync(file, sizeBytes);
  closeSync(file);
  const sectors = sizeBytes / 512;
  const descriptor = baseDescriptor({
    stem,
    sectors,
    provisioning: 'zeroedthick',
    adapterType: 'lsilogic',
    hardwareVersion: '19',
  });
  descriptor.createType = kind === 'virtual' ? 'vmfsRawDeviceMap' : 'vmfsPassthroughRawDeviceMap';
  descriptor.extents = [{ sectors, type: 'VMFSRDM', fileName, offsetSectors: 0 }];
  writeDescriptor(path, descriptor);
}
