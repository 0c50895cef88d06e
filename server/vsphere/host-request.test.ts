import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { readBody, requestHost } from './host-request.ts';
import { PinnedAgent } from './pinned-agent.ts';
import { StandInHost } from './testing/stand-in-host.ts';

const host = new StandInHost();
before(async () => void (await host.start()));
after(() => host.stop());

test('sends what must not be repeated on a connection of its own: a host may be closing the kept one', async () => {
  const used = new Set<Socket>();
  let refused = 0;
  host.folder = (request, response) => {
    if (used.has(request.socket)) {
      refused += 1;
      request.socket.destroy();
      return;
    }
    used.add(request.socket);
    response.end(request.method);
  };
  const agent = new PinnedAgent({ host: '127.0.0.1', port: host.port, certificate: null, connectTimeoutMs: 60_000 });
  const place = { host: '127.0.0.1', port: host.port, agent };
  const ask = async (method: 'GET' | 'POST'): Promise<string> => {
    const isRepeatable = method === 'GET';
    const wanted = { method, path: '/folder/', headers: {}, silenceTimeoutMs: 60_000, isRepeatable };
    return (await readBody(place, await requestHost(place, wanted), 100)).toString();
  };

  assert.equal(await ask('GET'), 'GET');
  for (let time = 0; time < 3; time += 1) assert.equal(await ask('POST'), 'POST');
  assert.deepEqual([used.size, refused], [4, 0]);

  assert.equal(await ask('GET'), 'GET');
  assert.deepEqual([used.size, refused], [5, 1], 'the kept connection was tried, and replaced');
  assert.deepEqual(
    [...used].map((socket) => socket.destroyed),
    [true, true, true, true, false],
  );
  agent.destroy();
});
