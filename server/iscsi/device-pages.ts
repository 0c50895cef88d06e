import { createHash } from 'node:crypto';
import { KIB, MIB, SECTOR_BYTES } from '../runtime/index.ts';
import { ScsiCheck, SENSE } from './sense.ts';

/** What a logical unit says about itself: INQUIRY (SPC-4 section 6.6, SBC-3 section 6.5) and MODE SENSE. */

const VENDOR = 'DOZO    ';
const PRODUCT = 'Disk            ';
const REVISION = '0001';

/** Largest READ, WRITE, VERIFY or WRITE SAME. */
export const TRANSFER_BLOCKS_MAX = (4 * MIB) / SECTOR_BYTES;
export const COMPARE_BLOCKS_MAX = 128;
export const UNMAP_DESCRIPTORS_MAX = 256;
/** Of one UNMAP, which has to be answered before the initiator loses its patience: 512 MiB. */
export const UNMAP_BLOCKS_MAX = 2 ** 20;
const OPTIMAL_BLOCKS = (256 * KIB) / SECTOR_BYTES;
const UNMAP_GRANULARITY_BLOCKS = (64 * KIB) / SECTOR_BYTES;

/** Names of a disk that stay the same wherever and whenever it is served. */
export interface UnitIdentity {
  /** 20 characters. */
  serial: string;
  /** 16 hexadecimal digits; type 3, locally assigned. `naa.` and this is the device's name on ESXi. */
  naa: string;
}

/** @param seed the same for the same disk, for instance a run and a disk's key */
export function identityOf(seed: string): UnitIdentity {
  const hash = createHash('sha256').update(seed).digest('hex');
  return { serial: hash.slice(0, 20), naa: `3${hash.slice(20, 35)}` };
}

export function standardInquiry(): Buffer {
  const data = Buffer.alloc(74);
  data[2] = 0x06; // SPC-4
  data[3] = 0x02; // response data format
  data[4] = data.length - 5;
  data[7] = 0x02; // CMDQUE
  data.write(VENDOR, 8, 'latin1');
  data.write(PRODUCT, 16, 'latin1');
  data.write(REVISION, 32, 'latin1');
  // SAM-5, SPC-4, SBC-3, iSCSI: no version claimed.
  [0x00a0, 0x0460, 0x04c0, 0x0960].forEach((version, index) => data.writeUInt16BE(version, 58 + 2 * index));
  return data;
}

export function vitalProductData(page: number, identity: UnitIdentity, options: { writable: boolean }): Buffer {
  switch (page) {
    case 0x00:
      return vpd(page, Buffer.from([0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2]));
    case 0x80:
      return vpd(page, Buffer.from(identity.serial, 'latin1'));
    case 0x83:
      return vpd(page, deviceIdentification(identity));
    case 0xb0:
      return vpd(page, blockLimits(options.writable));
    case 0xb1: {
      const characteristics = Buffer.alloc(60);
      // Not a rotating medium: whatever lies below, seek order is ours to choose.
      characteristics.writeUInt16BE(1, 0);
      return vpd(page, characteristics);
    }
    case 0xb2: {
      const provisioning = Buffer.alloc(4);
      if (options.writable) {
        provisioning[1] = 0xe4; // LBPU, LBPWS, LBPWS10, LBPRZ
        provisioning[2] = 0x02; // thin
      }
      return vpd(page, provisioning);
    }
    default:
      throw new ScsiCheck(SENSE.invalidFieldInCdb);
  }
}

function vpd(page: number, body: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head[1] = page;
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}

function deviceIdentification({ serial, naa }: UnitIdentity): Buffer {
  const binary = Buffer.from(naa, 'hex');
  const text = Buffer.from(`${VENDOR}${serial}`, 'latin1');
  return Buffer.concat([
    Buffer.from([0x01, 0x03, 0, binary.length]),
    binary,
    Buffer.from([0x02, 0x01, 0, text.length]),
    text,
  ]);
}

function blockLimits(writable: boolean): Buffer {
  const limits = Buffer.alloc(60);
  limits[0] = 0x01; // WSNZ: a WRITE SAME names its length
  limits[1] = COMPARE_BLOCKS_MAX;
  limits.writeUInt16BE(8, 2); // optimal granularity: 4 KiB
  limits.writeUInt32BE(TRANSFER_BLOCKS_MAX, 4);
  limits.writeUInt32BE(OPTIMAL_BLOCKS, 8);
  if (!writable) return limits;
  limits.writeUInt32BE(UNMAP_BLOCKS_MAX, 16);
  limits.writeUInt32BE(UNMAP_DESCRIPTORS_MAX, 20);
  limits.writeUInt32BE(UNMAP_GRANULARITY_BLOCKS, 24);
  limits.writeBigUInt64BE(BigInt(TRANSFER_BLOCKS_MAX), 32);
  return limits;
}

/** MODE SENSE. @param longHeader that of the 10-byte command */
export function modeSense(
  cdb: Buffer,
  { blocks, writable, longHeader }: { blocks: number; writable: boolean; longHeader: boolean },
): Buffer {
  const control = cdb.readUInt8(2) >> 6;
  const page = cdb.readUInt8(2) & 0x3f;
  const subpage = cdb.readUInt8(3);
  if (control === 3) throw new ScsiCheck(SENSE.savingNotSupported);
  const pages = modePages(control === 1);
  const wanted = page === 0x3f ? [...pages.values()] : [pages.get(page)];
  if ((subpage !== 0 && subpage !== 0xff) || wanted.includes(undefined)) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  const wantsDescriptor = (cdb.readUInt8(1) & 0x08) === 0;
  const descriptor = Buffer.alloc(wantsDescriptor ? 8 : 0);
  if (wantsDescriptor) {
    descriptor.writeUInt32BE(Math.min(blocks, 0xffffffff), 0);
    descriptor.writeUInt32BE(SECTOR_BYTES, 4);
  }
  const head = Buffer.alloc(longHeader ? 8 : 4);
  const specific = 0x10 | (writable ? 0 : 0x80); // DPOFUA, WP
  const body = Buffer.concat([head, descriptor, ...wanted.filter((part) => part !== undefined)]);
  if (longHeader) {
    body.writeUInt16BE(body.length - 2, 0);
    body[3] = specific;
    body.writeUInt16BE(descriptor.length, 6);
  } else {
    body[0] = body.length - 1;
    body[2] = specific;
    body[3] = descriptor.length;
  }
  return body;
}

/** @param changeable which bits could be changed: none */
function modePages(changeable: boolean): Map<number, Buffer> {
  const recovery = Buffer.from([0x01, 10, ...Array<number>(10).fill(0)]);
  const caching = Buffer.from([0x08, 18, 0x04, ...Array<number>(17).fill(0)]); // WCE
  const control = Buffer.from([0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0]); // unrestricted reordering
  const exceptions = Buffer.from([0x1c, 10, ...Array<number>(10).fill(0)]);
  const pages = [recovery, caching, control, exceptions];
  if (changeable) for (const page of pages) page.fill(0, 2);
  return new Map(pages.map((page) => [page.readUInt8(0), page]));
}
