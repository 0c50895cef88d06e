import type { ServerResponse } from 'node:http';
import type { ServerEvent } from '../contract/api/event.schema.ts';
import type { EventHub, NumberedEvent } from '../orchestration/index.ts';

/**
 * Keeps proxies from cutting a quiet connection; a session that has ended, or reaches elsewhere by now, is noticed by
 * it.
 */
const HEARTBEAT_MS = 15_000;
/** A reader that does not keep up is cut off; it comes back and asks for what it missed. */
const BEHIND_BYTES_MAX = 1024 * 1024;

/** Serves events to one reader until it goes, or its session ends. */
export function streamEvents(
  response: ServerResponse,
  options: {
    events: EventHub;
    lastId: string | null;
    accepts(event: ServerEvent): boolean;
    isAlive(): Promise<boolean>;
  },
): void {
  // Its end would not be told any more.
  if (response.closed) return;
  response.writeHead(200, {
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-store',
    'X-Accel-Buffering': 'no',
  });
  response.write('retry: 2000\n\n');
  const send = ({ id, event }: NumberedEvent): void => {
    if (event.type !== 'reset' && !options.accepts(event)) return;
    response.write(`id: ${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    if (response.writableLength > BEHIND_BYTES_MAX) response.destroy();
  };
  const { missed, unsubscribe } = options.events.subscribe(options.lastId, send);
  for (const event of missed) send(event);
  const timer = setInterval(() => {
    options.isAlive().then(
      (isAlive) => (isAlive ? response.write(': still here\n\n') : response.end()),
      () => response.destroy(),
    );
  }, HEARTBEAT_MS);
  response.on('close', () => {
    clearInterval(timer);
    unsubscribe();
  });
}
