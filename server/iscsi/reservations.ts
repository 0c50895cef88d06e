import { ReservationConflict, ScsiCheck, SENSE, type SenseCode } from './sense.ts';

/**
 * Persistent reservations (SPC-4 section 5.13) and the old RESERVE and RELEASE of one logical unit, as the
 * VMkernel and cluster software use them. They live as long as the target serves the disk and outlive sessions;
 * APTPL is refused.
 */

const TYPE = {
  writeExclusive: 1,
  exclusiveAccess: 3,
  writeExclusiveRegistrants: 5,
  exclusiveAccessRegistrants: 6,
  writeExclusiveAll: 7,
  exclusiveAccessAll: 8,
} as const;
const TYPES = new Set<number>(Object.values(TYPE));
/** Table of the types as READ CAPABILITIES shows them. */
const TYPE_MASK = 0xea01;
const NO_KEY = '0000000000000000';
const REGISTRATIONS_MAX = 256;

export type AccessKind = 'read' | 'write';

export class Reservations {
  readonly #attention: (nexus: string, sense: SenseCode) => void;
  readonly #keys = new Map<string, string>();
  #generation = 0;
  #holder: string | null = null;
  #type = 0;
  #key = NO_KEY;
  /** Holder of the old kind of reservation, which ends with the nexus. */
  #oldHolder: string | null = null;

  constructor(attention: (nexus: string, sense: SenseCode) => void) {
    this.#attention = attention;
  }

  /** @throws ReservationConflict */
  assertAccess(nexus: string, kind: AccessKind): void {
    this.assertNotReserved(nexus);
    if (this.#type === 0 || this.#isHolder(nexus)) return;
    if (this.#isRegistrantsType() && this.#keys.has(nexus)) return;
    const forWritersOnly =
      this.#type === TYPE.writeExclusive ||
      this.#type === TYPE.writeExclusiveRegistrants ||
      this.#type === TYPE.writeExclusiveAll;
    if (kind === 'read' && forWritersOnly) return;
    throw new ReservationConflict();
  }

  /** Of the old kind, which shuts out nearly everything. */
  assertNotReserved(nexus: string): void {
    if (this.#oldHolder !== null && this.#oldHolder !== nexus) throw new ReservationConflict();
  }

  reserve(nexus: string): void {
    if (this.#keys.size > 0) throw new ReservationConflict();
    this.assertNotReserved(nexus);
    this.#oldHolder = nexus;
  }

  /** Only the holder's release has an effect; another's is no error. */
  release(nexus: string): void {
    if (this.#oldHolder === nexus) this.#oldHolder = null;
  }

  reset(): void {
    this.#oldHolder = null;
  }

  /** PERSISTENT RESERVE IN. */
  report(action: number): Buffer {
    switch (action) {
      case 0:
        return this.#head([...this.#keys.values()].map((key) => Buffer.from(key, 'hex')));
      case 1:
        return this.#head(this.#type === 0 ? [] : [this.#reservationDescriptor()]);
      case 2: {
        const capabilities = Buffer.alloc(8);
        capabilities.writeUInt16BE(8, 0);
        // Type mask valid.
        capabilities[3] = 0x80;
        capabilities.writeUInt16BE(TYPE_MASK, 4);
        return capabilities;
      }
      case 3:
        return this.#head([...this.#keys].map(([nexus, key]) => this.#fullStatus(nexus, key)));
      default:
        throw new ScsiCheck(SENSE.invalidFieldInCdb);
    }
  }

  /** PERSISTENT RESERVE OUT. @param parameters 24 bytes */
  change(nexus: string, action: number, scopeAndType: number, parameters: Buffer): void {
    this.assertNotReserved(nexus);
    if (parameters.length !== 24) throw new ScsiCheck(SENSE.parameterListLength);
    const key = parameters.toString('hex', 0, 8);
    const serviceKey = parameters.toString('hex', 8, 16);
    // SPEC_I_PT, ALL_TG_PT, APTPL.
    if ((parameters.readUInt8(20) & 0x0d) !== 0) throw new ScsiCheck(SENSE.invalidFieldInParameters);
    const type = scopeAndType & 0x0f;
    if (action === 0 || action === 6) {
      this.#register(nexus, action === 6 ? null : key, serviceKey);
      return;
    }
    if (this.#keys.get(nexus) !== key) throw new ReservationConflict();
    if (action !== 3 && (!TYPES.has(type) || scopeAndType >> 4 !== 0)) throw new ScsiCheck(SENSE.invalidFieldInCdb);
    switch (action) {
      case 1:
        this.#take(nexus, key, type);
        return;
      case 2:
        this.#giveBack(nexus, type);
        return;
      case 3:
        this.#clear(nexus);
        return;
      case 4:
      case 5:
        this.#preempt(nexus, { key, serviceKey, type });
        return;
      default:
        throw new ScsiCheck(SENSE.invalidFieldInCdb);
    }
  }

  /** @param key null: whatever was registered before */
  #register(nexus: string, key: string | null, serviceKey: string): void {
    const registered = this.#keys.get(nexus);
    if (key !== null && key !== (registered ?? NO_KEY)) throw new ReservationConflict();
    if (serviceKey === NO_KEY) {
      if (registered === undefined) return;
      this.#unregister(nexus);
    } else {
      if (registered === undefined && this.#keys.size >= REGISTRATIONS_MAX)
        throw new ScsiCheck(SENSE.invalidFieldInParameters);
      this.#keys.set(nexus, serviceKey);
      if (this.#holder === nexus) this.#key = serviceKey;
    }
    this.#generation += 1;
  }

  #unregister(nexus: string): void {
    const wasHolder = this.#isHolder(nexus);
    this.#keys.delete(nexus);
    if (!wasHolder || (this.#isAllType() && this.#keys.size > 0)) return;
    if (this.#isRegistrantsType()) this.#tellAll(SENSE.reservationsReleased, nexus);
    this.#free();
  }

  #take(nexus: string, key: string, type: number): void {
    if (this.#type === 0) {
      this.#holder = nexus;
      this.#type = type;
      this.#key = key;
      return;
    }
    if (!this.#isHolder(nexus) || this.#type !== type) throw new ReservationConflict();
  }

  #giveBack(nexus: string, type: number): void {
    if (this.#type === 0 || !this.#isHolder(nexus)) return;
    if (this.#type !== type) throw new ScsiCheck(SENSE.invalidRelease);
    if (this.#isRegistrantsType()) this.#tellAll(SENSE.reservationsReleased, nexus);
    this.#free();
  }

  #clear(nexus: string): void {
    this.#tellAll(SENSE.reservationsPreempted, nexus);
    this.#keys.clear();
    this.#free();
    this.#generation += 1;
  }

  #preempt(nexus: string, { key, serviceKey, type }: { key: string; serviceKey: string; type: number }): void {
    const takesOver = this.#type !== 0 && (this.#isAllType() ? serviceKey === NO_KEY : serviceKey === this.#key);
    if (serviceKey === NO_KEY && !takesOver) throw new ScsiCheck(SENSE.invalidFieldInParameters);
    const gone = [...this.#keys].filter(
      ([other, otherKey]) => other !== nexus && (otherKey === serviceKey || serviceKey === NO_KEY),
    );
    if (gone.length === 0 && !takesOver) throw new ReservationConflict();
    for (const [other] of gone) {
      this.#keys.delete(other);
      this.#attention(other, SENSE.registrationsPreempted);
    }
    if (takesOver) {
      if (this.#type !== type) this.#tellAll(SENSE.reservationsReleased, nexus);
      this.#holder = nexus;
      this.#type = type;
      this.#key = key;
    }
    this.#generation += 1;
  }

  #free(): void {
    this.#holder = null;
    this.#type = 0;
    this.#key = NO_KEY;
  }

  #tellAll(sense: SenseCode, except: string): void {
    for (const nexus of this.#keys.keys()) if (nexus !== except) this.#attention(nexus, sense);
  }

  #isHolder(nexus: string): boolean {
    return this.#type !== 0 && (this.#isAllType() ? this.#keys.has(nexus) : this.#holder === nexus);
  }

  #isAllType(): boolean {
    return this.#type === TYPE.writeExclusiveAll || this.#type === TYPE.exclusiveAccessAll;
  }

  #isRegistrantsType(): boolean {
    return this.#type >= TYPE.writeExclusiveRegistrants;
  }

  #head(descriptors: Buffer[]): Buffer {
    const body = Buffer.concat(descriptors);
    const head = Buffer.alloc(8);
    head.writeUInt32BE(this.#generation >>> 0, 0);
    head.writeUInt32BE(body.length, 4);
    return Buffer.concat([head, body]);
  }

  #reservationDescriptor(): Buffer {
    const descriptor = Buffer.alloc(16);
    if (!this.#isAllType()) descriptor.write(this.#key, 0, 'hex');
    descriptor[13] = this.#type;
    return descriptor;
  }

  #fullStatus(nexus: string, key: string): Buffer {
    // TransportID of an iSCSI initiator port: format 1, name and ISID as text.
    const name = Buffer.from(`${nexus}\0`, 'utf8');
    const transport = Buffer.alloc(4 + name.length + ((4 - (name.length % 4)) % 4));
    transport[0] = 0x45;
    transport.writeUInt16BE(transport.length - 4, 2);
    name.copy(transport, 4);
    const head = Buffer.alloc(24);
    head.write(key, 0, 'hex');
    if (this.#isHolder(nexus)) {
      head[12] = 1;
      head[13] = this.#type;
    }
    head.writeUInt16BE(1, 18);
    head.writeUInt32BE(transport.length, 20);
    return Buffer.concat([head, transport]);
  }
}
