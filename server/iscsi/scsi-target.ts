import type { LogicalUnit } from './logical-unit.ts';
import { standardInquiry } from './device-pages.ts';
import type { TargetAccess } from './login.ts';
import type { ScsiReply, ScsiRequest } from './scsi-request.ts';
import { encodeSense, SENSE, STATUS } from './sense.ts';

export interface SessionEnd {
  initiatorName: string;
  /** Ended by a logout, with every command answered; false: the connection was lost or replaced. */
  orderly: boolean;
}

/** A target: units under one iSCSI name, and who may use them. */
export interface ScsiTarget {
  readonly name: string;
  readonly access: readonly TargetAccess[];
  /** By logical unit number. */
  readonly units: readonly LogicalUnit[];
  readonly onSessionEnd: (end: SessionEnd) => void;
}

/** The unit that an eight-byte LUN field names (SAM-5 section 4.7), if there is one. */
export function unitAt(target: ScsiTarget, lunField: Buffer): LogicalUnit | undefined {
  const method = lunField.readUInt8(0) >> 6;
  if (method > 1) return undefined;
  const number = lunField.readUInt16BE(0) & 0x3fff;
  // Peripheral addressing knows bus 0 and 256 units.
  if ((method === 0 && number > 255) || lunField.readUIntBE(2, 6) !== 0) return undefined;
  return target.units[number];
}

/** Commands of a unit, and those of a target that are not of one unit. */
export function executeScsi(
  target: ScsiTarget,
  unit: LogicalUnit | undefined,
  request: ScsiRequest,
): Promise<ScsiReply> | ScsiReply {
  const { cdb } = request;
  const opcode = cdb.readUInt8(0);
  if (opcode === 0xa0) return reportLuns(target, cdb);
  if (unit !== undefined) return unit.execute(request);
  // Of what is not there no vital product data can be told.
  if (opcode === 0x12 && (cdb.readUInt8(1) & 0x01) !== 0)
    return { status: STATUS.checkCondition, dataIn: null, sense: encodeSense(SENSE.invalidFieldInCdb) };
  if (opcode === 0x12) {
    const data = standardInquiry();
    // No device can be there.
    data[0] = 0x7f;
    return { status: STATUS.good, dataIn: data.subarray(0, cdb.readUInt16BE(3)), sense: null };
  }
  const sense = encodeSense(SENSE.unitNotSupported);
  if (opcode === 0x03) return { status: STATUS.good, dataIn: sense.subarray(0, cdb.readUInt8(4)), sense: null };
  return { status: STATUS.checkCondition, dataIn: null, sense };
}

function reportLuns(target: ScsiTarget, cdb: Buffer): ScsiReply {
  const select = cdb.readUInt8(2);
  const allocated = cdb.readUInt32BE(6);
  if (select > 2 || allocated < 16)
    return { status: STATUS.checkCondition, dataIn: null, sense: encodeSense(SENSE.invalidFieldInCdb) };
  // 1 asks for well known units, of which there are none.
  const count = select === 1 ? 0 : target.units.length;
  const data = Buffer.alloc(8 + 8 * count);
  data.writeUInt32BE(8 * count, 0);
  for (let lun = 0; lun < count; lun += 1) data.writeUInt16BE(lun > 255 ? 0x4000 | lun : lun, 8 + 8 * lun);
  return { status: STATUS.good, dataIn: data.subarray(0, allocated), sense: null };
}
