import assert from 'node:assert/strict';
import type { ClientRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect as tlsConnect } from 'node:tls';
import { after, before, describe, it } from 'node:test';
import { readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ADMIN_PASSWORD, type Answer, type Reply, ServerLab } from './server-lab.ts';

interface Operation {
  method: string;
  path: string;
  operation: { security?: unknown[]; operationId: string; responses: Record<string, unknown>; requestBody?: unknown };
}

/** Logs in as a browser does and gives the cookie. */
async function logIn(lab: ServerLab, password = ADMIN_PASSWORD, headers: Record<string, string> = {}): Promise<Reply> {
  return lab.send('/session', { method: 'POST', token: null, headers, body: { user: 'admin', password } });
}

function cookieOf(reply: Reply): string {
  const [cookie] = reply.headers['set-cookie'] as string[];
  return cookie?.split(';')[0] ?? '';
}

describe('the API towards strangers and attackers', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let operations: Operation[] = [];
  let document: Answer;

  before(async () => {
    await lab.start();
    document = await lab.call('GET', '/openapi.json');
    operations = Object.entries(document.paths as Record<string, Record<string, Operation['operation']>>).flatMap(
      ([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
    );
  });
  after(() => lab.destroy());

  it('lets strangers do nothing but log in and ask for its health', async () => {
    assert.ok(operations.length > 40);
    const open: string[] = [];
    for (const { method, path } of operations) {
      const reply = await lab.send(path.replaceAll(/\{\w+\}/g, '0123456789abcdef'), {
        method: method.toUpperCase(),
        token: null,
        ...(method === 'get' || method === 'delete' ? {} : { body: {} }),
      });
      // No NAS stands in front here.
      const isRefused = reply.json?.code === 'NAS_SESSION_REFUSED' && path === '/session/nas';
      if (reply.status !== 401 || isRefused) open.push(`${method} ${path}`);
      else assert.equal(reply.json.code, 'LOGIN_REQUIRED');
    }
    assert.deepEqual(open.sort(), [
      'get /health',
      'post /session',
      'post /session/nas',
      'post /tokens',
      // Lets in by a signature.
      'post /triggers/{id}',
    ]);
    const declared = operations.filter(({ operation }) => operation.security?.length === 0);
    assert.deepEqual(declared.map(({ method, path }) => `${method} ${path}`).sort(), open.sort());
  });

  it('tells strangers nothing about what exists, and does not read what they send', async () => {
    assert.equal((await lab.send('/no/such/thing', { token: null })).status, 401);
    assert.equal((await lab.send('/no/such/thing')).status, 404);
    const wrong = await lab.send('/jobs', { method: 'POST', token: null, rawBody: 'x'.repeat(100), body: null });
    assert.equal(wrong.status, 401);
    assert.deepEqual((await lab.send('/health', { token: null })).json, { status: 'ok' });
  });

  it('refuses tokens that are wrong, in the URL, or of the wrong kind', async () => {
    const cookie = cookieOf(await logIn(lab));
    const secret = cookie.split('=')[1] ?? '';
    for (const token of ['x', `dozo_${'A'.repeat(43)}`, secret, '', `${lab.token} `, (lab.token ?? '').slice(0, -1)]) {
      const reply = await lab.send('/hosts', { token });
      assert.equal(reply.status, token === `${lab.token} ` ? 200 : 401, JSON.stringify(token));
    }
    const asCookie = await lab.send('/hosts', { token: null, headers: { cookie: `__Host-dozo=${lab.token}` } });
    assert.equal(asCookie.status, 401);
    for (const name of ['token', 'access_token', 'authorization', 'anything']) {
      for (const token of [null, lab.token]) {
        const reply = await lab.send(`/hosts?${name}=${lab.token}`, { token });
        assert.equal(reply.status, 400);
        assert.equal(reply.json.code, 'TOKEN_IN_URL');
        assert.ok(!reply.text.includes(lab.token ?? '?'));
      }
    }
  });

  it('gives a browser a cookie that scripts and other sites cannot have', async () => {
    const reply = await logIn(lab);
    assert.equal(reply.status, 200);
    const [cookie = ''] = reply.headers['set-cookie'] as string[];
    assert.match(cookie, /^__Host-dozo=[A-Za-z0-9_-]{43}; Path=\/; HttpOnly; Secure; SameSite=Strict$/);
    assert.ok(!reply.text.includes(cookie.slice(12, 40)));
    const me = await lab.send('/session', { token: null, headers: { cookie: cookieOf(reply) } });
    assert.equal(me.json.user, 'admin');
    assert.equal(me.json.by, 'cookie');

    const out = await lab.send('/session', { method: 'DELETE', token: null, headers: { cookie: cookieOf(reply) } });
    assert.equal(out.status, 204);
    assert.equal((await lab.send('/session', { token: null, headers: { cookie: cookieOf(reply) } })).status, 401);
  });

  it('changes nothing for a request that another site made the browser send', async () => {
    const cookie = cookieOf(await logIn(lab));
    const without = await raw(lab, { method: 'PATCH', path: '/api/v1/settings', cookie });
    assert.equal(without.status, 403);
    assert.equal(without.json.code, 'FORBIDDEN');
    const foreign = await raw(lab, {
      method: 'PATCH',
      path: '/api/v1/settings',
      cookie,
      headers: { 'x-dozo-request': '1', 'sec-fetch-site': 'cross-site' },
    });
    assert.equal(foreign.status, 403);
    const reading = await raw(lab, {
      method: 'GET',
      path: '/api/v1/settings',
      cookie,
      headers: { 'sec-fetch-site': 'cross-site' },
    });
    assert.equal(reading.status, 403);
    const own = await raw(lab, {
      method: 'PATCH',
      path: '/api/v1/settings',
      cookie,
      headers: { 'x-dozo-request': '1', 'sec-fetch-site': 'same-origin' },
    });
    assert.equal(own.status, 200);
    const login = await raw(lab, { method: 'POST', path: '/api/v1/session', cookie: '' });
    assert.equal(login.status, 403);
    const preflight = await raw(lab, { method: 'OPTIONS', path: '/api/v1/settings', cookie });
    assert.equal(preflight.headers['access-control-allow-origin'], undefined);
  });

  it('sends headers that keep pages in their place', async () => {
    for (const path of ['/api/v1/health', '/', '/api/v1/hosts']) {
      const { headers } = await lab.send(path, { headers: { 'x-plain-path': '1' } });
      assert.match(String(headers['content-security-policy']), /default-src 'self'.*object-src 'none'/);
      assert.equal(headers['x-content-type-options'], 'nosniff');
      assert.equal(headers['referrer-policy'], 'no-referrer');
      assert.equal(headers['x-powered-by'], undefined);
    }
    assert.equal((await lab.send('/hosts')).headers['cache-control'], 'no-store');
  });

  it('keeps secrets out of every answer, and only hashes of them in the catalogue', async () => {
    const host = await lab.call('POST', '/hosts', {
      host: '192.0.2.9',
      password: 'top secret word',
      name: 'secretive',
    });
    for (const path of ['/hosts', `/hosts/${host.id}`, '/machines', '/tokens', '/system', '/settings']) {
      assert.ok(!(await lab.send(path)).text.includes('top secret word'), path);
    }
    const files = ['catalogue.sqlite', 'catalogue.sqlite-wal'].map((name) =>
      readFileSync(join(lab.dataFolder, name)).toString('latin1'),
    );
    for (const file of files) {
      assert.ok(!file.includes('top secret word'));
      assert.ok(!file.includes(lab.token ?? ''));
      assert.ok(!file.includes(ADMIN_PASSWORD));
    }
    assert.ok(
      !readFileSync(join(lab.dataFolder, 'redis/appendonlydir/appendonly.aof.1.incr.aof')).includes('top secret'),
    );
    for (const name of ['', 'redis', 'tls']) assert.equal(statSync(join(lab.dataFolder, name)).mode & 0o777, 0o700);
    for (const name of ['secret.key', 'tls/key.pem', 'catalogue.sqlite', 'server.lock', 'redis/redis.conf']) {
      assert.equal(statSync(join(lab.dataFolder, name)).mode & 0o777, 0o600, name);
    }
  });

  it('answers hostile input with a named error and goes on', async () => {
    const cases: [string, string, unknown][] = [
      ['POST', '/jobs', { name: '', machineIds: [], repositoryId: 'x' }],
      ['POST', '/jobs', { name: 'a\nb', machineIds: ['0123456789abcdef'], repositoryId: '0123456789abcdef' }],
      ['POST', '/jobs', { name: 'a'.repeat(256), machineIds: ['0123456789abcdef'], repositoryId: '0123456789abcdef' }],
      ['POST', '/jobs', []],
      ['POST', '/hosts', { host: 'a b; rm -rf /', password: 'x' }],
      ['POST', '/hosts', { host: '-oProxyCommand=x', password: 'x' }],
      ['POST', '/hosts', { host: 'esx', password: 'x', sshPort: 70000 }],
      ['POST', '/hosts', { host: 'esx' }],
      ['POST', '/hosts', { host: 'esx', password: 'x', extra: 1 }],
      ['POST', '/repositories', { name: 'x', path: '/volume1/../etc' }],
      ['POST', '/repositories', { name: 'x', path: 'relative' }],
      ['POST', '/repositories', { name: 'x', path: '/a\u0000b' }],
      ['POST', '/restores', { pointId: 'x', hostId: '0123456789abcdef', mode: { kind: 'elsewhere' } }],
      ['PATCH', '/settings', { tasksPerHost: 1e9 }],
      ['PATCH', '/settings', JSON.parse('{"__proto__": {"tasksPerHost": 3}}')],
      ['GET', '/runs?limit=-1', undefined],
      ['GET', '/runs?limit=1&limit=2', undefined],
      ['GET', '/runs?before=%27%20OR%201=1', undefined],
      ['GET', '/points?before=x', undefined],
      ['GET', '/runs/not-an-id', undefined],
      ['GET', "/machines/'; DROP TABLE hosts;--", undefined],
      ['GET', '/hosts?unknown[$ne]=1', undefined],
    ];
    for (const [method, path, body] of cases) {
      const reply = await lab.send(encodeURI(path).replaceAll('%25', '%'), {
        method,
        ...(body === undefined ? {} : { body }),
      });
      const what = `${method} ${path} ${JSON.stringify(body)}: ${reply.status} ${reply.text.slice(0, 200)}`;
      if (path.startsWith('/hosts?')) assert.equal(reply.status, 200, what);
      else {
        assert.equal(reply.status, 400, what);
        assert.equal(reply.json.code, 'INPUT_INVALID', what);
        assert.equal(typeof reply.json.message, 'string');
      }
    }
    assert.equal((await lab.send('/jobs', { method: 'POST', rawBody: '{"a":' })).json.code, 'INPUT_INVALID');
    assert.equal((await lab.send('/jobs', { method: 'POST', rawBody: Buffer.from([0xff, 0xfe, 0x00]) })).status, 400);
    assert.equal((await lab.send('/jobs', { method: 'POST', rawBody: `"${'x'.repeat(2_000_000)}"` })).status, 400);
    assert.equal((await lab.send('/runs/%E0%A4%A')).status, 400);
    assert.equal((await lab.send('/hosts')).status, 200);
  });

  it('names each wrong field, for the form that it came from', async () => {
    const reply = await lab.send('/jobs', {
      method: 'POST',
      body: { name: ' ', machineIds: ['x'], repositoryId: '0123456789abcdef', options: { verifySample: 7 } },
    });
    assert.deepEqual(Object.keys(reply.json.details).sort(), ['machineIds.0', 'name', 'options.verifySample']);
  });

  it('shows names with markup, other scripts and emoji as they are', async () => {
    const repository = await lab.call('POST', '/repositories', { name: '<img src=x onerror=alert(1)>', path: '/v/1' });
    assert.equal(repository.name, '<img src=x onerror=alert(1)>');
    const reply = await lab.send(`/repositories/${repository.id}`);
    assert.match(String(reply.headers['content-type']), /^application\/json/);
    const renamed = await lab.call('PATCH', `/repositories/${repository.id}`, { name: '保存 ü 🗄️ \u202e' });
    assert.equal(renamed.name, '保存 ü 🗄️ \u202e');
  });

  it('says how much room is left where a repository lies, and nothing of one that is not there', async () => {
    const space = async (name: string, path: string) => {
      const repository = await lab.call('POST', '/repositories', { name, path });
      return lab.call('GET', `/repositories/${repository.id}/space`);
    };
    const there = await space('room', tmpdir());
    assert.ok(there.totalBytes > 0 && there.freeBytes >= 0 && there.freeBytes <= there.totalBytes);
    assert.deepEqual(await space('nowhere', '/v/nowhere'), { freeBytes: null, totalBytes: null });
  });

  it('tells the second of two editors that the job was changed', async () => {
    lab.script({});
    const [host] = await lab.call('GET', '/hosts');
    const machines = await lab.call('GET', `/hosts/${host.id}/machines?refresh=true`);
    const [repository] = await lab.call('GET', '/repositories');
    const input = { name: 'shared', machineIds: [machines[0].id], repositoryId: repository.id };
    const job = await lab.call('POST', '/jobs', input);
    await lab.call('PUT', `/jobs/${job.id}`, { ...input, name: 'first', revision: job.revision });

    const second = await lab.send(`/jobs/${job.id}`, {
      method: 'PUT',
      body: { ...input, name: 'second', revision: job.revision },
    });

    assert.equal(second.status, 409);
    assert.equal((await lab.call('GET', `/jobs/${job.id}`)).name, 'first');
  });

  it('is described by a document whose references all lead somewhere', () => {
    assert.equal(document.openapi, '3.1.0');
    const text = JSON.stringify(document);
    const references = new Set(
      [...text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map((match) => match[1]),
    );
    assert.ok(references.size > 15);
    for (const name of references) assert.ok(document.components.schemas[name ?? ''], `schema ${name}`);
    assert.ok(!text.includes('#/$defs/'));
    const ids = operations.map(({ operation }) => operation.operationId);
    assert.equal(new Set(ids).size, ids.length);
    for (const { method, path, operation } of operations) {
      const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      const declared = ((operation as Answer).parameters as { in: string; name: string }[])
        .filter((parameter) => parameter.in === 'path')
        .map((parameter) => parameter.name);
      assert.deepEqual(declared.sort(), names.sort(), `${method} ${path}`);
      if (method === 'get' || method === 'delete') assert.equal(operation.requestBody, undefined);
    }
  });

  it('changes the password and ends what the old one had opened', async () => {
    const other = new ServerLab();
    try {
      await other.start();
      const cookie = cookieOf(await logIn(other));
      const send = (body: unknown): Promise<Reply> =>
        other.send('/session/password', { method: 'POST', token: null, headers: { cookie }, body });
      assert.equal((await send({ oldPassword: 'wrong', newPassword: 'long enough 123' })).status, 401);
      assert.equal((await send({ oldPassword: ADMIN_PASSWORD, newPassword: 'short' })).status, 400);
      assert.equal((await send({ oldPassword: ADMIN_PASSWORD, newPassword: 'long enough 123' })).status, 204);

      assert.equal((await other.send('/hosts')).status, 401);
      assert.equal((await other.send('/hosts', { token: null, headers: { cookie } })).status, 200);
      assert.equal((await logIn(other)).status, 401);
      assert.equal((await logIn(other, 'long enough 123')).status, 200);
    } finally {
      await other.destroy();
    }
  });

  it('slows guessing down, and does not lock the owner out', async () => {
    const statuses: number[] = [];
    for (let attempt = 0; attempt < 12; attempt += 1) statuses.push((await logIn(lab, `guess ${attempt}`)).status);
    assert.deepEqual(new Set(statuses), new Set([401, 429]));
    assert.ok(statuses.filter((status) => status === 401).length <= 8);
    const refused = await logIn(lab);
    assert.equal(refused.status, 429);
    assert.ok(Number(refused.headers['retry-after']) > 0);
    // From another address the right password is let in. (The proxy of this machine names addresses.)
    const elsewhere = await logIn(lab, ADMIN_PASSWORD, { 'x-forwarded-for': '198.51.100.7' });
    assert.equal(elsewhere.status, 200);
    assert.equal((await lab.send('/hosts')).status, 200);
  });

  it('speaks no TLS older than 1.2 and shows the same certificate after a restart', async () => {
    const show = (options: object): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = tlsConnect({ host: '127.0.0.1', port: lab.port, rejectUnauthorized: false, ...options }, () => {
          resolve(socket.getPeerCertificate().fingerprint256);
          socket.destroy();
        });
        socket.on('error', reject);
      });
    await assert.rejects(show({ maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }));
    const before = await show({});
    await lab.stop();
    await lab.start();
    assert.equal(await show({}), before);
    assert.equal((await lab.send('/hosts')).status, 200);
  });
});

describe('live events', { timeout: 900_000 }, () => {
  const lab = new ServerLab();

  before(() => lab.start());
  after(() => lab.destroy());

  it('come as they happen, go on after a break, and say when some were missed', async () => {
    const first = await listen(lab, null, async () => {
      const made = await lab.call('POST', '/repositories', { name: 'a', path: '/v/a' });
      return ({ data }) => data.id === made.id;
    });
    assert.equal(first.at(-1)?.event, 'changed');
    const lastId = first.at(-1)?.id ?? '';
    await lab.call('POST', '/repositories', { name: 'b', path: '/v/b' });
    const last = await lab.call('POST', '/repositories', { name: 'c', path: '/v/c' });

    const second = await listen(
      lab,
      lastId,
      async () =>
        ({ data }) =>
          data.id === last.id,
    );
    assert.deepEqual(
      second.map((event) => event.event),
      ['changed', 'changed'],
    );
    const strange = await listen(lab, 'ffffffff-12', async () => () => true);
    assert.deepEqual(
      strange.map((event) => event.event),
      ['reset'],
    );
  });

  it('come over so many streams of an account, and over another one once one of those has ended', async () => {
    const streams: ClientRequest[] = [];
    const open = (): Promise<number> =>
      new Promise((resolve, reject) => {
        const outgoing = httpsRequest(
          {
            ...{ host: '127.0.0.1', port: lab.port, path: '/api/v1/events', rejectUnauthorized: false, agent: false },
            headers: { authorization: `Bearer ${lab.token}` },
          },
          (response) => {
            response.on('error', () => undefined);
            response.resume();
            resolve(response.statusCode ?? 0);
          },
        );
        streams.push(outgoing);
        outgoing.on('error', reject);
        outgoing.end();
      });
    while ((await open()) === 200) assert.ok(streams.length < 100, 'streams without end');
    const refused = await lab.send('/events');
    assert.deepEqual([refused.status, refused.json.code], [429, 'TOO_MANY_AT_ONCE']);
    assert.equal((await lab.send('/jobs')).status, 200);
    await lab.call('POST', '/users', { name: 'other', role: 'viewer', password: ADMIN_PASSWORD });
    const other = await lab.send('/tokens', {
      ...{ method: 'POST', token: null },
      body: { user: 'other', password: ADMIN_PASSWORD, name: 'other' },
    });
    assert.equal((await lab.send('/jobs', { token: other.json.token })).status, 200);

    streams[0]?.destroy();
    await lab.until(async () => ((await open()) === 200 ? true : null), 'the place that came free');
    for (const stream of streams) stream.destroy();
  });

  it('are for those who are logged in', async () => {
    assert.equal((await lab.send('/events', { token: null })).status, 401);
  });
});

interface SentEvent {
  id: string;
  event: string;
  data: Answer;
}

/** Events until the one that `act` tells, and what comes within a moment after it. */
function listen(
  lab: ServerLab,
  lastId: string | null,
  act: () => Promise<(event: SentEvent) => boolean>,
): Promise<SentEvent[]> {
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      {
        host: '127.0.0.1',
        port: lab.port,
        path: '/api/v1/events',
        rejectUnauthorized: false,
        agent: false,
        headers: { authorization: `Bearer ${lab.token}`, ...(lastId === null ? {} : { 'last-event-id': lastId }) },
      },
      (response) => {
        assert.match(String(response.headers['content-type']), /^text\/event-stream/);
        let text = '';
        response.on('data', (piece: Buffer) => (text += piece.toString()));
        response.on('error', () => undefined);
        const sent = (): SentEvent[] =>
          text
            .split('\n\n')
            .slice(0, -1)
            .map((block) => Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s).slice(0, 2))))
            .filter((fields) => fields['data'] !== undefined)
            .map((fields) => ({ id: fields['id'], event: fields['event'], data: JSON.parse(fields['data']) }));
        act()
          .then(async (isLast) => {
            await lab.until(async () => (sent().some(isLast) ? true : null), 'the last event');
            await sleep(300);
            outgoing.destroy();
            resolve(sent());
          })
          .catch(reject);
      },
    );
    outgoing.on('error', () => undefined);
    outgoing.end();
  });
}

/** A request with exactly these headers, as a browser might be made to send it. */
function raw(
  lab: ServerLab,
  options: { method: string; path: string; cookie: string; headers?: Record<string, string> },
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      {
        host: '127.0.0.1',
        port: lab.port,
        path: options.path,
        method: options.method,
        rejectUnauthorized: false,
        agent: false,
        headers: { 'content-type': 'application/json', cookie: options.cookie, ...options.headers },
      },
      (response) => {
        let text = '';
        response.on('data', (piece: Buffer) => (text += piece.toString()));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            json: text.startsWith('{') ? JSON.parse(text) : null,
          }),
        );
      },
    );
    outgoing.on('error', reject);
    outgoing.end(options.method === 'GET' || options.method === 'OPTIONS' ? undefined : '{}');
  });
}
