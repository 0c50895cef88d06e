/** Protocol data units as bytes: RFC 7143 section 11. Numbers on the wire are big endian, digests little endian. */

import { crc32c } from '../disk/index.ts';

export const BHS_BYTES = 48;
const DIGEST_BYTES = 4;
/** A tag that stands for "none". */
export const NO_TAG = 0xffffffff;

export const OPCODE = {
  nopOut: 0x00,
  scsiCommand: 0x01,
  taskManagement: 0x02,
  login: 0x03,
  text: 0x04,
  dataOut: 0x05,
  logout: 0x06,
  nopIn: 0x20,
  scsiResponse: 0x21,
  taskManagementResponse: 0x22,
  loginResponse: 0x23,
  textResponse: 0x24,
  dataIn: 0x25,
  logoutResponse: 0x26,
  readyToTransfer: 0x31,
  reject: 0x3f,
} as const;

/** Section 11.17.1. */
export const REJECT = {
  dataDigest: 0x02,
  protocolError: 0x04,
  notSupported: 0x05,
  invalidField: 0x09,
} as const;

export interface Pdu {
  opcode: number;
  immediate: boolean;
  /** Bit 7 of byte 1: final, or transit in a login. */
  final: boolean;
  /** The basic header segment; nobody else's memory. */
  header: Buffer;
  /** Without padding. */
  data: Buffer;
}

export interface Digests {
  header: boolean;
  data: boolean;
}

/** What the peer sent cannot be understood, or may not be sent: the connection ends (recovery level 0). */
export class ProtocolError extends Error {
  readonly rejectReason: number;
  /** The header at fault, to be sent back. */
  readonly header: Buffer | null;

  constructor(message: string, rejectReason: number = REJECT.protocolError, header: Buffer | null = null) {
    super(message);
    this.name = 'ProtocolError';
    this.rejectReason = rejectReason;
    this.header = header;
  }
}

/**
 * Cuts a byte stream into PDUs. Holds one PDU at most, whose length is checked before memory is taken for it.
 */
export class PduReader {
  /** May be changed between two PDUs: digests begin after the login. */
  digests: Digests = { header: false, data: false };
  dataBytesMax: number;
  /** Whether a PDU's data need not outlive its delivery: then all use the same memory. */
  reusesData = false;
  #scratch: Buffer = Buffer.alloc(0);
  readonly #deliver: (pdu: Pdu) => void;
  /** Basic header, additional header, header digest. */
  #head: Buffer = Buffer.alloc(BHS_BYTES);
  #headBytes = 0;
  #headWanted = BHS_BYTES;
  #headComplete = false;
  #body: Buffer | null = null;
  #bodyBytes = 0;
  #dataBytes = 0;

  constructor(dataBytesMax: number, deliver: (pdu: Pdu) => void) {
    this.dataBytesMax = dataBytesMax;
    this.#deliver = deliver;
  }

  /** @throws ProtocolError */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length || (this.#headComplete && this.#bodyWanted() === 0)) {
      at = this.#headComplete ? this.#takeBody(chunk, at) : this.#takeHead(chunk, at);
    }
  }

  #bodyWanted(): number {
    if (this.#dataBytes === 0) return 0;
    return padded(this.#dataBytes) + (this.digests.data ? DIGEST_BYTES : 0);
  }

  #takeHead(chunk: Buffer, at: number): number {
    const bytes = Math.min(this.#headWanted - this.#headBytes, chunk.length - at);
    chunk.copy(this.#head, this.#headBytes, at, at + bytes);
    this.#headBytes += bytes;
    if (this.#headBytes < this.#headWanted) return at + bytes;
    if (this.#headWanted === BHS_BYTES) {
      const more = this.#head.readUInt8(4) * 4 + (this.digests.header ? DIGEST_BYTES : 0);
      if (more > 0) {
        this.#head = Buffer.concat([this.#head, Buffer.alloc(more)]);
        this.#headWanted += more;
        return at + bytes;
      }
    }
    this.#checkHead();
    return at + bytes;
  }

  #checkHead(): void {
    const head = this.#head;
    if (this.digests.header) {
      const end = head.length - DIGEST_BYTES;
      if (crc32c(head.subarray(0, end)) !== head.readUInt32LE(end)) throw new ProtocolError('header digest is wrong');
    }
    this.#dataBytes = head.readUIntBE(5, 3);
    if (this.#dataBytes > this.dataBytesMax)
      throw new ProtocolError(`data segment of ${this.#dataBytes} bytes, ${this.dataBytesMax} allowed`);
    this.#headComplete = true;
  }

  #takeBody(chunk: Buffer, at: number): number {
    const wanted = this.#bodyWanted();
    if (this.#body === null && chunk.length - at >= wanted) {
      this.#emit(chunk.subarray(at, at + wanted));
      return at + wanted;
    }
    this.#body ??= this.#newBody(wanted);
    const bytes = Math.min(wanted - this.#bodyBytes, chunk.length - at);
    chunk.copy(this.#body, this.#bodyBytes, at, at + bytes);
    this.#bodyBytes += bytes;
    if (this.#bodyBytes === wanted) this.#emit(this.#body);
    return at + bytes;
  }

  #newBody(bytes: number): Buffer {
    if (!this.reusesData) return Buffer.allocUnsafe(bytes);
    if (this.#scratch.length < bytes)
      this.#scratch = Buffer.allocUnsafeSlow(Math.max(bytes, this.dataBytesMax + DIGEST_BYTES));
    return this.#scratch.subarray(0, bytes);
  }

  #emit(body: Buffer): void {
    const header = this.#head.subarray(0, BHS_BYTES);
    const end = padded(this.#dataBytes);
    if (this.digests.data && body.length > 0 && crc32c(body.subarray(0, end)) !== body.readUInt32LE(end))
      throw new ProtocolError('data digest is wrong', REJECT.dataDigest, header);
    const data = body.subarray(0, this.#dataBytes);
    this.#head = Buffer.alloc(BHS_BYTES);
    this.#headBytes = 0;
    this.#headWanted = BHS_BYTES;
    this.#headComplete = false;
    this.#body = null;
    this.#bodyBytes = 0;
    this.#dataBytes = 0;
    const first = header.readUInt8(0);
    this.#deliver({
      opcode: first & 0x3f,
      immediate: (first & 0x40) !== 0,
      final: (header.readUInt8(1) & 0x80) !== 0,
      header,
      data,
    });
  }
}

const PADDING = [Buffer.alloc(0), Buffer.alloc(3), Buffer.alloc(2), Buffer.alloc(1)] as const;

/** Adds the buffers of one PDU to `parts`, in the order in which they go out. Sets the data length in `header`. */
export function framePdu(header: Buffer, data: Buffer | null, digests: Digests, parts: Buffer[] = []): Buffer[] {
  const dataBytes = data?.length ?? 0;
  header.writeUIntBE(dataBytes, 5, 3);
  parts.push(header);
  if (digests.header) parts.push(digest(crc32c(header)));
  if (data === null || dataBytes === 0) return parts;
  const padding = PADDING[dataBytes % 4] as Buffer;
  parts.push(data);
  if (padding.length > 0) parts.push(padding);
  if (digests.data) parts.push(digest(crc32c(padding, crc32c(data))));
  return parts;
}

function digest(value: number): Buffer {
  const bytes = Buffer.alloc(DIGEST_BYTES);
  bytes.writeUInt32LE(value);
  return bytes;
}

function padded(bytes: number): number {
  return bytes + ((4 - (bytes % 4)) % 4);
}
