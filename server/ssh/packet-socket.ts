import { Socket } from 'node:net';
import { releaseMemory } from '../runtime/index.ts';
import { PacketMemory } from './packet-memory.ts';

/** Before each packet stands its length, with GCM in clear (RFC 5647, section 7.3), and behind it then the tag. */
const LENGTH_BYTES = 4;
const GCM_TAG_BYTES = 16;
/** Longer ones are against the protocol (RFC 4253, section 6.1); ssh2 says so. */
const PACKET_BYTES_MAX = 64 * 1024;
/** What the socket reads into: the beginning of a packet, and at least as much again. */
const ROOM_BYTES = 256 * 1024;
const IDENTIFICATION = /^SSH-[^\n]*\n/m;
const WORD_BYTES_MAX = 64 * 1024;
/** Smaller packets hold words of the protocol, which ssh2 may keep; larger ones data of a channel. */
const DATA_BYTES_MIN = 8 * 1024;
/**
 * How what arrives is handed to ssh2: as it comes up to the end of the host's first words, then packet by packet,
 * and as it comes again with ciphers that hide the lengths.
 */
type Framing = { kind: 'words'; text: string } | { kind: 'packets'; tagBytes: number } | { kind: 'none' };

type Sent = (error?: Error | null) => void;

/**
 * The socket under an SSH connection, made to need no fresh memory for the data it moves. It reads into one
 * buffer; ssh2 gets whole packets in memory that their readers give back, decrypts them in place and hands
 * on parts of them. What it sends is given back to the system once it is sent.
 */
export class PacketSocket extends Socket {
  readonly #memory = new PacketMemory();
  readonly #room = Buffer.allocUnsafeSlow(ROOM_BYTES);
  /** Received and not handed on yet: from `start` to `end` of the room. */
  #start = 0;
  #end = 0;
  #framing: Framing = { kind: 'words', text: '' };

  constructor() {
    super({
      onread: { buffer: () => this.#room.subarray(this.#end), callback: (lengthBytes) => this.#received(lengthBytes) },
    });
  }

  /** To be called with the cipher of what the host sends, each time that keys were exchanged. */
  useCipher(name: string): void {
    this.#framing = name.includes('-gcm') ? { kind: 'packets', tagBytes: GCM_TAG_BYTES } : { kind: 'none' };
  }

  override _write(data: unknown, encoding: BufferEncoding, callback: Sent): void {
    super._write(data, encoding, (error) => {
      releasePacket(data);
      callback(error);
    });
  }

  override _writev(chunks: { chunk: unknown; encoding: BufferEncoding }[], callback: Sent): void {
    super._writev?.(chunks, (error) => {
      for (const { chunk } of chunks) releasePacket(chunk);
      callback(error);
    });
  }

  #received(lengthBytes: number): true {
    this.#end += lengthBytes;
    while (this.#start < this.#end && this.#handOn());
    this.#room.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    return true;
  }

  /** False: what is there is the beginning of a packet. */
  #handOn(): boolean {
    const framing = this.#framing;
    const thereBytes = this.#end - this.#start;
    if (framing.kind === 'words') return this.#emitCopy(this.#wordBytes(framing.text, thereBytes));
    if (framing.kind === 'none') return this.#emitCopy(thereBytes);
    if (thereBytes < LENGTH_BYTES) return false;
    const packetBytes = LENGTH_BYTES + this.#room.readUInt32BE(this.#start) + framing.tagBytes;
    if (packetBytes > PACKET_BYTES_MAX) return this.#emitCopy(thereBytes);
    if (thereBytes < packetBytes) return false;
    if (packetBytes < DATA_BYTES_MIN) return this.#emitCopy(packetBytes);
    this.#start += packetBytes;
    this.emit('data', this.#memory.copyOf(this.#room.subarray(this.#start - packetBytes, this.#start)));
    return true;
  }

  /** How many of the bytes belong to what stands before the first packet: lines, the last of them `SSH-2.0-…`. */
  #wordBytes(before: string, thereBytes: number): number {
    const text = before + this.#room.toString('latin1', this.#start, this.#end);
    const ident = IDENTIFICATION.exec(text);
    if (ident === null) {
      // Whoever says so much is no SSH server, and ssh2 has found out.
      this.#framing = text.length > WORD_BYTES_MAX ? { kind: 'none' } : { kind: 'words', text };
      return thereBytes;
    }
    this.#framing = { kind: 'packets', tagBytes: 0 };
    return ident.index + ident[0].length - before.length;
  }

  #emitCopy(lengthBytes: number): true {
    const from = this.#start;
    this.#start += lengthBytes;
    this.emit('data', Buffer.from(this.#room.subarray(from, this.#start)));
    return true;
  }
}

/** ssh2 makes one buffer a packet and looks at it no more. A view of something larger is somebody else's. */
function releasePacket(data: unknown): void {
  if (data instanceof Uint8Array && data.byteLength === data.buffer.byteLength) releaseMemory(data);
}
