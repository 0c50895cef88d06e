import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerEvent } from '../contract/api/event.schema.ts';
import { isAppError } from '../errors/index.ts';
import { openAnswer, type Connection } from './connection.ts';

const RETRY_MS = 1_000;
const GIVE_UP_AFTER = 120;

/**
 * Events of the server for as long as the caller reads. A break (a restart of the server, a lost link) is
 * bridged: reading goes on after the last event, or with `reset` when that is not possible.
 */
export async function* readEvents(connection: Connection, runId: string | null): AsyncGenerator<ServerEvent> {
  let lastId: string | null = null;
  let failures = 0;
  for (;;) {
    let answer: IncomingMessage | null = null;
    try {
      answer = await openAnswer(connection, {
        method: 'GET',
        path: '/events',
        ...(runId === null ? {} : { query: { runId } }),
        ...(lastId === null ? {} : { headers: { 'last-event-id': lastId } }),
      });
      // What happened between the question and the connection is not known either.
      if (lastId === null || failures > 0) yield { type: 'reset' };
      failures = 0;
      answer.setEncoding('utf8');
      let rest = '';
      for await (const piece of answer) {
        const blocks = (rest + (piece as string)).split('\n\n');
        rest = blocks.pop() ?? '';
        for (const block of blocks) {
          const fields = parseBlock(block);
          if (fields.id !== null) lastId = fields.id;
          if (fields.data !== null) yield JSON.parse(fields.data) as ServerEvent;
        }
      }
    } catch (error) {
      const isLost = !isAppError(error) || error.code === 'SERVER_UNREACHABLE';
      failures += 1;
      if (!isLost || failures > GIVE_UP_AFTER) throw error;
    } finally {
      // The caller may stop before the first piece was read: nothing else would end the connection then.
      answer?.destroy();
    }
    await sleep(RETRY_MS);
  }
}

function parseBlock(block: string): { id: string | null; data: string | null } {
  let id: string | null = null;
  let data: string | null = null;
  for (const line of block.split('\n')) {
    if (line.startsWith('id: ')) id = line.slice('id: '.length);
    if (line.startsWith('data: ')) data = (data ?? '') + line.slice('data: '.length);
  }
  return { id, data };
}
