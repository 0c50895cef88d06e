/** Status and sense data: SAM-5 section 5.3, SPC-4 section 4.5. */

export const STATUS = {
  good: 0x00,
  checkCondition: 0x02,
  reservationConflict: 0x18,
  taskSetFull: 0x28,
} as const;

export interface SenseCode {
  key: number;
  /** Additional sense code and its qualifier, as one number. */
  code: number;
}

export const SENSE = {
  none: { key: 0x0, code: 0x0000 },
  mediumWriteError: { key: 0x3, code: 0x0c00 },
  mediumReadError: { key: 0x3, code: 0x1100 },
  invalidInformationUnit: { key: 0x5, code: 0x0e03 },
  parameterListLength: { key: 0x5, code: 0x1a00 },
  invalidOpcode: { key: 0x5, code: 0x2000 },
  lbaOutOfRange: { key: 0x5, code: 0x2100 },
  invalidFieldInCdb: { key: 0x5, code: 0x2400 },
  unitNotSupported: { key: 0x5, code: 0x2500 },
  invalidFieldInParameters: { key: 0x5, code: 0x2600 },
  invalidRelease: { key: 0x5, code: 0x2604 },
  savingNotSupported: { key: 0x5, code: 0x3900 },
  powerOn: { key: 0x6, code: 0x2900 },
  deviceReset: { key: 0x6, code: 0x2903 },
  reservationsPreempted: { key: 0x6, code: 0x2a03 },
  reservationsReleased: { key: 0x6, code: 0x2a04 },
  registrationsPreempted: { key: 0x6, code: 0x2a05 },
  writeProtected: { key: 0x7, code: 0x2700 },
  spaceExhausted: { key: 0x7, code: 0x2707 },
  miscompare: { key: 0xe, code: 0x1d00 },
} as const satisfies Record<string, SenseCode>;

/** Fixed format. @param information for instance the offset of the first difference */
export function encodeSense({ key, code }: SenseCode, information?: number): Buffer {
  const sense = Buffer.alloc(18);
  sense[0] = information === undefined ? 0x70 : 0xf0;
  sense[2] = key;
  if (information !== undefined) sense.writeUInt32BE(information, 3);
  sense[7] = 10;
  sense.writeUInt16BE(code, 12);
  return sense;
}

/** A command that cannot be done, with the reason for the initiator. */
export class ScsiCheck extends Error {
  readonly sense: SenseCode;
  readonly information: number | undefined;

  constructor(sense: SenseCode, information?: number) {
    super(`check condition ${sense.key.toString(16)}/${sense.code.toString(16)}`);
    this.name = 'ScsiCheck';
    this.sense = sense;
    this.information = information;
  }
}

/** Somebody else holds the reservation. */
export class ReservationConflict extends Error {}
