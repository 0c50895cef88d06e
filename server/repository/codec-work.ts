import { checkStored, decodeChunk, encodeChunk, type ChunkIdentity } from './chunk-codec.ts';
import { ownsMemory, releaseMemory } from '../runtime/index.ts';
import type { CodecAnswer, CodecRequest, CodecThreadData, EncodedPart } from './codec-message.ts';
import { identify } from './keys.ts';
import { ID_BYTES } from './layout.ts';

export type CodecWork = (request: CodecRequest, transfer: ArrayBuffer[]) => NonNullable<CodecAnswer['result']>;

/** In place of a content that nobody wants, of a chunk that was found to be right. */
const EMPTY = new Uint8Array(0);

/**
 * What a codec thread does for a request; a pool without threads does it itself.
 * @param release gets what came with a request and is of no use after it
 */
export function createCodecWork(data: CodecThreadData, release: (buffer: Uint8Array) => void): CodecWork {
  const identity: ChunkIdentity = { algorithm: data.algorithm, identityKey: data.identityKey };
  const inputs = data.inputs.map((slot) => Buffer.from(slot));
  const outputs = data.outputs.map((slot) => Buffer.from(slot));
  /** For decrypted chunks before they are decompressed. */
  let room = Buffer.allocUnsafeSlow(0);

  return (request, transfer) => {
    switch (request.type) {
      case 'hash': {
        const input = slotOf(inputs, request.slot);
        const ids = Buffer.allocUnsafeSlow(request.lengths.length * ID_BYTES);
        let at = 0;
        for (const [index, length] of request.lengths.entries()) {
          identify(input.subarray(at, at + length), identity.algorithm, identity.identityKey).copy(
            ids,
            index * ID_BYTES,
          );
          at += length;
        }
        transfer.push(ids.buffer);
        return ids;
      }
      case 'encode': {
        const input = slotOf(inputs, request.slot);
        const output = slotOf(outputs, request.slot);
        const parts: EncodedPart[] = [];
        let end = 0;
        for (const { offset, length, id, row } of request.parts) {
          const content = input.subarray(offset, offset + length);
          const rest = output.subarray(end);
          const { codec, stored, crc } = encodeChunk(content, Buffer.from(id), request.packKey, row, {
            level: request.level,
            room: rest,
          });
          if (stored === content) {
            parts.push({ codec, crc, area: 'input', offset, length });
            continue;
          }
          parts.push({ codec, crc, area: 'output', offset: end, length: stored.length });
          end += stored.length;
          if (stored.buffer !== output.buffer) {
            stored.copy(rest);
            releaseMemory(stored);
          }
        }
        return parts;
      }
      case 'decode': {
        const range = Buffer.from(request.range.buffer, request.range.byteOffset, request.range.byteLength);
        const contents = request.parts.map((part) => {
          const stored = range.subarray(part.offset, part.offset + part.storedLength);
          if (request.wanted === 'checksum') return checkStored(stored, part.crc) ?? EMPTY;
          const form = { ...part, id: Buffer.from(part.id) };
          if (request.packKey !== null && room.length < stored.length) room = Buffer.allocUnsafeSlow(stored.length);
          const content = decodeChunk(stored, form, request.packKey, identity, room);
          if (typeof content === 'string') return content;
          if (request.wanted === 'hash') {
            if (content.buffer !== range.buffer) releaseMemory(content);
            return EMPTY;
          }
          // Only a buffer of its own can change hands: several chunks may lie in one range.
          const own = ownsMemory(content) ? content : copyOf(content);
          transfer.push(own.buffer as ArrayBuffer);
          return own;
        });
        if (!transfer.some((memory) => memory === range.buffer)) release(range);
        return contents;
      }
    }
  };
}

function copyOf(content: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(content.length);
  content.copy(copy);
  return copy;
}

function slotOf(slots: Buffer[], index: number): Buffer {
  const slot = slots[index];
  if (slot === undefined) throw new RangeError(`no slot ${index}`);
  return slot;
}
