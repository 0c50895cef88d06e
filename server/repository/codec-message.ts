import type { KeyObject } from 'node:crypto';
import type { IdentityAlgorithm } from './keys.ts';

/** What the pool and its threads say to each other. */

export interface CodecThreadData {
  algorithm: IdentityAlgorithm;
  identityKey: KeyObject | null;
  inputs: SharedArrayBuffer[];
  outputs: SharedArrayBuffer[];
}

export type CodecRequest =
  | { type: 'hash'; job: number; slot: number; lengths: number[] }
  | { type: 'encode'; job: number; slot: number; packKey: KeyObject | null; level: number; parts: EncodePart[] }
  | {
      type: 'decode';
      job: number;
      wanted: 'content' | Proof;
      range: Uint8Array;
      packKey: KeyObject | null;
      parts: DecodePart[];
    };

/** `hash`: that the content is what its identity names; `checksum`: that the stored bytes are as they were written. */
export type Proof = 'hash' | 'checksum';

/** A chunk in the slot's input. */
export interface EncodePart {
  offset: number;
  length: number;
  id: Uint8Array;
  row: number;
}

/** A chunk's stored form, in the slot's output, or still in its input when it is stored as it is. */
export interface EncodedPart {
  codec: number;
  crc: number;
  area: 'input' | 'output';
  offset: number;
  length: number;
}

/** A chunk in the range that was read. */
export interface DecodePart {
  offset: number;
  storedLength: number;
  id: Uint8Array;
  codec: number;
  plainLength: number;
  crc: number;
  row: number;
}

export interface CodecAnswer {
  job: number;
  /** Milliseconds from its begin to its end. */
  busyMs: number;
  result?: Uint8Array | EncodedPart[] | (Uint8Array | string)[];
  error?: string;
}
