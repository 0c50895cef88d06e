/** A buffer that has a memory of its own and is smaller is not worth the call. */
const OWN_BYTES_MIN = 16 * 1024;
/** So much longer than a buffer its memory may be and still be its own: what zlib needs, see `decodeChunk`. */
export const SPARE_BYTES = 64;

/**
 * Gives the memory of a buffer back now. V8 sees only its own small heap, lets dead buffers pile up outside
 * of it, and then collects everything to be rid of them: measured in a backup and a restore, 60 to 100 MB and
 * a tenth of the processor time.
 *
 * Only for a buffer that nobody looks at any more, and whose memory is nobody else's: afterwards it is empty,
 * and so is every other view of it. Small ones, which may lie in Node's shared pool, are left alone. Node 20, on
 * which the restore tool may run, cannot do it, and collects.
 */
export function releaseMemory(buffer: Uint8Array): void {
  const memory = buffer.buffer;
  if (!(memory instanceof ArrayBuffer) || !('transfer' in memory)) return;
  if (memory.byteLength > Buffer.poolSize || (buffer.length === memory.byteLength && buffer.length >= OWN_BYTES_MIN)) {
    memory.transfer(0);
  }
}

/** Whether nobody else's bytes lie in a buffer's memory: it is as long as the buffer, but for `SPARE_BYTES`. */
export function ownsMemory(buffer: Uint8Array): boolean {
  return buffer.byteOffset === 0 && buffer.buffer.byteLength <= buffer.length + SPARE_BYTES;
}
