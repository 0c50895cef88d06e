/** Holds the largest packet that hosts send: 32 KiB of data and what SSH adds to it. */
const SLOT_BYTES = 36 * 1024;
/** Slots kept for what comes next: as many packets as four channels hold whose reader is slow. */
const FREE_SLOTS_MAX = 288;

/**
 * Memory for packets that are on their way to their reader, used again and again. Fresh memory for each
 * would lie outside of V8's heap, which V8 collects only to get rid of it: 60 to 90 MB of dead buffers, and
 * a tenth of the processor time. A slot that nobody gives back is simply not used again but collected.
 */
export class PacketMemory {
  readonly #free: Buffer[] = [];

  /** A copy of the packet in a slot, or, where it does not fit, in memory of its own. */
  copyOf(packet: Buffer): Buffer {
    if (packet.length > SLOT_BYTES) return Buffer.from(packet);
    let slot = this.#free.pop();
    if (slot === undefined) slot = Buffer.allocUnsafeSlow(SLOT_BYTES);
    lent.set(slot.buffer, { slot, memory: this });
    packet.copy(slot);
    return slot.subarray(0, packet.length);
  }

  takeBack(slot: Buffer): void {
    if (this.#free.length < FREE_SLOTS_MAX) this.#free.push(slot);
  }
}

const lent = new WeakMap<ArrayBufferLike, { slot: Buffer; memory: PacketMemory }>();

/**
 * Says that a chunk of `SshChannel.stdout` was copied or is not wanted: its memory serves for what comes next.
 * To be said once all of the chunk is done with; nobody may look at any part of it afterwards. Chunks that
 * are kept are simply not given back. Any other buffer is left alone.
 */
export function giveBackChunk(chunk: Buffer): void {
  const loan = lent.get(chunk.buffer);
  if (loan === undefined) return;
  lent.delete(chunk.buffer);
  loan.memory.takeBack(loan.slot);
}
