import { errnoOf, toAppError } from '../errors/index.ts';
import { SECTOR_BYTES } from '../runtime/index.ts';
import type { BackingDisk } from './backing-disk.ts';
import type { UnitIdentity } from './device-pages.ts';
import { RangeLock } from './range-lock.ts';
import { Reservations } from './reservations.ts';
import { findCommand, isKnownOpcode } from './scsi-commands.ts';
import type { CommandUnit, ScsiReply, ScsiRequest } from './scsi-request.ts';
import { encodeSense, ReservationConflict, ScsiCheck, SENSE, STATUS, type SenseCode } from './sense.ts';

/** Unit attentions kept for one nexus; the oldest say enough. */
const ATTENTIONS_MAX = 8;

/** A disk as SCSI sees it (SAM-5, SPC-4, SBC-3): commands in, status, data and sense out. */
export class LogicalUnit implements CommandUnit {
  readonly disk: BackingDisk;
  readonly identity: UnitIdentity;
  readonly reservations: Reservations;
  readonly locks = new RangeLock();
  readonly #attentions = new Map<string, SenseCode[]>();
  /** The disk's own errors, for whoever serves it. */
  readonly #onDiskError: (error: Error) => void;

  constructor(disk: BackingDisk, identity: UnitIdentity, onDiskError: (error: Error) => void) {
    this.disk = disk;
    this.identity = identity;
    this.#onDiskError = onDiskError;
    this.reservations = new Reservations((nexus, sense) => this.#attend(nexus, sense));
  }

  get blocks(): number {
    return Math.floor(this.disk.sizeBytes / SECTOR_BYTES);
  }

  attach(nexus: string): void {
    this.#attentions.set(nexus, [SENSE.powerOn]);
  }

  detach(nexus: string): void {
    this.#attentions.delete(nexus);
    this.reservations.release(nexus);
  }

  /** LOGICAL UNIT RESET: the tasks are the caller's to end. */
  reset(): void {
    this.reservations.reset();
    for (const nexus of this.#attentions.keys()) this.#attend(nexus, SENSE.deviceReset);
  }

  takeAttention(nexus: string): SenseCode | undefined {
    return this.#attentions.get(nexus)?.shift();
  }

  /** Bytes that the command takes from the initiator; 0 for one that will be refused. */
  dataOutBytes(cdb: Buffer): number {
    return findCommand(cdb)?.dataOutBytes?.(cdb) ?? 0;
  }

  /** Memory that the command needs besides what it takes from the initiator. */
  workBytes(cdb: Buffer): number {
    return findCommand(cdb)?.workBytes?.(cdb) ?? 0;
  }

  /** Never rejects: what goes wrong is a status with sense. */
  async execute(request: ScsiRequest): Promise<ScsiReply> {
    try {
      const command = findCommand(request.cdb);
      if (command?.ignoresAttention !== true) {
        const attention = this.takeAttention(request.nexus);
        if (attention !== undefined) throw new ScsiCheck(attention);
      }
      if (command === undefined)
        throw new ScsiCheck(isKnownOpcode(request.cdb.readUInt8(0)) ? SENSE.invalidFieldInCdb : SENSE.invalidOpcode);
      // NACA: no automatic contingent allegiance, as the INQUIRY data say.
      if (((request.cdb[command.usage.length - 1] ?? 0) & 0x04) !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
      if (command.access === 'read' || command.access === 'write')
        this.reservations.assertAccess(request.nexus, command.access);
      else if (command.access === 'reserve') this.reservations.assertNotReserved(request.nexus);
      const wantedBytes = command.dataOutBytes?.(request.cdb) ?? 0;
      if (command.dataOutRule === 'exact' && request.announcedBytes !== wantedBytes)
        throw new ScsiCheck(this.disk.writable ? SENSE.invalidFieldInCdb : SENSE.writeProtected);
      if (command.dataOutRule !== 'partial' && request.dataOut.length < wantedBytes)
        throw new ScsiCheck(SENSE.invalidInformationUnit);
      const dataIn = await command.run(this, request);
      return { status: STATUS.good, dataIn, sense: null };
    } catch (error) {
      if (error instanceof ReservationConflict)
        return { status: STATUS.reservationConflict, dataIn: null, sense: null };
      const check = error instanceof ScsiCheck ? error : this.#diskError(request, error);
      return { status: STATUS.checkCondition, dataIn: null, sense: encodeSense(check.sense, check.information) };
    }
  }

  #diskError({ cdb }: ScsiRequest, error: unknown): ScsiCheck {
    this.#onDiskError(toAppError(error));
    if (['ENOSPC', 'EDQUOT'].includes(errnoOf(error))) return new ScsiCheck(SENSE.spaceExhausted);
    return new ScsiCheck(findCommand(cdb)?.access === 'write' ? SENSE.mediumWriteError : SENSE.mediumReadError);
  }

  #attend(nexus: string, sense: SenseCode): void {
    const attentions = this.#attentions.get(nexus);
    if (attentions !== undefined && attentions.length < ATTENTIONS_MAX) attentions.push(sense);
  }
}
