import { request, type RequestOptions } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { AppError, cancelled, isAppError } from '../errors/index.ts';
import { explainExchange, type PinnedAgent } from './pinned-agent.ts';

export interface HostPlace {
  host: string;
  port: number;
  agent: PinnedAgent;
}

interface HostRequest {
  method: 'GET' | 'POST';
  path: string;
  headers: Record<string, string>;
  body?: string;
  /** Nothing sent or heard for so long ends the exchange. */
  silenceTimeoutMs: number;
  /**
   * Whether a repetition does no harm: then a kept connection that had just died is replaced. Any other request has a
   * connection of its own: on a kept one that the host is closing, nobody could tell whether it was carried out.
   */
  isRepeatable: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Sends a request and gives the answer as soon as its head is there; the body is still to be read, by
 * `readBody` or `response.destroy()`.
 *
 * @throws HOST_* of reaching the host, HOST_STALLED, CANCELLED
 */
export async function requestHost(place: HostPlace, wanted: HostRequest): Promise<IncomingMessage> {
  if (isAborted(wanted.signal)) throw cancelled(wanted.signal?.reason);
  const options: RequestOptions = {
    host: place.host,
    port: place.port,
    method: wanted.method,
    path: wanted.path,
    headers: {
      ...wanted.headers,
      ...(wanted.isRepeatable ? {} : { connection: 'close' }),
      ...(wanted.body === undefined ? {} : { 'content-length': String(Buffer.byteLength(wanted.body)) }),
    },
    agent: place.agent,
    ...(wanted.isRepeatable ? {} : place.agent.ownConnection()),
    ...(wanted.signal === undefined ? {} : { signal: wanted.signal }),
  };
  for (let attempt = 0; ; attempt += 1) {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    let answered: IncomingMessage | undefined;
    const sent = request(options, (response) => {
      answered = response;
      resolve(response);
    });
    // Whoever reads the body learns of the silence from the response, once there is one.
    sent.setTimeout(wanted.silenceTimeoutMs, () => {
      (answered ?? sent).destroy(stalled(place, wanted.silenceTimeoutMs));
    });
    sent.on('error', reject);
    sent.end(wanted.body);
    try {
      return await promise;
    } catch (error) {
      if (isAborted(wanted.signal)) throw cancelled(error);
      if (sent.reusedSocket && wanted.isRepeatable && attempt < 3 && !isAppError(error)) continue;
      throw explainExchange(place, error);
    }
  }
}

/**
 * The whole body of an answer, bounded.
 *
 * @throws HOST_CONNECTION_LOST, HOST_STALLED, HOST_ANSWER_UNREADABLE (longer than `bytesMax`), CANCELLED
 */
export async function readBody(
  place: HostPlace,
  response: IncomingMessage,
  bytesMax: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > bytesMax) {
        throw new AppError(
          'HOST_ANSWER_UNREADABLE',
          `${place.host} answered with more than the ${bytesMax} bytes expected.`,
          {
            hint: 'Check that the address is that of an ESXi host.',
            details: { host: place.host, bytesMax },
          },
        );
      }
      chunks.push(chunk);
    }
  } catch (error) {
    response.destroy();
    if (signal?.aborted === true) throw cancelled(error);
    throw explainExchange(place, error);
  }
  return Buffer.concat(chunks, bytes);
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

function stalled(place: HostPlace, silenceTimeoutMs: number): AppError {
  return new AppError('HOST_STALLED', `${place.host} did not answer within ${silenceTimeoutMs / 1000} s.`, {
    hint: 'Check whether the host is overloaded or one of its datastores does not answer.',
    details: { host: place.host, silenceTimeoutMs },
  });
}
