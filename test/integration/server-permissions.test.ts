import assert from 'node:assert/strict';
import { request } from 'node:https';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import sqlite3 from 'sqlite3';
import { ADMIN_PASSWORD, type Answer, ServerLab } from './server-lab.ts';

const ROLES = ['administrator', 'operator', 'restore', 'viewer'] as const;
const SCOPES = ['operate', 'restore', 'read', 'monitor'] as const;
const PASSWORD = 'another long password';

/** Written down here a second time: a mistake in the server's own table shows. */
const MAY: Record<string, readonly string[]> = {
  administrator: ['whoami', 'account', 'monitor', 'view', 'browse', 'restore', 'operate', 'configure', 'administer'],
  operator: ['whoami', 'account', 'monitor', 'view', 'browse', 'restore', 'operate'],
  restore: ['whoami', 'account', 'browse', 'restore'],
  viewer: ['whoami', 'account', 'monitor', 'view', 'browse'],
  'token:operate': ['whoami', 'monitor', 'view', 'browse', 'operate'],
  'token:restore': ['whoami', 'browse', 'restore'],
  'token:read': ['whoami', 'monitor', 'view', 'browse'],
  'token:monitor': ['whoami', 'monitor'],
};

/** Whoever only looks may call these besides what reads: they change nothing but the own account. */
const HARMLESS_CHANGES = [
  'delete /session',
  'delete /sessions/{id}',
  'delete /tokens/{id}',
  'post /retention/preview',
  'post /retention/simulate',
  'post /schedules/preview',
  'post /selections/preview',
  'post /session/password',
  'post /session/second-factor',
  'post /session/second-factor/confirm',
  'post /session/second-factor/end',
];

interface Operation {
  method: string;
  path: string;
  permission: string;
}

describe('every function of the API', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let operations: Operation[] = [];
  const tokens = new Map<string, string>();

  before(async () => {
    await lab.start();
    const { paths } = await lab.call('GET', '/openapi.json');
    operations = Object.entries(paths as Record<string, Record<string, Answer>>).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ method, path, permission: operation['x-permission'] })),
    );
    for (const role of ROLES) {
      await lab.call('POST', '/users', { name: `the-${role}`, role, password: PASSWORD });
      tokens.set(role, await makeToken(`the-${role}`, PASSWORD, 'full'));
    }
    for (const scope of SCOPES) tokens.set(`token:${scope}`, await makeToken('admin', ADMIN_PASSWORD, scope));
  });
  after(() => lab.destroy());

  async function makeToken(user: string, password: string, scope: string): Promise<string> {
    const made = await lab.send('/tokens', {
      method: 'POST',
      token: null,
      body: { user, password, name: scope, scope },
    });
    assert.equal(made.status, 201, made.text);
    return made.json.token;
  }

  /** Status and code of the answer; one that does not end is not read to its end. */
  function ask({ method, path }: Operation, token: string | null): Promise<{ status: number; code: string | null }> {
    const filled = path.replaceAll(/\{\w+\}/g, '0123456789abcdef');
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          host: '127.0.0.1',
          port: lab.port,
          path: `/api/v1${filled}`,
          method: method.toUpperCase(),
          rejectUnauthorized: false,
          agent: false,
          headers: {
            'x-dozo-request': '1',
            'content-type': 'application/json',
            ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          },
        },
        (response) => {
          const status = response.statusCode ?? 0;
          if (/event-stream/.test(response.headers['content-type'] ?? '')) {
            resolve({ status, code: null });
            outgoing.destroy();
            return;
          }
          let text = '';
          response.on('data', (piece: Buffer) => (text += piece.toString()));
          response.on('end', () => {
            const isError = status >= 400 && text.startsWith('{');
            resolve({ status, code: isError ? (JSON.parse(text) as { code: string }).code : null });
          });
        },
      );
      outgoing.on('error', reject);
      outgoing.end(method === 'get' || method === 'delete' ? undefined : '{}');
    });
  }

  /** All but those that would end the session that asks. */
  const closed = (): Operation[] =>
    operations.filter(
      ({ permission, method, path }) => permission !== 'open' && !(method === 'delete' && path === '/session'),
    );

  it('names a permission that some role has', () => {
    assert.ok(operations.length > 60, `${operations.length} functions`);
    const known = new Set([...(MAY['administrator'] ?? []), 'open']);
    assert.deepEqual(
      operations.filter(({ permission }) => !known.has(permission)),
      [],
    );
    const open = operations
      .filter(({ permission }) => permission === 'open')
      .map(({ method, path }) => `${method} ${path}`);
    // The last one lets in by the signature of its call.
    const expected = ['get /health', 'post /session', 'post /session/nas', 'post /tokens', 'post /triggers/{id}'];
    assert.deepEqual(open.sort(), expected);
  });

  for (const who of Object.keys(MAY)) {
    it(`lets ${who} do what it may and nothing else`, async () => {
      const wrong: string[] = [];
      for (const operation of closed()) {
        const isAllowed = MAY[who]?.includes(operation.permission) === true;
        const { status, code } = await ask(operation, tokens.get(who) ?? '');
        const isDenied = status === 403 && code === 'FORBIDDEN';
        if (isDenied === isAllowed || status === 401 || status >= 500) {
          wrong.push(`${operation.method} ${operation.path} (${operation.permission}): ${status} ${code ?? ''}`);
        }
      }
      assert.deepEqual(wrong, []);
    });
  }

  it('changes nothing for those who only look, besides their own account', () => {
    for (const who of ['viewer', 'token:read', 'token:monitor']) {
      const changes = operations
        .filter(({ method, permission }) => method !== 'get' && MAY[who]?.includes(permission) === true)
        .map(({ method, path }) => `${method} ${path}`);
      assert.deepEqual(
        changes.filter((change) => !HARMLESS_CHANGES.includes(change)),
        [],
        `${who}: is this harmless?`,
      );
    }
    const restoring = operations.filter(({ method, permission }) => method !== 'get' && permission === 'restore');
    assert.deepEqual(restoring.map(({ method, path }) => `${method} ${path}`).sort(), [
      'post /restores',
      'post /runs/{id}/cancel',
    ]);
  });

  it('refuses strangers and what has expired, was revoked, or lost its account', async () => {
    const expired = await makeToken('admin', ADMIN_PASSWORD, 'full');
    const revoked = await makeToken('admin', ADMIN_PASSWORD, 'full');
    const disabled = await makeToken('the-operator', PASSWORD, 'full');
    const removed = await makeToken('the-viewer', PASSWORD, 'full');
    for (const token of [expired, revoked, disabled, removed]) {
      assert.equal((await lab.send('/hosts', { token })).status, 200);
    }
    assert.equal((await lab.send('/session', { method: 'DELETE', token: revoked })).status, 204);
    await lab.call('PATCH', '/users/the-operator', { disabled: true });
    await lab.call('DELETE', '/users/the-viewer');
    await expireNewestOf('admin', join(lab.dataFolder, 'catalogue.sqlite'));

    const wrong: string[] = [];
    for (const [what, token] of Object.entries({
      stranger: null,
      expired,
      revoked,
      disabled,
      removed,
      made: 'x'.repeat(43),
    })) {
      for (const operation of closed()) {
        const { status, code } = await ask(operation, token);
        if (status !== 401 || code !== 'LOGIN_REQUIRED') {
          wrong.push(`${what}: ${operation.method} ${operation.path}: ${status} ${code ?? ''}`);
        }
      }
    }
    assert.deepEqual(wrong, []);
  });
});

/** Behind the server's back, as time would. */
function expireNewestOf(userName: string, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(path);
    database.configure('busyTimeout', 90_000);
    database.run(
      `UPDATE sessions SET expires_at_ms = 1 WHERE id =
         (SELECT id FROM sessions WHERE user_name = ? ORDER BY created_at_ms DESC LIMIT 1)`,
      [userName],
      (error: Error | null) => {
        database.close();
        if (error === null) resolve();
        else reject(error);
      },
    );
  });
}

describe('an account of the role restore', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let token = '';
  let own: Answer;
  let other: Answer;
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
    const [first, second] = ids.machineIds;
    own = await lab.call('POST', '/jobs', { name: 'own', machineIds: [first], repositoryId: ids.repositoryId });
    other = await lab.call('POST', '/jobs', { name: 'other', machineIds: [second], repositoryId: ids.repositoryId });
    for (const job of [own, other]) await lab.waitForRun((await lab.call('POST', `/jobs/${job.id}/run`, {})).id);
    await lab.until(async () => ((await lab.call('GET', '/points')).points.length === 2 ? true : null), 'two versions');
    await lab.call('POST', '/users', { name: 'helpdesk', role: 'restore', password: PASSWORD });
    const made = await lab.send('/tokens', {
      method: 'POST',
      token: null,
      body: { user: 'helpdesk', password: PASSWORD, name: 'x' },
    });
    token = made.json.token;
  });
  after(() => lab.destroy());

  const get = async (path: string): Promise<Answer> => {
    const reply = await lab.send(path, { token });
    assert.equal(reply.status, 200, `${path}: ${reply.text}`);
    return reply.json;
  };
  const status = async (method: string, path: string, body?: unknown): Promise<number> =>
    (await lab.send(path, { method, token, ...(body === undefined ? {} : { body }) })).status;

  it('sees nothing as long as nothing is delegated to it', async () => {
    for (const path of ['/jobs', '/machines', '/hosts']) assert.deepEqual(await get(path), [], path);
    assert.deepEqual((await get('/points')).points, []);
    assert.deepEqual((await get('/runs')).runs, []);
  });

  it('sees and restores what one job protects, once that is delegated', async () => {
    await lab.call('PUT', `/jobs/${own.id}/delegates`, { users: ['helpdesk'] });
    const [first, second] = ids.machineIds;
    assert.deepEqual(
      (await get('/jobs')).map((job: Answer) => job.id),
      [own.id],
    );
    assert.deepEqual(
      (await get('/machines')).map((machine: Answer) => machine.id),
      [first],
    );
    const { points } = await get('/points');
    assert.deepEqual(
      points.map((point: Answer) => point.machineId),
      [first],
    );
    assert.deepEqual(
      (await get('/runs')).runs.map((run: Answer) => run.jobId),
      [own.id],
    );
    assert.equal((await get(`/hosts/${ids.hostId}/machines`)).length, 1);

    const all = (await lab.call('GET', '/points')).points;
    const foreign = all.find((point: Answer) => point.machineId === second);
    const foreignRun = (await lab.call('GET', '/runs')).runs.find((run: Answer) => run.jobId === other.id);
    for (const path of [
      `/points/${foreign.id}`,
      `/points/${foreign.id}/disks/scsi0:0/download`,
      `/points/${foreign.id}/disks/scsi0:0/volumes`,
      `/points/${foreign.id}/disks/scsi0:0/volumes/1/files`,
      `/points/${foreign.id}/disks/scsi0:0/volumes/1/file?path=a`,
      `/points/${foreign.id}/disks/scsi0:0/volumes/1/archive?path=a`,
      `/machines/${second}`,
      `/jobs/${other.id}`,
      `/runs/${foreignRun.id}`,
      `/runs/${foreignRun.id}/log`,
      '/hosts/0123456789abcdef/datastores',
    ]) {
      assert.equal(await status('GET', path), 404, path);
    }
    const restore = (pointId: string, mode: object): Promise<number> =>
      status('POST', '/restores', { pointId, hostId: ids.hostId, mode });
    assert.equal(await restore(foreign.id, { kind: 'new', name: 'stolen' }), 404);
    assert.equal(await restore(points[0].id, { kind: 'replace', machineId: second }), 404);
    assert.equal(await status('POST', `/runs/${foreignRun.id}/cancel`, {}), 404);
    lab.script({ hold: true });
    assert.equal(await restore(points[0].id, { kind: 'new', name: 'back' }), 202);
    const restored = (await get('/runs')).runs.find((run: Answer) => run.kind === 'restore');
    assert.equal(await status('POST', `/runs/${restored.id}/cancel`, {}), 202);
    lab.script({});
    const ownRun = (await get('/runs')).runs.find((run: Answer) => run.kind === 'backup');
    assert.equal(await status('POST', `/runs/${ownRun.id}/cancel`, {}), 403);
  });

  it('hears of nothing else, until it is not delegated any more, and keeps old versions when the job takes other machines', async () => {
    const heard: string[] = [];
    let hasEnded = false;
    const both = await lab.call('POST', '/jobs', {
      name: 'both',
      machineIds: ids.machineIds,
      repositoryId: ids.repositoryId,
    });
    const listening = new Promise<void>((resolve) => {
      const outgoing = request(
        {
          host: '127.0.0.1',
          port: lab.port,
          path: '/api/v1/events',
          rejectUnauthorized: false,
          agent: false,
          headers: { authorization: `Bearer ${token}` },
        },
        (response) => {
          response.on('data', (piece: Buffer) => heard.push(piece.toString()));
          response.on('close', () => {
            hasEnded = true;
            resolve();
          });
          response.on('error', () => resolve());
        },
      );
      outgoing.on('error', () => resolve());
      outgoing.end();
      void (async () => {
        await lab.until(async () => (heard.length > 0 ? true : null), 'the stream');
        const foreign = await lab.call('POST', `/jobs/${other.id}/run`, {});
        await lab.waitForRun(foreign.id);
        // One of its two machines is theirs.
        const shared = await lab.call('POST', `/jobs/${both.id}/run`, {});
        await lab.waitForRun(shared.id);
        const mine = await lab.call('POST', `/jobs/${own.id}/run`, {});
        await lab.waitForRun(mine.id);
        await lab.until(async () => (heard.join('').includes(mine.id) ? true : null), 'the own run');
        for (const id of [foreign.id, shared.id, ids.machineIds[1]]) {
          assert.ok(!heard.join('').includes(id), heard.join(''));
        }
        assert.match(heard.join(''), /^event: log$/m);
        // What is delegated from now on is heard of by a stream that begins from now on.
        await lab.call('PUT', `/jobs/${own.id}/delegates`, { users: [] });
        await lab.until(async () => (hasEnded ? true : null), 'the end of the stream');
      })().catch((error: unknown) => {
        heard.push(String(error));
        outgoing.destroy();
      });
    });
    await listening;
    assert.ok(!/Error/.test(heard.join('')), heard.join(''));

    await lab.call('DELETE', `/jobs/${both.id}`);
    await lab.call('PUT', `/jobs/${own.id}/delegates`, { users: ['helpdesk'] });
    const [first, second] = ids.machineIds;
    const job = await lab.call('GET', `/jobs/${own.id}`);
    await lab.call('PUT', `/jobs/${own.id}`, {
      name: 'own',
      machineIds: [second],
      repositoryId: ids.repositoryId,
      revision: job.revision,
    });
    const machines = (await get('/points')).points.map((point: Answer) => point.machineId);
    assert.deepEqual([...new Set(machines)].sort(), [first, second].sort());
  });

  it('loses all of it when it is not delegated any more', async () => {
    await lab.call('PUT', `/jobs/${own.id}/delegates`, { users: [] });
    assert.deepEqual((await get('/points')).points, []);
    const refused = await lab.send(`/jobs/${own.id}/delegates`, { method: 'PUT', body: { users: ['admin'] } });
    assert.equal(refused.status, 409);
  });
});
