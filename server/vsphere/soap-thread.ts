/**
 * The thread in which node-vsphere-soap lives. It is kept away from everything else because it
 * switches certificate checks off for its process (here: for this thread's copy of the environment),
 * throws inside callbacks, and prints what hosts answer. It knows only the tunnel's address.
 */
import { subscribe } from 'node:diagnostics_channel';
import { parentPort, workerData } from 'node:worker_threads';
// @ts-expect-error the package has no types
import vsphere from 'node-vsphere-soap';
import type { SoapAnswer, SoapCall, SoapThreadStart } from './soap-session.ts';
import { parseReply } from './soap-reply.ts';

interface Emitter {
  once(event: 'result', listener: (result: unknown, raw: string) => void): Emitter;
  once(event: 'error', listener: (body: unknown) => void): Emitter;
}
interface Client extends Emitter {
  once(event: 'result' | 'error' | 'ready', listener: (...values: never[]) => void): Emitter;
  runCommand(command: string, args: unknown): Emitter;
}

const port = parentPort;
if (port === null) throw new Error('soap-thread runs as a worker thread only');
const answer = (message: SoapAnswer): void => port.postMessage(message);

// The client prints replies, which no log of ours should hold.
const silent = (): void => undefined;
Object.assign(console, { log: silent, error: silent, warn: silent });
process.removeAllListeners('warning');

/** The body of the last error that reached its call; the client throws the same error afterwards. */
let reported: unknown;
/** The client stumbles over an error without a reply, so that what it throws tells nothing of the cause. */
let networkError: string | undefined;
subscribe('http.client.request.error', (message) => {
  networkError = (message as { error?: { message?: string } }).error?.message;
});
function onThrown(error: unknown): void {
  const { body, message } = error as { body?: unknown; message?: unknown };
  if (body !== undefined && body === reported) return;
  answer({ kind: 'broken', text: networkError ?? (typeof message === 'string' ? message : String(error)) });
}
process.on('uncaughtException', onThrown);
// What is thrown in a callback of a promise arrives here, and need not be an Error.
process.on('unhandledRejection', onThrown);

const start = workerData as SoapThreadStart;
const client = new (vsphere as { Client: new (...args: unknown[]) => Client }).Client(
  start.address,
  start.user,
  start.password,
  false,
);
client.once('ready', () => answer({ kind: 'ready' }));
client.once('error', (body: unknown) => {
  reported = body;
  answer({ kind: 'refused', body: String(body) });
});

port.on('message', (call: SoapCall) => {
  const { id, operation } = call;
  const emitter = client.runCommand(operation, call.parameters);
  emitter.once('result', (_result, raw) => {
    try {
      answer({ kind: 'value', id, value: parseReply(raw, operation, call.returns) });
    } catch (error) {
      answer({ kind: 'unreadable', id, text: error instanceof Error ? error.message : String(error) });
    }
  });
  emitter.once('error', (body) => {
    reported = body;
    answer({ kind: 'fault', id, body: String(body) });
  });
});
