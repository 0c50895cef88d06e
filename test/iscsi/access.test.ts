import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { openFileDisk, serveReader, startIscsiServer } from '../../server/iscsi/index.ts';
import { LOGIN_STATUS } from '../../server/iscsi/login.ts';
import { OPCODE } from '../../server/iscsi/pdu.ts';
import { OwnInitiator } from './own-initiator.ts';
import { HandClock, runClient, SECRET, TARGET, USER, withTarget } from './scene.ts';

const CONTENT = Buffer.alloc(1024 * 1024, 'served');
const open = async () =>
  serveReader({
    sizeBytes: CONTENT.length,
    read: async (offsetBytes, lengthBytes) => CONTENT.subarray(offsetBytes, offsetBytes + lengthBytes),
  });
const READ_FIRST_BLOCK = [0x28, 0, 0, 0, 0, 0, 0, 0, 1];

describe('Access to a target', () => {
  it('is refused without the secret, with another name or with another user', () =>
    withTarget({ open }, async ({ port }) => {
      for (const choice of [
        { secret: 'some-other-secret' },
        { user: 'somebody' },
        { initiatorName: 'iqn.2020-01.test.dozo:stranger' },
      ]) {
        const initiator = await OwnInitiator.connect(port);
        assert.equal(await initiator.login(choice), LOGIN_STATUS.authenticationFailed, JSON.stringify(choice));
        assert.equal(await initiator.next(), null);
      }
    }));

  it('is proven by the target too, where the initiator asks for it', async () => {
    const server = await startIscsiServer({ host: '127.0.0.1', port: 0 });
    try {
      const mutual = { user: 'target', secret: 'what-only-the-target-knows' };
      const initiatorName = 'iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-inq';
      server.addTarget({
        name: TARGET,
        access: [{ initiatorName, chapUser: USER, chapSecret: SECRET, mutual }],
        disks: [{ disk: await open(), seed: 'mutual' }],
      });
      const url = (secret: string): string =>
        `iscsi://${USER}%${SECRET}@127.0.0.1:${server.port}/${TARGET}/0?target_user=${mutual.user}&target_password=${secret}`;

      const right = await runClient('iscsi-inq', [url(mutual.secret)]);
      const wrong = await runClient('iscsi-inq', [url('what-somebody-else-thinks')]);

      assert.equal(right.status, 0, right.output);
      assert.match(right.output, /Vendor:DOZO/);
      assert.notEqual(wrong.status, 0, 'libiscsi took a wrong answer of the target');
    } finally {
      await server.close();
    }
  });

  it('is refused to a program that offers no CHAP, discovery included', () =>
    withTarget({ open }, async ({ port, url }) => {
      const read = await runClient('iscsi-inq', [url.replace(/\/\/.*@/, '//')]);
      assert.notEqual(read.status, 0);
      assert.match(read.output, /Authentication failure/);
      const list = await runClient('iscsi-ls', [`iscsi://127.0.0.1:${port}`]);
      assert.doesNotMatch(list.output, /Target:/);
    }));

  it('serves nothing to a command before the login is over', () =>
    withTarget({ open }, async ({ port }) => {
      const initiator = await OwnInitiator.connect(port);
      initiator.command(READ_FIRST_BLOCK, { expectedBytes: 512 });
      assert.equal(await initiator.next(), null);
    }));

  it('is not granted by a specification without initiators, or with a weak secret', async () => {
    const server = await startIscsiServer({ host: '127.0.0.1', port: 0 });
    try {
      const disks = [{ disk: await open(), seed: 'x' }];
      const name = 'iqn.2020-01.test.dozo:x';
      assert.throws(() => server.addTarget({ name, access: [], disks }), { code: 'INPUT_INVALID' });
      const grant = { initiatorName: 'iqn.2020-01.a:b', chapUser: 'u', chapSecret: 'short' };
      assert.throws(() => server.addTarget({ name, access: [grant], disks }), { code: 'INPUT_INVALID' });
      await assert.rejects(openFileDisk('/nonexistent', { writable: false }), { code: 'ENOENT' });
    } finally {
      await server.close();
    }
  });

  it('survives digests, and a wrong digest ends the connection', () =>
    withTarget({ open }, async ({ port }) => {
      const initiator = await OwnInitiator.connect(port);
      const keys: [string, string][] = [
        ['HeaderDigest', 'CRC32C,None'],
        ['DataDigest', 'CRC32C'],
      ];
      assert.equal(await initiator.login({ keys }), LOGIN_STATUS.success);
      assert.deepEqual(initiator.digests, { header: true, data: true });
      // The unit attention of a new session comes first.
      initiator.command([0]);
      assert.equal((await initiator.next())?.opcode, OPCODE.scsiResponse);

      initiator.command(READ_FIRST_BLOCK, { expectedBytes: 512 });
      const answer = await initiator.next();

      assert.equal(answer?.opcode, OPCODE.dataIn);
      assert.ok(answer.data.equals(CONTENT.subarray(0, 512)));
      initiator.socket.write(Buffer.concat([Buffer.alloc(48), Buffer.alloc(4, 0xff)]));
      assert.equal(await initiator.next(), null);
    }));

  it('passes to a new login of the same initiator port, which ends the older session', () =>
    withTarget({ open }, async ({ port, sessionEnd }) => {
      const [older, newer] = [await OwnInitiator.connect(port), await OwnInitiator.connect(port)];
      assert.equal(await older.login({ isid: 7 }), LOGIN_STATUS.success);

      assert.equal(await newer.login({ isid: 7 }), LOGIN_STATUS.success);

      assert.equal(await older.next(), null);
      assert.equal((await sessionEnd()).orderly, false);
      newer.ping();
      assert.equal((await newer.next())?.opcode, OPCODE.nopIn);
      newer.close();
    }));

  it('is open to 32 sessions at once', () =>
    withTarget({ open }, async ({ port }) => {
      const initiators: OwnInitiator[] = [];
      for (let isid = 0; isid < 32; isid += 1) {
        const initiator = await OwnInitiator.connect(port);
        assert.equal(await initiator.login({ isid }), LOGIN_STATUS.success);
        initiators.push(initiator);
      }
      for (const initiator of initiators) {
        initiator.command([0]);
        initiator.command(READ_FIRST_BLOCK, { expectedBytes: 512 });
      }
      for (const initiator of initiators) {
        await initiator.next();
        assert.ok((await initiator.next())?.data.equals(CONTENT.subarray(0, 512)));
        initiator.close();
      }
    }));
});

describe('Peers that hold on', () => {
  it('are let go when they do not log in, and bounded in number', () =>
    withTarget({ open, limits: { loginTimeoutMs: 4_000, pendingLoginsMax: 4 } }, async ({ port }) => {
      const sockets = Array.from({ length: 12 }, () => connect(port, '127.0.0.1'));
      for (const socket of sockets) socket.on('error', () => {}).resume();
      await Promise.all(sockets.map((socket) => once(socket, 'close')));

      // A machine that stands still for long enough makes a login late as well.
      let status: number | null = null;
      for (let attempt = 0; attempt < 20 && status !== LOGIN_STATUS.success; attempt += 1) {
        const initiator = await OwnInitiator.connect(port);
        status = await initiator.login();
        initiator.close();
      }
      assert.equal(status, LOGIN_STATUS.success);
    }));

  it('are asked for a sign of life, and let go without one', async () => {
    const clock = new HandClock();
    await withTarget({ open, limits: { idleMs: 200 }, clock }, async ({ port }) => {
      const initiator = await OwnInitiator.connect(port);
      assert.equal(await initiator.login(), LOGIN_STATUS.success);

      clock.ms += 201;
      assert.equal((await initiator.next())?.opcode, OPCODE.nopIn);
      clock.ms += 200;
      assert.equal(await initiator.next(), null);
    });
  });

  it('cannot make the target hold more than its bounds by asking without reading', () =>
    withTarget({ open }, async ({ port }) => {
      const before = process.memoryUsage().rss;
      const initiator = await OwnInitiator.connect(port);
      assert.equal(await initiator.login(), LOGIN_STATUS.success);
      initiator.socket.pause();
      const readAll = [0x28, 0, 0, 0, 0, 0, 0, CONTENT.length / 512 / 256, 0];

      for (let count = 0; count < 2000; count += 1) initiator.command(readAll, { expectedBytes: CONTENT.length });
      await new Promise((resolve) => setTimeout(resolve, 1500));

      assert.ok(process.memoryUsage().rss - before < 200 * 1024 * 1024);
      initiator.close();
    }));
});
