import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isAppError } from '../errors/index.ts';
import { folderPath, HttpsFolder } from './datastore-folder.ts';
import { PinnedAgent } from './pinned-agent.ts';
import { StandInHost } from './testing/stand-in-host.ts';

const hasCode = (code: string) => (error: unknown) => {
  assert.ok(isAppError(error), `an AppError, not ${String(error)}`);
  assert.equal(error.code, code);
  return true;
};

const content = randomBytes(12_345_678);

/** As a host answers for a file that is not locked. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  if (range === null) {
    response.writeHead(200, { 'content-length': content.length }).end(content);
    return;
  }
  const [first, last] = [Number(range[1]), Number(range[2])];
  if (first >= content.length) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
    return;
  }
  const part = content.subarray(first, last + 1);
  response
    .writeHead(206, {
      'content-range': `bytes ${first}-${first + part.length - 1}/${content.length}`,
      'content-length': part.length,
    })
    .end(part);
}

describe('datastore files over HTTPS', () => {
  const host = new StandInHost();
  let folder: HttpsFolder;
  let agent: PinnedAgent;
  let cookies = 'vmware_soap_session="ab"';
  const seen: IncomingMessage[] = [];

  before(async () => void (await host.start()));
  after(() => host.stop());
  beforeEach(() => {
    seen.length = 0;
    cookies = 'vmware_soap_session="ab"';
    agent?.destroy();
    agent = new PinnedAgent({
      host: '127.0.0.1',
      port: host.port,
      certificate: null,
      connectTimeoutMs: 60_000,
    });
    folder = openFolder({ silenceTimeoutMs: 60_000 });
    answer(serve);
  });
  after(() => agent.destroy());

  function openFolder({ silenceTimeoutMs }: { silenceTimeoutMs: number }): HttpsFolder {
    return new HttpsFolder({
      place: { host: '127.0.0.1', port: host.port, agent },
      user: 'root',
      password: 'pä:ss',
      silenceTimeoutMs,
      readsMax: 4,
      cookies: () => cookies,
    });
  }

  function answer(handler: (request: IncomingMessage, response: ServerResponse) => void): void {
    host.folder = (request, response) => {
      seen.push(request);
      handler(request, response);
    };
  }

  test('reads ranges side by side, byte for byte, on kept connections', async () => {
    const length = 300_001;
    const ranges = Array.from({ length: 40 }, (_, index) => ({ offsetBytes: index * length, lengthBytes: length }));

    const parts = await Promise.all(ranges.map(async (range) => await folder.readRange('ds', 'a/b-flat.vmdk', range)));

    parts.forEach((part, index) => assert.ok(part.equals(content.subarray(index * length, (index + 1) * length))));
    const connections = new Set(seen.map((request) => request.socket));
    assert.ok(connections.size >= 2 && connections.size <= 4, `${connections.size} connections`);
    assert.ok(agent.wireBytes() > 40 * length);
  });

  test('asks in the name of the session and encodes every name', async () => {
    await folder.read('ds [1] ü', `VM's #1 (仮想)+%/x.vmx`);

    const [request] = seen;
    assert.equal(
      request?.url,
      '/folder/VM%27s%20%231%20%28%E4%BB%AE%E6%83%B3%29%2B%25/x.vmx?dcPath=ha-datacenter&dsName=ds%20%5B1%5D%20%C3%BC',
    );
    assert.equal(request.headers.cookie, cookies);
    assert.equal(request.headers.authorization, undefined);
    assert.doesNotMatch(folderPath('a', '~!*\'()"<>&=?;'), /[!*'()"<>;]/);
  });

  test('reads a whole small file', async () => {
    answer((_request, response) => response.end('# Disk DescriptorFile\n'));

    assert.equal((await folder.read('ds', 'a.vmdk')).toString(), '# Disk DescriptorFile\n');
  });

  test('takes the password when the session has ended, and offers a refused one no more', async () => {
    answer((request, response) => {
      if (request.headers.authorization === `Basic ${Buffer.from('root:pä:ss').toString('base64')}`)
        serve(request, response);
      else response.writeHead(401).end();
    });
    const part = await folder.readRange('ds', 'a', { offsetBytes: 5, lengthBytes: 10 });
    assert.ok(part.equals(content.subarray(5, 15)));
    assert.equal(seen.length, 2);

    answer((_request, response) => response.writeHead(401).end());
    await assert.rejects(folder.read('ds', 'a'), hasCode('HOST_LOGIN_REFUSED'));
    await assert.rejects(folder.read('ds', 'a'), hasCode('HOST_LOGIN_REFUSED'));
    assert.equal(seen.length, 3);
  });

  test('stops an answer that ignores the range', async () => {
    let sentBytes = 0;
    const closed = Promise.withResolvers<void>();
    answer((request, response) => {
      request.socket.on('close', () => closed.resolve());
      response.writeHead(200, { 'content-length': 10_000_000_000 });
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(1_000_000))) sentBytes += 1_000_000;
        sentBytes += 1_000_000;
      };
      response.on('drain', more);
      more();
    });

    await assert.rejects(
      folder.readRange('ds', 'a', { offsetBytes: 0, lengthBytes: 512 }),
      hasCode('DISK_RANGE_IGNORED'),
    );
    await closed.promise;
    assert.ok(sentBytes < 200_000_000, `${sentBytes} bytes sent`);
  });

  test('tells locked, missing, forbidden, and past the end', async () => {
    const range = { offsetBytes: 0, lengthBytes: 512 };
    const statuses: [number, string][] = [
      [500, 'DISK_READ_REFUSED'],
      [404, 'NOT_FOUND'],
      [403, 'HOST_NOT_ADMINISTRATOR'],
      [302, 'HOST_ANSWER_UNREADABLE'],
    ];
    for (const [status, code] of statuses) {
      answer((_request, response) => response.writeHead(status).end('<html>Device or resource busy</html>'));
      await assert.rejects(folder.readRange('ds', 'a', range), hasCode(code));
      await assert.rejects(folder.read('ds', 'a'), hasCode(code));
    }

    answer(serve);
    const past = { offsetBytes: content.length, lengthBytes: 512 };
    await assert.rejects(folder.readRange('ds', 'a', past), hasCode('DISK_READ_SHORT'));
    const across = { offsetBytes: content.length - 100, lengthBytes: 512 };
    await assert.rejects(folder.readRange('ds', 'a', across), hasCode('DISK_READ_SHORT'));
  });

  test('refuses another part than was asked for, and one of another length', async () => {
    const range = { offsetBytes: 1024, lengthBytes: 512 };
    const answers: [Record<string, string>, number, string][] = [
      [{ 'content-range': 'bytes 0-511/9999' }, 512, 'HOST_ANSWER_UNREADABLE'],
      [{}, 512, 'HOST_ANSWER_UNREADABLE'],
      [{ 'content-range': 'bytes 1024-1535/9999' }, 100, 'DISK_READ_SHORT'],
      [{ 'content-range': 'bytes 1024-1535/9999' }, 4096, 'DISK_READ_SHORT'],
    ];
    for (const [headers, bytes, code] of answers) {
      answer((_request, response) => response.writeHead(206, headers).end(Buffer.alloc(bytes)));
      await assert.rejects(folder.readRange('ds', 'a', range), hasCode(code));
    }
  });

  test('tells a connection that was cut or fell silent in the middle', async () => {
    const range = { offsetBytes: 0, lengthBytes: 100_000 };
    const head = { 'content-range': 'bytes 0-99999/100000', 'content-length': 100_000 };
    answer((request, response) => {
      response.writeHead(206, head).write(Buffer.alloc(1_000), () => request.socket.destroy());
    });
    await assert.rejects(folder.readRange('ds', 'a', range), hasCode('HOST_CONNECTION_LOST'));

    answer((_request, response) => void response.writeHead(206, head).write(Buffer.alloc(1_000)));
    folder = openFolder({ silenceTimeoutMs: 1_000 });
    await assert.rejects(folder.readRange('ds', 'a', range), hasCode('HOST_STALLED'));
  });

  test('an abort ends the reading at once', async () => {
    answer((_request, response) => void response.writeHead(206, { 'content-range': 'bytes 0-99/100' }).write('x'));
    const startedMs = performance.now();

    await assert.rejects(
      folder.readRange('ds', 'a', { offsetBytes: 0, lengthBytes: 100 }, AbortSignal.timeout(60)),
      hasCode('CANCELLED'),
    );
    await assert.rejects(
      folder.readRange('ds', 'a', { offsetBytes: 0, lengthBytes: 100 }, AbortSignal.abort()),
      hasCode('CANCELLED'),
    );
    // Silence would have ended it after a minute.
    assert.ok(performance.now() - startedMs < 40_000);
  });

  test('goes on when a kept connection had been closed by the host', async () => {
    const range = { offsetBytes: 7, lengthBytes: 100 };
    await folder.readRange('ds', 'a', range);
    for (const socket of host.sockets) socket.resetAndDestroy();

    const part = await folder.readRange('ds', 'a', range);

    assert.ok(part.equals(content.subarray(7, 107)));
    await delay(1);
  });
});
