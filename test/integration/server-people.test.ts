import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import sqlite3 from 'sqlite3';
import { encodeAuditEntry } from '../../server/contract/audit-chain.ts';
import { runCli } from '../../server/cli/run-cli.ts';
import { ADMIN_PASSWORD, type Answer, type Reply, ServerLab } from './server-lab.ts';

const PASSWORD = 'another long password';

function logIn(lab: ServerLab, body: object, headers: Record<string, string> = {}): Promise<Reply> {
  return lab.send('/session', { method: 'POST', token: null, headers, body });
}

function cookieOf(reply: Reply): string {
  const [cookie] = reply.headers['set-cookie'] as string[];
  return cookie?.split(';')[0] ?? '';
}

/** Statements on the catalogue behind the server's back. */
async function tamper(lab: ServerLab, ...statements: string[]): Promise<void> {
  const database = new sqlite3.Database(join(lab.dataFolder, 'catalogue.sqlite'));
  database.configure('busyTimeout', 90_000);
  for (const sql of statements) {
    await new Promise<void>((resolve, reject) =>
      database.run(sql, (error: Error | null) => (error === null ? resolve() : reject(error))),
    );
  }
  await new Promise<void>((resolve) => database.close(() => resolve()));
}

/** RFC 6238, written from the RFC. */
function oneTimeCode(base32: string, step: number): string {
  const bits = [...base32]
    .map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0'))
    .join('');
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac('sha1', key).update(counter).digest();
  const at = (mac.at(-1) ?? 0) & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

describe('accounts', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  before(() => lab.start());
  after(() => lab.destroy());

  it('have names, passwords and roles that are checked', async () => {
    const input = { name: 'eve', role: 'viewer', password: PASSWORD };
    for (const change of [
      { name: 'eve@nas' },
      { name: '' },
      { name: '-x' },
      { name: 'a b' },
      { name: 'admin\u0000' },
      { role: 'root' },
      { password: 'short' },
      { jobIds: ['x'] },
      { disabled: true },
    ]) {
      const reply = await lab.send('/users', { method: 'POST', body: { ...input, ...change } });
      assert.equal(reply.status, 400, JSON.stringify(change));
    }
    const unknownJob = await lab.send('/users', { method: 'POST', body: { ...input, jobIds: ['0123456789abcdef'] } });
    assert.equal(unknownJob.status, 404);
    assert.equal((await lab.send('/users/eve')).status, 404);
    assert.equal((await lab.send('/users', { method: 'POST', body: input })).status, 201);
    assert.equal((await lab.send('/users', { method: 'POST', body: input })).status, 409);
    assert.ok(!(await lab.send('/users')).text.includes('scrypt'));
  });

  it('cannot lose the last one that may administer', async () => {
    const remove = await lab.send('/users/admin', { method: 'DELETE' });
    assert.equal(remove.status, 409);
    for (const body of [{ role: 'viewer' }, { disabled: true }]) {
      const reply = await lab.send('/users/admin', { method: 'PATCH', body });
      assert.equal(reply.status, 409, reply.text);
    }
    assert.equal((await lab.send('/hosts')).status, 200);
    assert.equal((await lab.call('GET', '/session')).role, 'administrator');
  });

  it('end what they had opened when their rights change', async () => {
    for (const body of [{ role: 'operator' }, { password: 'a third long password' }, { disabled: true }]) {
      await lab.call('PATCH', '/users/eve', { password: PASSWORD, disabled: false, role: 'viewer' });
      const cookie = cookieOf(await logIn(lab, { user: 'eve', password: PASSWORD }));
      assert.equal((await lab.send('/session', { token: null, headers: { cookie } })).status, 200);
      await lab.call('PATCH', '/users/eve', body);
      assert.equal(
        (await lab.send('/session', { token: null, headers: { cookie } })).status,
        401,
        JSON.stringify(body),
      );
    }
    assert.equal((await logIn(lab, { user: 'eve', password: PASSWORD })).status, 401);
    await lab.call('PATCH', '/users/eve', { disabled: false, password: PASSWORD });
  });

  it('list their browsers and log one of them out', async () => {
    const [here, there] = [
      cookieOf(await logIn(lab, { user: 'eve', password: PASSWORD }, { 'user-agent': 'Here/1' })),
      cookieOf(await logIn(lab, { user: 'eve', password: PASSWORD }, { 'user-agent': 'There/1 <b>\u00e9' })),
    ];
    const asHere = { token: null, headers: { cookie: here } };
    const open = (await lab.send('/sessions', asHere)).json;
    assert.deepEqual(
      open.map((session: Answer) => [session.name, session.isThis]),
      [
        ['Here/1', true],
        ['There/1 <b>', false],
      ],
    );
    assert.equal(open[0].address, '127.0.0.1');
    const end = (cookie: string): Promise<Reply> =>
      lab.send(`/sessions/${open[1].id}`, { method: 'DELETE', token: null, headers: { cookie } });
    const foreign = cookieOf(await logIn(lab, { user: 'admin', password: ADMIN_PASSWORD }));
    assert.equal((await end(foreign)).status, 404);
    assert.equal((await end(here)).status, 204);
    assert.equal((await lab.send('/session', { token: null, headers: { cookie: there } })).status, 401);
    assert.equal((await lab.send('/session', asHere)).status, 200);
    await lab.call('DELETE', '/users/eve/sessions');
    assert.equal((await lab.send('/session', asHere)).status, 401);
  });

  it('end however often they are used', async () => {
    const cookie = cookieOf(await logIn(lab, { user: 'eve', password: PASSWORD }));
    assert.equal((await lab.send('/session', { token: null, headers: { cookie } })).status, 200);
    await tamper(lab, "UPDATE sessions SET ends_at_ms = 1 WHERE user_name = 'eve'");
    assert.equal((await lab.send('/session', { token: null, headers: { cookie } })).status, 401);
  });
});

describe('a second factor', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let cookie = '';
  let secret = '';
  let recoveryCodes: string[] = [];
  /** Of the code that has been used. */
  let usedStep = 0;
  const step = (): number => Math.floor(Date.now() / 30_000);

  before(async () => {
    await lab.start();
    await lab.call('POST', '/users', { name: 'eve', role: 'operator', password: PASSWORD });
    cookie = cookieOf(await logIn(lab, { user: 'eve', password: PASSWORD }));
  });
  after(() => lab.destroy());

  const send = (path: string, body: object): Promise<Reply> =>
    lab.send(path, { method: 'POST', token: null, headers: { cookie }, body });
  /** From ever new addresses: what is tested is the code, not the pace. */
  let address = 1;
  const enter = (code?: string): Promise<Reply> =>
    logIn(
      lab,
      { user: 'eve', password: PASSWORD, ...(code === undefined ? {} : { code }) },
      {
        'x-forwarded-for': `198.51.100.${(address += 1)}`,
      },
    );

  it('needs the password, and holds only once a code of it was right', async () => {
    assert.equal((await send('/session/second-factor', { password: 'wrong' })).status, 401);
    const begun = await send('/session/second-factor', { password: PASSWORD });
    assert.equal(begun.status, 200);
    secret = begun.json.secret;
    const uri = new URL(begun.json.uri);
    assert.deepEqual([uri.protocol, uri.searchParams.get('secret')], ['otpauth:', secret]);
    assert.equal((await enter()).status, 200);
    const wrong = oneTimeCode(secret, step() + 100);
    assert.equal((await send('/session/second-factor/confirm', { code: wrong })).json.code, 'LOGIN_CODE_REFUSED');
    assert.equal((await enter()).status, 200);
    usedStep = step();
    const confirmed = await send('/session/second-factor/confirm', { code: oneTimeCode(secret, usedStep) });
    assert.equal(confirmed.status, 200);
    recoveryCodes = confirmed.json.recoveryCodes;
    assert.equal(new Set(recoveryCodes).size, 10);
    for (const code of recoveryCodes) assert.match(code, /^([a-z2-7]{4}-){3}[a-z2-7]{4}$/);
    const files = ['catalogue.sqlite', 'catalogue.sqlite-wal'].map((name) => readFileSync(join(lab.dataFolder, name)));
    for (const word of [secret, recoveryCodes[0] ?? '']) {
      for (const file of files) assert.ok(!file.includes(word) && !file.includes(word.replaceAll('-', '')));
    }
  });

  it('is asked for at every login, and no code is good twice', async () => {
    assert.equal((await enter()).json.code, 'LOGIN_CODE_REQUIRED');
    const older = oneTimeCode(secret, usedStep - 1);
    assert.equal((await enter(older)).json.code, 'LOGIN_CODE_REFUSED', 'older than the one that was used');
    assert.equal((await enter('abcd-efgh-ijkl-mnop')).json.code, 'LOGIN_CODE_REFUSED');
    await tamper(lab, `UPDATE users SET totp_step = ${step() - 1} WHERE name = 'eve'`);
    const code = oneTimeCode(secret, step());
    const first = await enter(`${code.slice(0, 3)} ${code.slice(3)}`);
    assert.equal(first.status, 200, first.text);
    assert.equal(first.json.hasSecondFactor, true);
    assert.equal((await enter(code)).json.code, 'LOGIN_CODE_REFUSED');
    const wrongPassword = await logIn(
      lab,
      { user: 'eve', password: 'x', code: '000000' },
      { 'x-forwarded-for': '203.0.113.9' },
    );
    assert.equal(wrongPassword.json.code, 'LOGIN_REFUSED');
  });

  it('is asked for tokens and changes of the password too', async () => {
    const token = { user: 'eve', password: PASSWORD, name: 'x' };
    const refused = await lab.send('/tokens', { method: 'POST', token: null, body: token });
    assert.equal(refused.json.code, 'LOGIN_CODE_REQUIRED');
    const made = await lab.send('/tokens', { method: 'POST', token: null, body: { ...token, code: recoveryCodes[0] } });
    assert.equal(made.status, 201);
    const change = { oldPassword: PASSWORD, newPassword: 'yet another one' };
    assert.equal((await send('/session/password', change)).json.code, 'LOGIN_CODE_REQUIRED');
    const again = await send('/session/second-factor', { password: PASSWORD });
    assert.equal(again.status, 409, 'the password alone replaces no second factor');
  });

  it('lets in with a recovery code, once each', async () => {
    const code = (recoveryCodes[1] ?? '').toUpperCase().replaceAll('-', ' ');
    assert.equal((await enter(code)).status, 200);
    assert.equal((await enter(code)).json.code, 'LOGIN_CODE_REFUSED');
    assert.equal((await lab.call('GET', '/users/eve')).recoveryCodesLeft, 8);
  });

  it('slows guessing of codes down, also from many addresses, and not who was there before', async () => {
    const answers: string[] = [];
    for (let attempt = 0; attempt < 12; attempt += 1) answers.push((await enter('000000')).json.code);
    assert.ok(answers.includes('LOGIN_RATE_LIMITED'), answers.join(' '));
    assert.ok(answers.filter((code) => code === 'LOGIN_CODE_REFUSED').length <= 6);
    const home = { 'x-forwarded-for': '198.51.100.2' };
    const body = { user: 'eve', password: PASSWORD, code: recoveryCodes[2] };
    assert.equal((await logIn(lab, body, home)).status, 200);
  });

  it('ends with password and code, or by an administrator', async () => {
    assert.equal((await send('/session/second-factor/end', { password: PASSWORD, code: '000000' })).status, 401);
    assert.equal(
      (await send('/session/second-factor/end', { password: PASSWORD, code: recoveryCodes[3] })).status,
      204,
    );
    assert.equal((await enter()).status, 200);
    const begun = await send('/session/second-factor', { password: PASSWORD });
    const code = oneTimeCode(begun.json.secret, step());
    assert.equal((await send('/session/second-factor/confirm', { code })).status, 200);
    await lab.call('PATCH', '/users/eve', { endSecondFactor: true });
    assert.equal((await enter()).status, 200);
  });
});

describe('ten thousand failed logins', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  before(() => lab.start());
  after(() => lab.destroy());

  it('lock nobody out, open nothing, and fill nothing', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 40, rejectUnauthorized: false });
    const statuses = new Map<number, number>();
    const attempt = (number: number): Promise<void> =>
      new Promise((resolve, reject) => {
        const body = JSON.stringify({
          user: number % 10 === 0 ? `user ${number}` : 'admin',
          password: `guess ${number}`,
        });
        const outgoing = request(
          {
            agent,
            host: '127.0.0.1',
            port: lab.port,
            path: '/api/v1/session',
            method: 'POST',
            headers: {
              'content-type': 'application/json',
              'x-dozo-request': '1',
              'x-forwarded-for': `198.51.100.${number % 50}`,
            },
          },
          (response) => {
            statuses.set(response.statusCode ?? 0, (statuses.get(response.statusCode ?? 0) ?? 0) + 1);
            response.resume().on('end', resolve).on('error', reject);
          },
        );
        outgoing.on('error', (error: NodeJS.ErrnoException) => {
          // The server ends what was idle for seconds, which on a machine that stood still is all of them.
          if (outgoing.reusedSocket && error.code === 'ECONNRESET') attempt(number).then(resolve, reject);
          else reject(error);
        });
        outgoing.end(body);
      });
    const beganMs = performance.now();
    const numbers = Array.from({ length: 10_000 }, (_, number) => number).values();
    const elsewhere = { 'x-forwarded-for': '203.0.113.77' };
    let owner: Reply | null = null;
    await Promise.all(
      Array.from({ length: 40 }, async () => {
        for (const number of numbers) {
          await attempt(number);
          // In the middle of it.
          if (number === 5_000) owner = await logIn(lab, { user: 'admin', password: ADMIN_PASSWORD }, elsewhere);
        }
      }),
    );
    agent.destroy();

    assert.equal((owner as Reply | null)?.status, 200);
    assert.deepEqual([...statuses.keys()].sort(), [401, 429]);
    // Of 50 addresses 8 each, and one more every half minute.
    const forgiven = 50 * Math.floor((performance.now() - beganMs) / 30_000);
    assert.ok((statuses.get(401) ?? 0) <= 450 + forgiven, `${statuses.get(401)} passwords were tried`);
    assert.equal((await logIn(lab, { user: 'admin', password: ADMIN_PASSWORD }, elsewhere)).status, 200);
    assert.equal((await lab.send('/hosts')).status, 200);
    const { entries } = await lab.call('GET', '/audit?limit=500');
    const refused = entries.filter((entry: Answer) => entry.outcome === 'refused');
    assert.ok(refused.length > 0 && refused.length <= 40, `${refused.length} entries`);
    for (const entry of refused) assert.ok([null, 'admin'].includes(entry.details.user), JSON.stringify(entry));
  });
});

describe('the audit log', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  const folder = mkdtempSync(join(tmpdir(), 'dozo-audit-'));
  let noted: { number: number; hash: string };

  before(async () => {
    await lab.start();
    await lab.call('POST', '/users', { name: 'eve', role: 'viewer', password: PASSWORD });
    await lab.call('PATCH', '/users/eve', { role: 'operator', password: 'a very secret word' });
    await lab.call('POST', '/hosts', { host: '192.0.2.9', password: 'the secret of the host', name: 'one' });
    await logIn(lab, { user: 'eve', password: 'not the right one' });
    const login = await logIn(lab, { user: 'eve', password: 'a very secret word' });
    await lab.send('/users', { token: null, headers: { cookie: cookieOf(login) } });
    await lab.send('/users/eve', { method: 'DELETE', token: null, headers: { cookie: cookieOf(login) } });
    await lab.send('/settings', { method: 'PATCH', body: { tasksPerHost: 1e9 } });
  });
  after(async () => {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
  });

  const verify = (query = ''): Promise<Answer> => lab.call('GET', `/audit/verify${query}`);
  const cli = async (...args: string[]): Promise<{ status: number; text: string }> => {
    let text = '';
    const sink = { write: (piece: string) => ((text += piece), true) } as unknown as NodeJS.WritableStream;
    const terminal = { input: process.stdin, output: sink, errors: sink };
    const fingerprint = createHash('sha256')
      .update(await certificate())
      .digest('hex');
    const status = await runCli(args, terminal, {
      DOZO_SERVER: `https://127.0.0.1:${lab.port}`,
      DOZO_FINGERPRINT: fingerprint,
      DOZO_TOKEN: lab.token ?? '',
      DOZO_CONFIG: join(folder, 'cli.json'),
    });
    return { status, text };
  };
  const certificate = async (): Promise<Buffer> => {
    const pem = readFileSync(join(lab.dataFolder, 'tls/certificate.pem'), 'utf8');
    return Buffer.from(pem.replaceAll(/-----[A-Z ]+-----|\s/g, ''), 'base64');
  };

  it('says who did what from where, how it ended, and no secret', async () => {
    const { entries } = await lab.call('GET', '/audit?limit=500');
    const told = entries
      .toReversed()
      .map((entry: Answer) => [entry.actor, entry.by, entry.action, entry.target, entry.outcome].join(' | '));
    assert.deepEqual(
      told.map((line: string) => line.replaceAll(/\b[0-9a-f]{16}\b/g, 'ID')),
      [
        'admin | token | token made | ID | done',
        'admin | token | POST /users |  | done',
        'admin | token | PATCH /users/:name | eve | done',
        'admin | token | POST /hosts |  | done',
        ' |  | login |  | refused',
        'eve | cookie | login |  | done',
        'eve | cookie | DELETE /users/:name | eve | refused',
        'admin | token | PATCH /settings |  | failed',
      ],
    );
    assert.equal(entries.at(-1).address, '127.0.0.1');
    assert.deepEqual(entries.at(-3).details, { role: 'operator', password: 'new' });
    const { text } = await lab.send('/audit/export');
    for (const secret of [PASSWORD, 'secret', 'not the right one', lab.token ?? '?']) assert.ok(!text.includes(secret));
  });

  it('is exported as a chain that proves itself without the server', async () => {
    const file = join(folder, 'audit.ndjson');
    const exported = await cli('audit', 'export', file);
    assert.equal(exported.status, 0, exported.text);
    const good = await cli('audit', 'verify', '--file', file, '--json');
    const verdict = JSON.parse(good.text);
    assert.equal(verdict.isIntact, true);
    noted = verdict.head;
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    assert.equal(lines.length, verdict.entries);

    const cases: [string, string[], string][] = [
      ['an edited one', lines.map((line) => line.replace('"eve"', '"bob"')), 'changed'],
      ['one left out', lines.toSpliced(2, 1), 'missing'],
      ['two exchanged', lines.with(1, lines[2] ?? '').with(2, lines[1] ?? ''), 'missing'],
      ['the end cut off', lines.slice(0, -1), 'cut-off'],
    ];
    for (const [what, changed, problem] of cases) {
      writeFileSync(file, `${changed.join('\n')}\n`);
      const bad = await cli(
        'audit',
        'verify',
        '--file',
        file,
        '--json',
        '--number',
        `${noted.number}`,
        '--hash',
        noted.hash,
      );
      assert.equal(bad.status, 1, what);
      assert.equal(JSON.parse(bad.text).problem.what, problem, what);
    }
  });

  it('shows every edit in the catalogue', async () => {
    const good = await verify();
    assert.equal(good.isIntact, true);
    assert.equal(good.entries, good.head.number);
    const query = `?number=${noted.number}&hash=${noted.hash}`;
    assert.equal((await verify(query)).isIntact, true);
    assert.equal((await verify(`?number=2&hash=${'0'.repeat(64)}`)).problem.what, 'other-than-noted');

    const { entries } = await lab.call('GET', '/audit?limit=500');
    const last = entries[0].number;
    const attacks: [string, string[], string[], { number: number; what: string }][] = [
      [
        'another actor',
        ["UPDATE audit_log SET actor = 'bob' WHERE number = 3"],
        ["UPDATE audit_log SET actor = 'admin' WHERE number = 3"],
        { number: 3, what: 'changed' },
      ],
      [
        'another outcome',
        ["UPDATE audit_log SET outcome = 'done' WHERE number = 7"],
        ["UPDATE audit_log SET outcome = 'refused' WHERE number = 7"],
        { number: 7, what: 'changed' },
      ],
      [
        'an entry less',
        ['CREATE TABLE kept AS SELECT * FROM audit_log WHERE number = 4', 'DELETE FROM audit_log WHERE number = 4'],
        ['INSERT INTO audit_log SELECT * FROM kept', 'DROP TABLE kept'],
        { number: 4, what: 'missing' },
      ],
      [
        'the end cut off',
        [
          `CREATE TABLE kept AS SELECT * FROM audit_log WHERE number = ${last}`,
          `DELETE FROM audit_log WHERE number = ${last}`,
        ],
        ['INSERT INTO audit_log SELECT * FROM kept', 'DROP TABLE kept'],
        { number: last, what: 'cut-off' },
      ],
    ];
    for (const [what, edit, undo, problem] of attacks) {
      await tamper(lab, ...edit);
      assert.deepEqual((await verify()).problem, problem, what);
      await tamper(lab, ...undo);
      assert.equal((await verify()).isIntact, true, `${what}, undone`);
    }
    const shown = await cli('audit', 'verify');
    assert.match(shown.text, /^Intact, \d+ entries\./);
  });

  it('shows a chain that was computed anew, as long as the key was not at hand', async () => {
    const { entries } = await lab.call('GET', '/audit?limit=500');
    const chain: Answer[] = entries.toReversed();
    const statements: string[] = [];
    let previousHash = chain[1].hash;
    for (const entry of chain.slice(2)) {
      const forged = { ...entry, actor: entry.actor === 'eve' ? 'bob' : entry.actor, previousHash };
      const hash = createHash('sha256').update(encodeAuditEntry(forged)).digest('hex');
      statements.push(
        `UPDATE audit_log SET actor = ${forged.actor === null ? 'NULL' : `'${forged.actor}'`},
           previous_hash = '${previousHash}', hash = '${hash}' WHERE number = ${entry.number}`,
      );
      previousHash = hash;
    }
    await tamper(lab, ...statements);
    const verdict = await verify();
    assert.equal(verdict.isIntact, false);
    assert.deepEqual(verdict.problem, { number: chain.at(-1).number, what: 'changed' });
    await tamper(lab, "DELETE FROM settings WHERE key = 'audit-head'");
    assert.equal((await verify()).problem.what, 'seal-broken');
    await tamper(lab, `INSERT INTO settings (key, value) VALUES ('audit-head', '"AAAA"')`);
    assert.equal((await verify()).problem.what, 'seal-broken');
  });
});
