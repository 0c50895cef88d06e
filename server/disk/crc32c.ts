/**
 * CRC32C (Castagnoli): the digest of iSCSI (RFC 7143 section 13.1), ext4 and XFS; zlib's CRC-32 is another polynomial.
 */

const POLYNOMIAL_REVERSED = 0x82f63b78;
const SLICES = 8;

/** One table a slice, one after the other: eight bytes are folded in at a time. */
const TABLES = buildTables();

function buildTables(): Int32Array {
  const tables = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ POLYNOMIAL_REVERSED : crc >>> 1;
    tables[byte] = crc;
  }
  for (let byte = 0; byte < 256; byte += 1) {
    for (let slice = 1; slice < SLICES; slice += 1) {
      const before = tables[(slice - 1) * 256 + byte] as number;
      tables[slice * 256 + byte] = (before >>> 8) ^ (tables[before & 0xff] as number);
    }
  }
  return tables;
}

/**
 * The checksum of `data`, or of what came before and `data`.
 * @param before result for the bytes before `data`
 */
export function crc32c(data: Uint8Array, before = 0): number {
  const table = TABLES;
  let crc = ~before;
  let at = 0;
  const whole = data.length - (data.length % SLICES);
  while (at < whole) {
    crc ^=
      (data[at] as number) |
      ((data[at + 1] as number) << 8) |
      ((data[at + 2] as number) << 16) |
      ((data[at + 3] as number) << 24);
    crc =
      (table[1792 + (crc & 0xff)] as number) ^
      (table[1536 + ((crc >>> 8) & 0xff)] as number) ^
      (table[1280 + ((crc >>> 16) & 0xff)] as number) ^
      (table[1024 + (crc >>> 24)] as number) ^
      (table[768 + (data[at + 4] as number)] as number) ^
      (table[512 + (data[at + 5] as number)] as number) ^
      (table[256 + (data[at + 6] as number)] as number) ^
      (table[data[at + 7] as number] as number);
    at += SLICES;
  }
  while (at < data.length) {
    crc = (crc >>> 8) ^ (table[(crc ^ (data[at] as number)) & 0xff] as number);
    at += 1;
  }
  return ~crc >>> 0;
}
