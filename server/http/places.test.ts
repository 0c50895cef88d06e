import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { EventHub } from '../orchestration/index.ts';
import { streamEvents } from './event-stream.ts';
import { Places } from './places.ts';
import { listRoutes } from './routes/index.ts';

describe('long answers', () => {
  it('are counted for each account, and for downloads and streams apart', () => {
    const places = new Places();
    const left: (() => void)[] = [];
    const takeAll = (): void => {
      for (let count = 0; count < 100; count += 1) left.push(places.take('version', 'alice'));
    };
    assert.throws(takeAll, (error) => isAppError(error) && error.code === 'TOO_MANY_AT_ONCE');
    assert.equal(left.length, 8);
    places.take('version', 'bob')();
    places.take('stream', 'alice')();
    left.pop()?.();
    left.push(places.take('version', 'alice'));
    assert.throws(takeAll);
    for (const leave of left.splice(0)) leave();
    assert.throws(takeAll);
    assert.equal(left.length, 8);
  });

  it('are all that open a version, and the stream of events', () => {
    for (const { path, place } of listRoutes()) {
      const expected = path.startsWith('/points/:id/disks/') ? 'version' : path === '/events' ? 'stream' : null;
      assert.equal(place, expected, path);
    }
  });

  it('listen to nothing for one who went away before they began', async () => {
    let listening = 0;
    class Hub extends EventHub {
      override subscribe(...args: Parameters<EventHub['subscribe']>): ReturnType<EventHub['subscribe']> {
        const { missed, unsubscribe } = super.subscribe(...args);
        listening += 1;
        return {
          missed,
          unsubscribe: () => {
            listening -= 1;
            unsubscribe();
          },
        };
      }
    }
    const begun = Promise.withResolvers<void>();
    const server = createServer((_request, response) => {
      outgoing.destroy();
      once(response, 'close').then(() => {
        streamEvents(response, { events: new Hub(), lastId: null, accepts: () => true, isAlive: async () => true });
        begun.resolve();
      }, begun.reject);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const outgoing = get({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
    outgoing.on('error', () => undefined);
    await begun.promise;
    assert.equal(listening, 0);
    server.close();
  });
});
