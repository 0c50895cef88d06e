import { setTimeout as delay } from 'node:timers/promises';
import type { DiskSink } from '../../disk/index.ts';
import { AppError, isAppError, toAppError } from '../../errors/index.ts';
import { createIngestDisk, type IngestDisk, type PortalLease, type ServedTarget } from '../../iscsi/index.ts';
import { randomHex } from '../../runtime/index.ts';
import { shell } from '../../ssh/index.ts';
import type { Note } from '../source.ts';
import { cloneDisk, removeDisk } from './clone-job.ts';
import type { EsxiContext, IscsiAccess } from './context.ts';
import {
  addStaticTarget,
  readDevice,
  rescanAdapter,
  setTargetChap,
  type HostAdapter,
  type StaticTarget,
} from './iscsi-initiator.ts';
import { openWay, readHostUuid, takeBackChanges, useInitiator, type JournalPlace } from './iscsi-journal.ts';
import { deviceOf, removeHoldTargets, removeTarget, targetName } from './iscsi-targets.ts';

/** A disk to clone, and where its pointer and journal may lie: on a datastore of VMFS. */
export interface IscsiCloneSource {
  key: string;
  /** Descriptor of the frozen tip, for the shell. */
  tip: string;
  sizeBytes: number;
  /** The hold's folder on a datastore. */
  folder: string;
}

const CHAP_USER = 'dozo';
/** Bytes of the secret; RFC 7143 asks for 96 bits of it at least. */
const SECRET_BYTES = 16;
/** How long a device may stay away after a rescan before another one is asked for. */
const RESCAN_EVERY_MS = 15_000;
/** What of a failed clone's writes is still under way ends within this. */
const LAST_WRITES_MS = 10_000;

/**
 * Reads frozen disks by having the host clone them onto disks of ours: `vmkfstools -i … -d rdm:` writes to a target
 * that this process serves, and what arrives goes straight into the sink. Takes no room on the host but a pointer.
 */
export class IscsiClones {
  readonly #context: EsxiContext;
  readonly #access: IscsiAccess;
  readonly #hold: string;
  readonly #note: (note: Note) => void;
  #place: JournalPlace | null = null;
  #lease: PortalLease | null = null;

  constructor(parts: { context: EsxiContext; access: IscsiAccess; hold: string; note: (note: Note) => void }) {
    this.#context = parts.context;
    this.#access = parts.access;
    this.#hold = parts.hold;
    this.#note = parts.note;
  }

  /**
   * Clones a disk into a sink; every byte of it has arrived when this resolves.
   * @throws DISK_READ_REFUSED when the host cannot be brought to log in, or not write: another route is then chosen;
   *   DISK_CLONE_FAILED, DISK_CLONE_INTERRUPTED, CANCELLED, and whatever the sink threw
   */
  async clone(source: IscsiCloneSource, sink: DiskSink, signal: AbortSignal): Promise<void> {
    const { shell: host } = this.#context;
    const watched = new WatchedSink(sink);
    const disk = createIngestDisk(watched, source.sizeBytes);
    const name = targetName(this.#hold, source.key, randomHex(4));
    let served: ServedTarget | null = null;
    let attached: Attached | null = null;
    try {
      const { adapter, lease } = await this.#prepare(source, signal);
      const chap = { user: CHAP_USER, secret: randomHex(SECRET_BYTES) };
      served = lease.server.addTarget({
        name,
        access: [{ initiatorName: adapter.initiatorName, chapUser: chap.user, chapSecret: chap.secret }],
        disks: [{ disk, seed: name }],
      });
      const target = { name, address: this.#portalOf(lease.server.port) };
      attached = { adapter, target };
      const path = await this.#attach(attached, { chap, served, sizeBytes: source.sizeBytes, signal });
      await this.#copy(source, path, watched, signal);
      await this.#complete(disk, watched);
    } catch (error) {
      // From here on the host's writes are refused, so that none of them holds it up.
      void disk.close();
      if (watched.failure !== null) throw toAppError(watched.failure);
      throw error;
    } finally {
      // The host lets go first; a target that vanished under it would leave dead paths.
      if (attached !== null) await removeTarget(host, attached.adapter.name, attached.target).catch(this.#postpone);
      await served?.remove();
      await Promise.race([disk.close(), delay(LAST_WRITES_MS, null, { ref: false })]);
    }
  }

  /** Takes back what the host was changed by. Idempotent. @throws HOST_COMMAND_FAILED */
  async dispose(): Promise<void> {
    const place = this.#place;
    try {
      if (place === null) return;
      await removeHoldTargets(this.#context.shell, this.#hold);
      const undone = await takeBackChanges(this.#context.shell, this.#context.clock, place);
      this.#context.logger.debug({ undone }, 'iSCSI settings of the host are as before');
      this.#place = null;
    } finally {
      await this.#lease?.release();
      this.#lease = null;
    }
  }

  /** The host's adapter and our portal, able to reach each other. */
  async #prepare(source: IscsiCloneSource, signal: AbortSignal): Promise<{ adapter: HostAdapter; lease: PortalLease }> {
    const { shell: host, clock } = this.#context;
    try {
      this.#lease ??= await this.#access.portal.acquire();
      await host.run(shell`mkdir -p -- ${source.folder}`, 'make a temporary folder', { signal });
      this.#place ??= { folder: source.folder, hostUuid: await readHostUuid(host, signal) };
      const adapter = await useInitiator(host, clock, this.#place, signal);
      await removeHoldTargets(host, this.#hold);
      const { port } = this.#lease.server;
      const opened = await openWay(host, this.#place, { address: this.#address(), port }, signal);
      if (opened !== null) {
        const text = `The host's firewall lets connections to port ${String(port)} of this NAS through for the time of the backup (${opened}).`;
        this.#note({ level: 'info', code: 'ISCSI_FIREWALL_OPENED', text, details: { port, ruleset: opened } });
      }
      return { adapter, lease: this.#lease };
    } catch (error) {
      if (signal.aborted) throw error;
      const { code, message } = toAppError(error);
      if (code === 'HOST_CONNECTION_LOST' || code === 'HOST_STALLED') throw error;
      throw refused('The host cannot be set up for a disk over iSCSI.', { code, words: message }, error);
    }
  }

  /** Has the host log in. @returns path of the device */
  async #attach(
    { adapter, target }: Attached,
    parts: { chap: { user: string; secret: string }; served: ServedTarget; sizeBytes: number; signal: AbortSignal },
  ): Promise<string> {
    const { shell: host, clock, limits } = this.#context;
    const { chap, served, sizeBytes, signal } = parts;
    await addStaticTarget(host, adapter.name, target);
    if (!(await setTargetChap(host, adapter.name, target, chap))) {
      throw refused('The host knows no secret for a single iSCSI target.', { target: target.name });
    }
    const device = deviceOf(target.name);
    await this.#rescan(adapter.name, signal);
    const startedMs = clock.monotonicMs();
    let rescannedMs = startedMs;
    do {
      if (clock.monotonicMs() - rescannedMs >= RESCAN_EVERY_MS) {
        await this.#rescan(adapter.name, signal);
        rescannedMs = clock.monotonicMs();
      }
      const found = await readDevice(host, device, signal);
      if (found?.isOn === true) {
        if (found.sizeMib === Math.floor(sizeBytes / 1024 ** 2)) return found.path;
        throw refused('The host shows the disk of this NAS in another size.', { device, sizeMib: found.sizeMib });
      }
      await clock.sleep(limits.pollIntervalMs, signal);
    } while (clock.monotonicMs() - startedMs < limits.deviceTimeoutMs);
    const isLoggedIn = served.sessions().length > 0;
    throw refused(
      isLoggedIn
        ? 'The host logged in to the disk of this NAS but does not show it.'
        : `The host does not log in to the disk of this NAS at ${target.address}.`,
      { device, address: target.address, isLoggedIn },
    );
  }

  /** A rescan that takes longer than anybody waits goes on by itself. */
  async #rescan(adapter: string, signal: AbortSignal): Promise<void> {
    try {
      await rescanAdapter(this.#context.shell, adapter, signal);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'HOST_STALLED') throw error;
    }
  }

  /** Virtual compatibility first, as the plainer one; physical where the host does not take it. */
  async #copy(source: IscsiCloneSource, device: string, sink: WatchedSink, signal: AbortSignal): Promise<void> {
    const { shell: host, clock } = this.#context;
    const target = `${source.folder}/${source.key.replace(':', '-')}-iscsi.vmdk`;
    const request = { source: source.tip, target, sizeBytes: source.sizeBytes, signal };
    try {
      await cloneDisk(host, clock, { ...request, format: `rdm:${device}` });
    } catch (error) {
      const isRefused = isAppError(error) && error.code === 'DISK_CLONE_FAILED' && sink.isUntouched;
      if (!isRefused || signal.aborted) throw error;
      try {
        await cloneDisk(host, clock, { ...request, format: `rdmp:${device}` });
      } catch (again) {
        // Not a byte was written by either: this host does not clone onto devices.
        if (!isAppError(again) || again.code !== 'DISK_CLONE_FAILED' || !sink.isUntouched) throw again;
        throw refused('The host does not copy onto a disk over iSCSI.', { ...again.details }, again);
      }
    }
    await removeDisk(host, target);
  }

  /**
   * The host said that it copied everything. What it did not write has no blocks in any layer of the frozen chain, so
   * it is zero, whatever an earlier version had there.
   */
  async #complete(disk: IngestDisk, sink: WatchedSink): Promise<void> {
    for (const { offsetBytes, lengthBytes } of await disk.finish()) await sink.zero(offsetBytes, lengthBytes);
  }

  #portalOf(port: number): string {
    const address = this.#address();
    return `${address.includes(':') ? `[${address}]` : address}:${String(port)}`;
  }

  #address(): string {
    return this.#access.address ?? this.#context.shell.localAddress;
  }

  /** What cannot be taken from the host now is tried again at the thaw, and by the next sweep. */
  readonly #postpone = (error: unknown): void => {
    this.#context.logger.warn({ error: String(error) }, 'an iSCSI target stays on the host for now');
  };
}

interface Attached {
  adapter: HostAdapter;
  target: StaticTarget;
}

/** Remembers the first failure of a sink, and whether anything came at all. */
class WatchedSink implements DiskSink {
  failure: unknown = null;
  isUntouched = true;
  readonly #sink: DiskSink;

  constructor(sink: DiskSink) {
    this.#sink = sink;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return (await this.#sink.read?.(offsetBytes, lengthBytes)) ?? Buffer.alloc(lengthBytes);
  }

  write(offsetBytes: number, data: Buffer): Promise<void> {
    return this.#watch(this.#sink.write(offsetBytes, data));
  }

  zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#watch(this.#sink.zero(offsetBytes, lengthBytes));
  }

  async #watch(work: Promise<void>): Promise<void> {
    this.isUntouched = false;
    try {
      await work;
    } catch (error) {
      this.failure ??= error;
      throw error;
    }
  }
}

function refused(message: string, details: AppError['details'], cause?: unknown): AppError {
  return new AppError('DISK_READ_REFUSED', message, {
    hint: 'Check that the host reaches this NAS on the iSCSI port; then probe the host again. Another route is used meanwhile.',
    details,
    cause,
  });
}
