/**
 * Plain USTAR, the dialect that every tar of a NAS reads: names of at most 100 bytes, no extended records,
 * owner 0:0, one time for all. The same entries always give the same bytes.
 */

export interface TarEntry {
  /** Path inside the archive; of a folder with a slash at its end. */
  name: string;
  mode: number;
  /** Bytes of a file; null for a folder. */
  data: Buffer | null;
}

const BLOCK_BYTES = 512;
const NAME_BYTES_MAX = 100;

/**
 * @param entries in the order wanted
 * @param modifiedS seconds since 1970
 * @throws Error when a name does not fit
 */
export function writeTar(entries: readonly TarEntry[], modifiedS: number): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    parts.push(header(entry, modifiedS));
    if (entry.data === null) continue;
    parts.push(entry.data, Buffer.alloc(padding(entry.data.length)));
  }
  parts.push(Buffer.alloc(2 * BLOCK_BYTES));
  return Buffer.concat(parts);
}

function header(entry: TarEntry, modifiedS: number): Buffer {
  if (Buffer.byteLength(entry.name) > NAME_BYTES_MAX) throw new Error(`the name is too long for tar: ${entry.name}`);
  const isFolder = entry.data === null;
  if (isFolder !== entry.name.endsWith('/')) throw new Error(`a folder's name ends with a slash: ${entry.name}`);
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(entry.name, 0);
  writeOctal(block, entry.mode, 100, 8);
  writeOctal(block, 0, 108, 8);
  writeOctal(block, 0, 116, 8);
  writeOctal(block, entry.data?.length ?? 0, 124, 12);
  writeOctal(block, modifiedS, 136, 12);
  block.write(' '.repeat(8), 148);
  block.write(isFolder ? '5' : '0', 156);
  block.write('ustar\u000000', 257, 'latin1');
  block.write('root', 265);
  block.write('root', 297);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function writeOctal(block: Buffer, value: number, offset: number, length: number): void {
  const text = value.toString(8).padStart(length - 1, '0');
  if (text.length >= length) throw new Error(`the number ${value} does not fit into a tar header`);
  block.write(`${text}\0`, offset, 'latin1');
}

function padding(bytes: number): number {
  return (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
}
