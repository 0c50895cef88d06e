import { rmSync, writeFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { buildIscsi } from '../native/build.ts';
import type { Firewall } from './firewall.ts';
import { CommandFailed, IscsiSession, SessionLost, type UnitFacts } from './iscsi-session.ts';
import type { IscsiState, Switches } from './protocol.ts';

/** How often a lost session is tried again. */
const RECONNECT_MS = 300;

export interface Chap {
  user: string;
  secret: string;
}

export interface TargetEntry {
  address: string;
  port: number;
  name: string;
}

/** CHAP of one direction for the whole adapter, or for one target. */
export interface ChapSettings {
  uni: Chap | null;
  mutual: Chap | null;
}

/** The host has words for why not. */
export class IscsiRefusal extends Error {}

/**
 * The software iSCSI adapter of the host. Sessions are real logins; a device lives as long as its session is not
 * removed, also while the connection is lost: then its commands wait, and fail when that takes too long.
 */
export class SoftwareIscsi {
  readonly adapter = 'vmhba64';
  readonly initiator: string;
  readonly statics: TargetEntry[] = [];
  readonly chap: ChapSettings = { uni: null, mutual: null };
  readonly targetChap = new Map<string, ChapSettings>();
  readonly detached = new Set<string>();
  readonly #firewall: Firewall;
  readonly #switches: () => Switches;
  readonly #devicesFolder: string;
  readonly #sessions = new Map<string, TargetSession>();
  /** Counts the times that the host lost its power. */
  #outages = 0;
  enabled = false;

  constructor(parts: { firewall: Firewall; switches: () => Switches; root: string; hostName: string; seed: string }) {
    this.#firewall = parts.firewall;
    this.#switches = parts.switches;
    this.#devicesFolder = join(parts.root, 'vmfs/devices/disks');
    this.initiator = `iqn.1998-01.com.vmware:${parts.hostName}-${parts.seed.slice(0, 8)}`;
  }

  sessions(): TargetSession[] {
    return [...this.#sessions.values()];
  }

  /** Attached or not, with or without a path. */
  devices(): IscsiDevice[] {
    return this.sessions().flatMap(({ device }) => device ?? []);
  }

  device(name: string): IscsiDevice | undefined {
    return this.devices().find((device) => device.name === name);
  }

  /** What was configured outlives a time without the adapter. @throws IscsiRefusal */
  setEnabled(enabled: boolean): void {
    if (enabled && this.#switches().iscsiEnable === 'refuse') throw new IscsiRefusal('Unable to load module iscsi_vmk');
    if (!enabled && this.#sessions.size > 0) {
      throw new IscsiRefusal('Software iSCSI cannot be disabled: sessions are active.');
    }
    this.enabled = enabled;
    const rules = this.#firewall.find('iSCSI');
    if (rules !== undefined) rules.enabled = enabled;
  }

  /** Logs in to what is listed, lets go of what is not; takes its time while paths are dead. */
  async rescan(): Promise<void> {
    await delay(this.#switches().iscsiRescanMs);
    for (const [name, session] of this.#sessions) {
      const isListed = this.statics.some((entry) => entry.name === name);
      if (!isListed && session.device?.isOpen !== true) await this.#end(name, session);
    }
    for (const entry of this.statics) {
      if (this.#sessions.has(entry.name)) continue;
      const session = new TargetSession(entry, {
        login: async () => await this.#login(entry),
        switches: this.#switches,
        isDetached: (device) => this.detached.has(device),
      });
      const outages = this.#outages;
      if (!(await session.connect())) continue;
      if (outages !== this.#outages) {
        await session.drop();
        return;
      }
      this.#sessions.set(entry.name, session);
      mkdirSync(this.#devicesFolder, { recursive: true });
      if (session.device !== null) writeFileSync(join(this.#devicesFolder, session.device.name), '');
    }
  }

  /** @throws IscsiRefusal while a device is in use */
  async removeSession(target: string): Promise<void> {
    const session = this.#sessions.get(target);
    if (session === undefined) throw new IscsiRefusal(`No session found for target ${target}`);
    if (session.device?.isOpen === true) {
      throw new IscsiRefusal(`Cannot remove session: device ${session.device.name} is in use.`);
    }
    await this.#end(target, session);
  }

  /** @throws IscsiRefusal while it is in use */
  setDeviceState(name: string, state: 'on' | 'off'): void {
    const device = this.device(name);
    if (device === undefined) throw new IscsiRefusal(`Invalid device ${name}: not found.`);
    if (state === 'on') this.detached.delete(name);
    else if (device.isOpen) throw new IscsiRefusal(`Unable to set device's status. Error was: Device ${name} is busy.`);
    else this.detached.add(name);
  }

  /** The link is lost for a moment; sessions come back by themselves. */
  async cut(): Promise<number> {
    const sessions = this.sessions();
    for (const session of sessions) await session.cut();
    return sessions.length;
  }

  /** Sessions and devices are gone without a word to anybody; what is configured stays. */
  async losePower(): Promise<void> {
    this.#outages += 1;
    const sessions = this.sessions();
    this.#sessions.clear();
    for (const session of sessions) {
      await session.drop();
      this.#removeNode(session);
    }
  }

  state(): IscsiState {
    return {
      enabled: this.enabled,
      initiator: this.initiator,
      statics: this.statics.map(({ name }) => name),
      sessions: this.sessions().map(({ entry }) => entry.name),
      devices: this.devices().map(({ name }) => name),
      detached: [...this.detached],
      chap: [...this.targetChap.keys()],
      adapterChap: this.chap.uni !== null,
      openRules: this.#firewall.rulesets.filter(({ enabled }) => enabled).map(({ name }) => name),
      restrictedRules: this.#firewall.rulesets.filter(({ allowedAll }) => !allowedAll).map(({ name }) => name),
    };
  }

  async close(): Promise<void> {
    for (const [name, session] of this.#sessions) await this.#end(name, session);
  }

  async #end(name: string, session: TargetSession): Promise<void> {
    this.#sessions.delete(name);
    await session.close();
    this.#removeNode(session);
  }

  #removeNode({ device }: TargetSession): void {
    if (device !== null) rmSync(join(this.#devicesFolder, device.name), { force: true });
  }

  async #login({ address, port, name }: TargetEntry): Promise<IscsiSession> {
    const { iscsiPath, iscsiSecret } = this.#switches();
    if (iscsiPath === 'dead') throw new Error('no route to host');
    if (!this.#firewall.letsOut(address, port)) throw new Error('connection timed out');
    const own = this.targetChap.get(name);
    const uni = own?.uni ?? this.chap.uni;
    return await IscsiSession.open(buildIscsi(), {
      address,
      port,
      target: name,
      initiator: this.initiator,
      chap: uni === null ? null : { ...uni, secret: iscsiSecret === 'wrong' ? 'not-the-secret-at-all' : uni.secret },
      mutual: own?.mutual ?? this.chap.mutual,
    });
  }
}

interface SessionSurroundings {
  login(): Promise<IscsiSession>;
  switches(): Switches;
  isDetached(device: string): boolean;
}

/** A target that the adapter is logged in to, or tries to be again. */
export class TargetSession {
  readonly entry: TargetEntry;
  device: IscsiDevice | null = null;
  readonly #around: SessionSurroundings;
  #live: IscsiSession | null = null;
  #isClosed = false;
  lastError = '';

  constructor(entry: TargetEntry, around: SessionSurroundings) {
    this.entry = entry;
    this.#around = around;
  }

  get live(): IscsiSession | null {
    return this.#live;
  }

  async connect(): Promise<boolean> {
    try {
      const live = await this.#around.login();
      // A login takes its time; the session may have been removed meanwhile.
      if (this.#isClosed) {
        await live.cut();
        return false;
      }
      this.#live = live;
      this.device ??= new IscsiDevice(this, live.facts, this.#around);
      void live.ended.then(() => {
        if (this.#live === live) this.#live = null;
        if (!this.#isClosed) void this.#reconnect();
      });
      return true;
    } catch (error) {
      this.lastError = error instanceof Error ? error.message : String(error);
      return false;
    }
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  async cut(): Promise<void> {
    await this.#live?.cut();
  }

  /** Ends it as the end of the host does: no logout, no new attempt, and its device answers no more. */
  async drop(): Promise<void> {
    this.#isClosed = true;
    await this.#live?.cut();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const live = this.#live;
    if (live === null) return;
    // A target that does not answer a logout is left all the same.
    await Promise.race([live.close(), delay(2000)]);
    await live.cut();
  }

  async #reconnect(): Promise<void> {
    while (!this.#isClosed && this.#live === null) {
      await delay(RECONNECT_MS);
      if (!this.#isClosed) await this.connect();
    }
  }
}

/** A disk as the host's storage stack sees it. */
export class IscsiDevice {
  readonly name: string;
  readonly facts: UnitFacts;
  readonly session: TargetSession;
  readonly #around: SessionSurroundings;
  #users = 0;

  constructor(session: TargetSession, facts: UnitFacts, around: SessionSurroundings) {
    this.session = session;
    this.facts = facts;
    this.#around = around;
    const isOther = around.switches().iscsiDeviceName === 'other';
    this.name = isOther ? `t10.${facts.vendor.trim()}____${facts.serial}` : `naa.${facts.naa}`;
  }

  get isOpen(): boolean {
    return this.#users > 0;
  }

  get isDetached(): boolean {
    return this.#around.isDetached(this.name);
  }

  get isAlive(): boolean {
    return this.session.live !== null && this.#around.switches().iscsiPath !== 'dead';
  }

  /** Gives the way to let go. */
  open(): () => void {
    this.#users += 1;
    let isOpen = true;
    return () => {
      if (isOpen) this.#users -= 1;
      isOpen = false;
    };
  }

  read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return this.#attempt((live) => live.read(offsetBytes, lengthBytes));
  }

  write(offsetBytes: number, data: Buffer): Promise<void> {
    return this.#attempt((live) => live.write(offsetBytes, data));
  }

  zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#attempt((live) => live.zero(offsetBytes, lengthBytes));
  }

  synchronize(): Promise<void> {
    return this.#attempt((live) => live.synchronize());
  }

  /** Commands outlive a lost connection for a while, and are then sent again. @throws CommandFailed */
  async #attempt<T>(command: (live: IscsiSession) => Promise<T>): Promise<T> {
    const untilMs = performance.now() + this.#around.switches().iscsiPathTimeoutMs;
    for (;;) {
      const live = this.isAlive ? this.session.live : null;
      try {
        if (live !== null) return await command(live);
      } catch (error) {
        if (!(error instanceof SessionLost)) throw error;
      }
      if (this.session.isClosed || performance.now() > untilMs) throw new CommandFailed('all paths down');
      await delay(100);
    }
  }
}
