import type { IncomingMessage } from 'node:http';

const BODIES = new WeakMap<IncomingMessage, Buffer>();

/** Keeps the bytes of a body beside what they mean: a signature is over bytes. For `express.json`. */
export function keepRawBody(request: IncomingMessage, _response: unknown, body: Buffer): void {
  BODIES.set(request, body);
}

/** As it was sent; empty where nothing was. */
export function rawBodyOf(request: IncomingMessage): Buffer {
  return BODIES.get(request) ?? Buffer.alloc(0);
}
