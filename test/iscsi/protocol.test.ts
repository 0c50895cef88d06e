/** RFC 7143 clause by clause, by an initiator that does what no well-behaved one would. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startIscsiServer, type BackingDisk } from '../../server/iscsi/index.ts';
import { LOGIN_STATUS } from '../../server/iscsi/login.ts';
import { NO_TAG, OPCODE, type Pdu } from '../../server/iscsi/pdu.ts';
import { encodeTextKeys } from '../../server/iscsi/text-keys.ts';
import { OwnInitiator, type LoginChoice } from './own-initiator.ts';
import { HandClock, INITIATORS, SECRET, TARGET, USER, withTarget } from './scene.ts';

const BLOCKS = 2048;
const OWN = 'iqn.2020-01.test.dozo:own';
const SNACK = 0x10;
const [LOW, HIGH] = [Buffer.alloc(4096, 'low'), Buffer.alloc(4096, 'high')];

/** A disk in memory that writes when it may. */
class HeldDisk implements BackingDisk {
  readonly sizeBytes = BLOCKS * 512;
  readonly writable = true;
  readonly content = Buffer.alloc(this.sizeBytes);
  readonly begun: number[] = [];
  #gate: Promise<void> = Promise.resolve();
  #open: () => void = () => {};

  /** From now on writes wait until `release`. */
  hold(): void {
    this.#gate = new Promise((resolve) => (this.#open = resolve));
  }

  release(): void {
    this.#open();
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return Buffer.from(this.content.subarray(offsetBytes, offsetBytes + lengthBytes));
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    this.begun.push(offsetBytes);
    const copy = Buffer.from(data);
    await this.#gate;
    copy.copy(this.content, offsetBytes);
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.content.fill(0, offsetBytes, offsetBytes + lengthBytes);
  }

  discard = (offsetBytes: number, lengthBytes: number): Promise<void> => this.zero(offsetBytes, lengthBytes);
  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

async function withDisk(body: (disk: HeldDisk, port: number) => Promise<void>): Promise<void> {
  const disk = new HeldDisk();
  await withTarget({ open: async () => disk }, async ({ port }) => {
    try {
      await body(disk, port);
    } finally {
      disk.release();
    }
  });
}

/** Logged in, with the unit attention of the new session behind it. */
async function loggedIn(port: number, choice: LoginChoice = {}): Promise<OwnInitiator> {
  const initiator = await OwnInitiator.connect(port);
  assert.equal(await initiator.login(choice), LOGIN_STATUS.success);
  if (choice.target !== null) {
    initiator.command([0]);
    await initiator.expect(OPCODE.scsiResponse);
  }
  return initiator;
}

const write10 = (lba: number, blocks: number): number[] => [0x2a, 0, 0, 0, lba >> 8, lba & 0xff, 0, 0, blocks, 0];
const [SIMPLE_WRITE, ORDERED_WRITE, MORE_FOLLOWS] = [0xa1, 0xa2, 0x21];
const statusOf = (pdu: Pdu): number => pdu.header.readUInt8(3);

/** Answers to a ping show that the session is well. */
async function assertAlive(initiator: OwnInitiator): Promise<void> {
  initiator.ping();
  await initiator.expect(OPCODE.nopIn);
}

async function assertEnded(initiator: OwnInitiator, rejectReason: number | null): Promise<void> {
  if (rejectReason !== null) {
    const reject = await initiator.expect(OPCODE.reject);
    assert.equal(reject.header.readUInt8(2), rejectReason);
    assert.equal(reject.data.length, 48, 'the header at fault comes back');
  }
  assert.equal(await initiator.next(), null);
}

const DIGESTS: [string, string][] = [
  ['HeaderDigest', 'CRC32C'],
  ['DataDigest', 'CRC32C'],
];

describe('Digests of headers and data', () => {
  it('are on every kind of PDU, in both directions', () =>
    withDisk(async (disk, port) => {
      const initiator = await loggedIn(port, { keys: DIGESTS });

      initiator.request(OPCODE.nopOut, { data: Buffer.from('five!') });
      assert.equal((await initiator.expect(OPCODE.nopIn)).data.toString(), 'five!');
      initiator.request(OPCODE.text, { data: encodeTextKeys([['SendTargets', '']]) });
      assert.match((await initiator.expect(OPCODE.textResponse)).data.toString(), /TargetName=/);
      const tag = initiator.command(write10(0, 16), { expectedBytes: 8192, flags: SIMPLE_WRITE, data: LOW });
      const ready = await initiator.expect(OPCODE.readyToTransfer);
      initiator.dataOut(tag, 4096, HIGH, { transferTag: ready.header.readUInt32BE(20) });
      assert.equal(statusOf(await initiator.expect(OPCODE.scsiResponse)), 0);
      assert.ok(disk.content.subarray(0, 8192).equals(Buffer.concat([LOW, HIGH])));
      initiator.command([0x28, 0, 0, 0, 0, 0, 0, 0, 16, 0], { expectedBytes: 8192 });
      assert.ok((await initiator.expect(OPCODE.dataIn)).data.equals(Buffer.concat([LOW, HIGH])));
      initiator.command([0x28, 0, 0xff, 0, 0, 0, 0, 0, 16, 0], { expectedBytes: 8192 });
      assert.equal((await initiator.expect(OPCODE.scsiResponse)).data.length, 20, 'sense');
      initiator.request(OPCODE.taskManagement, { flags: 0x81, immediate: true });
      await initiator.expect(OPCODE.taskManagementResponse);
      initiator.request(SNACK, { immediate: true });
      assert.equal((await initiator.expect(OPCODE.reject)).data.length, 48);
      initiator.request(OPCODE.logout);
      await initiator.expect(OPCODE.logoutResponse);
      assert.equal(await initiator.next(), null);
    }));

  /** What to send, and whether it has data whose digest may be wrong. */
  const kinds: [name: string, send: (initiator: OwnInitiator, tag: number) => void, hasData: boolean][] = [
    ['NOP-Out', (initiator) => initiator.request(OPCODE.nopOut, { data: Buffer.from('data') }), true],
    [
      'Text request',
      (initiator) => initiator.request(OPCODE.text, { data: encodeTextKeys([['SendTargets', 'All']]) }),
      true,
    ],
    [
      'SCSI command',
      (initiator) =>
        void initiator.command(write10(8, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: Buffer.from(HIGH) }),
      true,
    ],
    ['Data-Out', (initiator, tag) => initiator.dataOut(tag, 0, Buffer.from(LOW), { transferTag: 1 }), true],
    ['task management', (initiator) => initiator.request(OPCODE.taskManagement, { flags: 0x85 }), false],
    ['logout', (initiator) => initiator.request(OPCODE.logout), false],
  ];
  for (const [name, send, hasData] of kinds)
    for (const wrong of hasData ? (['header', 'data'] as const) : (['header'] as const))
      it(`end the connection where that of a ${name}'s ${wrong} is wrong, and nothing is done`, () =>
        withDisk(async (disk, port) => {
          const initiator = await loggedIn(port, { keys: DIGESTS });
          const tag = initiator.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE });
          await initiator.expect(OPCODE.readyToTransfer);

          initiator.spoilNext = wrong;
          send(initiator, tag);

          await assertEnded(initiator, wrong === 'data' ? 0x02 : null);
          assert.deepEqual(disk.begun, []);
        }));
});

describe('Data of a write', () => {
  it('comes with the command, unasked and asked for, as was agreed on', () =>
    withDisk(async (disk, port) => {
      const keys: [string, string][] = [
        ['InitialR2T', 'No'],
        ['ImmediateData', 'Yes'],
        ['FirstBurstLength', '8192'],
        ['MaxBurstLength', '8192'],
      ];
      const initiator = await loggedIn(port, { keys });
      const data = Buffer.concat([LOW, HIGH, LOW, HIGH]);
      const part = (index: number): Buffer => data.subarray(index * 4096, (index + 1) * 4096);

      const tag = initiator.command(write10(0, 32), { expectedBytes: 16_384, flags: MORE_FOLLOWS, data: part(0) });
      initiator.dataOut(tag, 4096, part(1));
      const ready = await initiator.expect(OPCODE.readyToTransfer);
      assert.deepEqual([ready.header.readUInt32BE(40), ready.header.readUInt32BE(44)], [8192, 8192]);
      const transferTag = ready.header.readUInt32BE(20);
      initiator.dataOut(tag, 8192, part(2), { transferTag, final: false });
      initiator.dataOut(tag, 12_288, part(3), { transferTag, sn: 1 });

      assert.equal(statusOf(await initiator.expect(OPCODE.scsiResponse)), 0);
      assert.ok(disk.content.subarray(0, 16_384).equals(data));
    }));

  it('is asked for in as many pieces at once as was agreed on, in order', () =>
    withDisk(async (disk, port) => {
      const keys: [string, string][] = [
        ['MaxOutstandingR2T', '3'],
        ['MaxBurstLength', '4096'],
        ['ImmediateData', 'No'],
      ];
      const initiator = await loggedIn(port, { keys });
      const tag = initiator.command(write10(0, 40), { expectedBytes: 5 * 4096, flags: SIMPLE_WRITE });
      const asked: Pdu[] = [];
      const answer = (index: number): void => {
        const transferTag = asked[index]?.header.readUInt32BE(20) ?? 0;
        initiator.dataOut(tag, index * 4096, Buffer.alloc(4096, `piece ${index}`), { transferTag });
      };

      for (let index = 0; index < 3; index += 1) asked.push(await initiator.expect(OPCODE.readyToTransfer));
      // Nothing more comes: a ping's answer would follow it.
      await assertAlive(initiator);
      for (let index = 0; index < 5; index += 1) {
        answer(index);
        if (index < 2) asked.push(await initiator.expect(OPCODE.readyToTransfer));
      }
      assert.equal(statusOf(await initiator.expect(OPCODE.scsiResponse)), 0);
      asked.forEach(({ header }, index) => {
        assert.deepEqual([header.readUInt32BE(36), header.readUInt32BE(40)], [index, index * 4096]);
        const piece = disk.content.subarray(index * 4096, (index + 1) * 4096);
        assert.ok(piece.equals(Buffer.alloc(4096, `piece ${index}`)));
      });
    }));

  const breaches: [name: string, keys: [string, string][], send: (initiator: OwnInitiator) => Promise<void>][] = [
    [
      'immediate data where none were agreed on',
      [['ImmediateData', 'No']],
      async (initiator) =>
        void initiator.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: LOW }),
    ],
    [
      'unsolicited data where none were agreed on',
      [['InitialR2T', 'Yes']],
      async (initiator) => void initiator.command(write10(0, 8), { expectedBytes: 4096, flags: MORE_FOLLOWS }),
    ],
    [
      'more unsolicited data than the first burst',
      [
        ['InitialR2T', 'No'],
        ['FirstBurstLength', '4096'],
      ],
      async (initiator) => {
        const tag = initiator.command(write10(0, 16), { expectedBytes: 8192, flags: MORE_FOLLOWS, data: LOW });
        initiator.dataOut(tag, 4096, HIGH);
      },
    ],
    [
      'data at another offset',
      [],
      async (initiator) => {
        const tag = initiator.command(write10(0, 16), { expectedBytes: 8192, flags: SIMPLE_WRITE });
        const transferTag = (await initiator.expect(OPCODE.readyToTransfer)).header.readUInt32BE(20);
        initiator.dataOut(tag, 4096, HIGH, { transferTag });
      },
    ],
    [
      'data with another number',
      [],
      async (initiator) => {
        const tag = initiator.command(write10(0, 16), { expectedBytes: 8192, flags: SIMPLE_WRITE });
        const transferTag = (await initiator.expect(OPCODE.readyToTransfer)).header.readUInt32BE(20);
        initiator.dataOut(tag, 0, HIGH, { transferTag, sn: 1, final: false });
      },
    ],
    [
      'data under a tag that was not given out',
      [],
      async (initiator) => {
        const tag = initiator.command(write10(0, 16), { expectedBytes: 8192, flags: SIMPLE_WRITE });
        const transferTag = (await initiator.expect(OPCODE.readyToTransfer)).header.readUInt32BE(20);
        initiator.dataOut(tag, 0, HIGH, { transferTag: transferTag + 1, final: false });
      },
    ],
    [
      'a sequence that ends early',
      [],
      async (initiator) => {
        const tag = initiator.command(write10(0, 16), { expectedBytes: 8192, flags: SIMPLE_WRITE });
        const transferTag = (await initiator.expect(OPCODE.readyToTransfer)).header.readUInt32BE(20);
        initiator.dataOut(tag, 0, HIGH, { transferTag });
      },
    ],
  ];
  for (const [name, keys, send] of breaches)
    it(`ends the connection where it is ${name}, and nothing is written`, () =>
      withDisk(async (disk, port) => {
        const initiator = await loggedIn(port, { keys });

        await send(initiator);

        await assertEnded(initiator, 0x04);
        assert.deepEqual(disk.begun, []);
        await assertAlive(await loggedIn(port, { isid: 2 }));
      }));
});

describe('Several commands', () => {
  it('are at work at once, and an ordered one waits for those before it', () =>
    withDisk(async (disk, port) => {
      const initiator = await loggedIn(port);
      const write = (lba: number, flags: number): number =>
        initiator.command(write10(lba, 8), { expectedBytes: 4096, flags, data: LOW });
      disk.hold();

      const tags = [write(0, SIMPLE_WRITE), write(8, SIMPLE_WRITE), write(16, ORDERED_WRITE), write(24, SIMPLE_WRITE)];
      await assertAlive(initiator);
      assert.deepEqual(disk.begun, [0, 4096], 'those before the ordered one, and no others');
      disk.release();

      const answered: number[] = [];
      for (const _ of tags) {
        const response = await initiator.expect(OPCODE.scsiResponse);
        assert.equal(statusOf(response), 0);
        answered.push(response.header.readUInt32BE(16));
      }
      assert.deepEqual(disk.begun, [0, 4096, 8192, 12_288]);
      assert.deepEqual(answered.slice(2), tags.slice(2));
      assert.deepEqual(answered.slice(0, 2).sort(), tags.slice(0, 2));
    }));

  it('begin in the order of their numbers, however they come; old and far numbers are passed over', () =>
    withDisk(async (disk, port) => {
      const initiator = await loggedIn(port);
      const first = initiator.cmdSn;
      for (const [cmdSn, lba] of [
        [first + 2, 16],
        [first + 1, 8],
        [first - 1, 40],
        [first + 5000, 48],
        [first, 0],
      ] as const) {
        initiator.cmdSn = cmdSn;
        initiator.command(write10(lba, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: LOW });
      }
      for (let count = 0; count < 3; count += 1) await initiator.expect(OPCODE.scsiResponse);
      initiator.cmdSn = first + 3;
      await assertAlive(initiator);
      assert.deepEqual(disk.begun, [0, 4096, 8192]);
    }));
});

describe('Task management', () => {
  const TMF = { abortTask: 1, abortTaskSet: 2, clearTaskSet: 4, unitReset: 5, warmReset: 6, coldReset: 7 } as const;

  /** @returns the response, and sends it as an immediate request */
  async function manage(initiator: OwnInitiator, work: number, words: Record<number, number> = {}): Promise<number> {
    initiator.request(OPCODE.taskManagement, { flags: 0x80 | work, immediate: true, words });
    return (await initiator.expect(OPCODE.taskManagementResponse)).header.readUInt8(2);
  }

  for (const [name, work] of Object.entries(TMF).slice(0, 5))
    it(`${name} ends a write that still waits for data, whose data are dropped when they come`, () =>
      withDisk(async (disk, port) => {
        const initiator = await loggedIn(port);
        const tag = initiator.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE });
        const transferTag = (await initiator.expect(OPCODE.readyToTransfer)).header.readUInt32BE(20);

        assert.equal(await manage(initiator, work, { 20: tag }), 0);
        initiator.dataOut(tag, 0, LOW, { transferTag });

        await assertAlive(initiator);
        assert.deepEqual(disk.begun, []);
        initiator.command([0]);
        const sense = (await initiator.expect(OPCODE.scsiResponse)).data;
        assert.equal(
          work >= TMF.unitReset ? sense.readUInt16BE(2 + 12) : sense.length,
          work >= TMF.unitReset ? 0x2903 : 0,
        );
        const again = initiator.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: HIGH });
        assert.equal((await initiator.expect(OPCODE.scsiResponse)).header.readUInt32BE(16), again);
        assert.ok(disk.content.subarray(0, 4096).equals(HIGH));
      }));

  it('answers an abort once the command no longer touches the disk, and the command never', () =>
    withDisk(async (disk, port) => {
      const initiator = await loggedIn(port);
      disk.hold();
      const tag = initiator.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: LOW });
      initiator.request(OPCODE.taskManagement, { flags: 0x80 | TMF.abortTask, immediate: true, words: { 20: tag } });
      await assertAlive(initiator);
      disk.release();

      assert.equal((await initiator.expect(OPCODE.taskManagementResponse)).header.readUInt8(2), 0);
      await assertAlive(initiator);
    }));

  it('reaches the commands of other sessions where it is for all of a unit, which learn of a reset', () =>
    withDisk(async (disk, port) => {
      const [one, other] = [await loggedIn(port, { isid: 1 }), await loggedIn(port, { isid: 2 })];
      other.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE });
      await other.expect(OPCODE.readyToTransfer);

      assert.equal(await manage(one, TMF.unitReset), 0);

      other.command([0]);
      const { data } = await other.expect(OPCODE.scsiResponse);
      assert.deepEqual([data.readUInt8(2 + 2), data.readUInt16BE(2 + 12)], [0x06, 0x2903]);
      assert.deepEqual(disk.begun, []);
    }));

  it('ends every session of the target by a cold reset', () =>
    withDisk(async (_disk, port) => {
      const [one, other] = [await loggedIn(port, { isid: 1 }), await loggedIn(port, { isid: 2 })];

      assert.equal(await manage(one, TMF.coldReset), 0);

      assert.deepEqual([await one.next(), await other.next()], [null, null]);
    }));

  it('says what is not there and what it cannot', () =>
    withDisk(async (_disk, port) => {
      const initiator = await loggedIn(port);
      assert.equal(await manage(initiator, TMF.abortTask, { 20: 0x1234 }), 1, 'no such task');
      assert.equal(await manage(initiator, TMF.unitReset, { 8: 0x00050000 }), 2, 'no such unit');
      assert.equal(await manage(initiator, 8), 4, 'no reassignment');
      assert.equal(await manage(initiator, 3), 5, 'no ACA');
      assert.equal(await manage(initiator, 99), 5);
      await assertAlive(initiator);
    }));
});

describe('A login anew', () => {
  it('of the same port waits for the last write of the older session', () =>
    withDisk(async (disk, port) => {
      const older = await loggedIn(port, { isid: 7 });
      disk.hold();
      older.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: LOW });
      await assertAlive(older);
      const newer = await OwnInitiator.connect(port);
      let isIn = false;
      const login = newer.login({ isid: 7 }).then((status) => {
        isIn = true;
        return status;
      });
      assert.equal(await older.next(), null);
      await assertAlive(await loggedIn(port, { isid: 8 }));
      assert.equal(isIn, false, 'the older write is still at work');
      disk.release();

      assert.equal(await login, LOGIN_STATUS.success);
      newer.command([0]);
      await newer.expect(OPCODE.scsiResponse);
      newer.command([0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0], { expectedBytes: 4096 });
      assert.ok((await newer.expect(OPCODE.dataIn)).data.equals(LOW));
    }));

  it('to a session by its handle takes the connection over, and there is no second connection', () =>
    withDisk(async (_disk, port) => {
      const older = await loggedIn(port, { isid: 7, cid: 3 });
      const choice = { isid: 7, tsih: older.tsih };

      assert.equal(
        await (await OwnInitiator.connect(port)).login({ ...choice, cid: 4 }),
        LOGIN_STATUS.tooManyConnections,
      );
      const stranger = await OwnInitiator.connect(port);
      assert.equal(await stranger.login({ ...choice, tsih: older.tsih + 1 }), LOGIN_STATUS.sessionDoesNotExist);
      await assertAlive(older);
      const newer = await OwnInitiator.connect(port);
      assert.equal(await newer.login({ ...choice, cid: 3 }), LOGIN_STATUS.success);

      assert.equal(await older.next(), null);
      await assertAlive(newer);
    }));

  it('of the same name and port to another target leaves the first alone', async () => {
    const server = await startIscsiServer({ host: '127.0.0.1', port: 0 });
    const names = [1, 2].map((number) => `iqn.2020-01.test.dozo:host-${number}`);
    const disks = names.map(() => new HeldDisk());
    try {
      names.forEach((name, index) =>
        server.addTarget({
          name,
          access: [{ initiatorName: OWN, chapUser: USER, chapSecret: SECRET }],
          disks: [{ disk: disks[index] as HeldDisk, seed: name }],
        }),
      );
      const [one, other] = [
        await loggedIn(server.port, { target: names[0] as string, isid: 7 }),
        await loggedIn(server.port, { target: names[1] as string, isid: 7 }),
      ];
      one.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: LOW });
      other.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: HIGH });
      for (const initiator of [one, other]) assert.equal(statusOf(await initiator.expect(OPCODE.scsiResponse)), 0);
      assert.deepEqual(
        disks.map(({ content }) => content.toString('utf8', 0, 4)),
        ['lowl', 'high'],
      );
    } finally {
      await server.close();
    }
  });
});

describe('Signs of life', () => {
  it('are given with the same data, and not where none is asked for', () =>
    withDisk(async (_disk, port) => {
      const initiator = await loggedIn(port);
      initiator.request(OPCODE.nopOut, { tag: NO_TAG, immediate: true });
      initiator.request(OPCODE.nopOut, { tag: 0x4321, data: Buffer.from('odd data') });
      const answer = await initiator.expect(OPCODE.nopIn);
      assert.deepEqual([answer.header.readUInt32BE(16), answer.data.toString()], [0x4321, 'odd data']);
      assert.equal(answer.header.readUInt32BE(20), NO_TAG);
    }));

  it('keep a session that gives them', async () => {
    const clock = new HandClock();
    await withTarget({ open: async () => new HeldDisk(), limits: { idleMs: 200 }, clock }, async ({ port }) => {
      const initiator = await loggedIn(port);
      for (let count = 0; count < 4; count += 1) {
        clock.ms += 201;
        const asked = await initiator.expect(OPCODE.nopIn);
        assert.equal(asked.header.readUInt32BE(16), NO_TAG);
        initiator.request(OPCODE.nopOut, {
          tag: NO_TAG,
          immediate: true,
          words: { 20: asked.header.readUInt32BE(20) },
        });
        // The answer is not answered: the next that comes is for the ping.
        await assertAlive(initiator);
      }
      initiator.close();
    });
  });
});

describe('A list of targets', () => {
  const OTHERS = Array.from({ length: 40 }, (_, index) => `iqn.2020-01.test.dozo:other-${index}`);

  async function withTargets(body: (port: number) => Promise<void>): Promise<void> {
    const server = await startIscsiServer({ host: '127.0.0.1', port: 0 });
    try {
      const add = (name: string, initiatorName: string): void =>
        void server.addTarget({
          name,
          access: [{ initiatorName, chapUser: USER, chapSecret: SECRET }],
          disks: [{ disk: new HeldDisk(), seed: name }],
        });
      for (const name of [TARGET, ...OTHERS]) add(name, OWN);
      add('iqn.2020-01.test.dozo:of-somebody-else', 'iqn.2020-01.test.dozo:somebody');
      await body(server.port);
    } finally {
      await server.close();
    }
  }

  /** The names in the answer, however many PDUs it takes. */
  async function list(initiator: OwnInitiator, value: string): Promise<string[]> {
    let text = '';
    initiator.request(OPCODE.text, { data: encodeTextKeys([['SendTargets', value]]) });
    for (;;) {
      const { header, data } = await initiator.expect(OPCODE.textResponse);
      text += data.toString();
      if ((header.readUInt8(1) & 0x80) !== 0) break;
      assert.equal(header.readUInt8(1) & 0x40, 0x40, 'more follows');
      initiator.request(OPCODE.text, { words: { 20: header.readUInt32BE(20) } });
    }
    for (const address of text.matchAll(/TargetAddress=([^\0]*)/g))
      assert.match(address[1] ?? '', /^127\.0\.0\.1:\d+,1$/);
    return [...text.matchAll(/TargetName=([^\0]*)/g)].map((match) => match[1] ?? '');
  }

  it('has those that the initiator may use, and is told in as many parts as it takes', () =>
    withTargets(async (port) => {
      for (const bytes of ['512', '65536']) {
        const initiator = await loggedIn(port, { target: null, keys: [['MaxRecvDataSegmentLength', bytes]] });
        assert.deepEqual(await list(initiator, 'All'), [TARGET, ...OTHERS]);
        assert.deepEqual(await list(initiator, OTHERS[3] ?? ''), [OTHERS[3]]);
        assert.deepEqual(await list(initiator, 'iqn.2020-01.test.dozo:of-somebody-else'), []);
        assert.deepEqual(await list(initiator, 'iqn.2020-01.test.dozo:nobody'), []);
        initiator.close();
      }
    }));

  it('has the session’s own target alone in a normal session', () =>
    withTargets(async (port) => {
      const initiator = await loggedIn(port);
      assert.deepEqual(await list(initiator, ''), [TARGET]);
      assert.deepEqual(await list(initiator, TARGET), [TARGET]);
      assert.deepEqual(await list(initiator, 'All'), []);
    }));

  it('may be asked for in parts, and a new question does not go on from an unfinished one', () =>
    withTargets(async (port) => {
      const initiator = await loggedIn(port, { target: null });
      initiator.request(OPCODE.text, { flags: 0x40, data: Buffer.from('SendTar') });
      const { header } = await initiator.expect(OPCODE.textResponse);
      initiator.request(OPCODE.text, { words: { 20: header.readUInt32BE(20) }, data: Buffer.from('gets=All\0') });
      assert.match((await initiator.expect(OPCODE.textResponse)).data.toString(), /TargetName=/);

      initiator.request(OPCODE.text, { flags: 0x40, data: Buffer.from('Send') });
      await initiator.expect(OPCODE.textResponse);
      assert.deepEqual(await list(initiator, OTHERS[0] ?? ''), [OTHERS[0]]);
    }));

  it('is all that a discovery session is for', () =>
    withTargets(async (port) => {
      const initiator = await loggedIn(port, { target: null });
      initiator.command([0]);
      assert.equal((await initiator.expect(OPCODE.reject)).header.readUInt8(2), 0x04);
      initiator.request(OPCODE.taskManagement, { flags: 0x85, immediate: true });
      assert.equal((await initiator.expect(OPCODE.reject)).header.readUInt8(2), 0x04);
      assert.ok((await list(initiator, 'All')).length > 1);
    }));
});

describe('Everything else', () => {
  it('is rejected, and the session goes on', () =>
    withDisk(async (disk, port) => {
      const initiator = await loggedIn(port);
      const known: number[] = [
        OPCODE.nopOut,
        OPCODE.scsiCommand,
        OPCODE.taskManagement,
        OPCODE.text,
        OPCODE.dataOut,
        OPCODE.logout,
      ];
      for (let opcode = 0; opcode < 0x40; opcode += 1) {
        if (known.includes(opcode)) continue;
        initiator.request(opcode, { immediate: true, data: Buffer.from('whatever') });
        const reject = await initiator.expect(OPCODE.reject);
        assert.equal(reject.header.readUInt8(2), 0x05, `opcode ${opcode.toString(16)}`);
        assert.equal(reject.data.readUInt8(0) & 0x3f, opcode);
      }
      await assertAlive(initiator);
      assert.deepEqual(disk.begun, []);
    }));

  it('that an initiator may wish for is negotiated down to what there is', () =>
    withDisk(async (_disk, port) => {
      const wishes: [key: string, wish: string, answer: string | undefined][] = [
        ['MaxConnections', '8', '1'],
        ['ErrorRecoveryLevel', '2', '0'],
        ['InitialR2T', 'No', 'No'],
        ['ImmediateData', 'Yes', 'Yes'],
        ['MaxBurstLength', '16776192', '1048576'],
        ['FirstBurstLength', '16776192', '262144'],
        ['MaxOutstandingR2T', '100', '8'],
        ['DefaultTime2Wait', '2', '2'],
        ['DefaultTime2Retain', '20', '0'],
        ['DataPDUInOrder', 'No', 'Yes'],
        ['DataSequenceInOrder', 'No', 'Yes'],
        ['IFMarker', 'Yes', 'No'],
        ['OFMarkInt', '2048~8192', 'Irrelevant'],
        ['HeaderDigest', 'SHA1', 'Reject'],
        ['DataDigest', 'None,CRC32C', 'None'],
        ['X-com.example.wish', 'Yes', 'NotUnderstood'],
      ];
      const initiator = await loggedIn(port, { keys: wishes.map(([key, wish]) => [key, wish]) });
      for (const [key, , answer] of wishes) assert.equal(initiator.agreed.get(key), answer, key);
    }));
});

describe('A login', () => {
  for (const bytes of ['511', '16777216', 'many'])
    it(`that declares segments of ${bytes} bytes is refused`, () =>
      withDisk(async (_disk, port) => {
        const initiator = await OwnInitiator.connect(port);
        const keys: [string, string][] = [['MaxRecvDataSegmentLength', bytes]];
        assert.equal(await initiator.login({ keys }), LOGIN_STATUS.initiatorError);
        assert.equal(await initiator.next(), null);
      }));
});

describe('A logout', () => {
  it('in the middle of a write is answered, and the write is not carried out', () =>
    withDisk(async (disk, port) => {
      const initiator = await loggedIn(port);
      const tag = initiator.command(write10(0, 16), { expectedBytes: 8192, flags: SIMPLE_WRITE, data: LOW });
      const transferTag = (await initiator.expect(OPCODE.readyToTransfer)).header.readUInt32BE(20);

      initiator.request(OPCODE.logout);
      initiator.dataOut(tag, 4096, HIGH, { transferTag });

      assert.equal((await initiator.expect(OPCODE.logoutResponse)).header.readUInt8(2), 0);
      assert.equal(await initiator.next(), null);
      assert.deepEqual(disk.begun, []);
    }));

  it('waits for a write that is at work', () =>
    withDisk(async (disk, port) => {
      const initiator = await loggedIn(port);
      disk.hold();
      initiator.command(write10(0, 8), { expectedBytes: 4096, flags: SIMPLE_WRITE, data: LOW });
      await assertAlive(initiator);
      initiator.request(OPCODE.logout);
      disk.release();

      assert.equal(statusOf(await initiator.expect(OPCODE.scsiResponse)), 0);
      await initiator.expect(OPCODE.logoutResponse);
      assert.ok(disk.content.subarray(0, 4096).equals(LOW));
    }));

  it('for the recovery of a connection is refused, as there is none', () =>
    withDisk(async (_disk, port) => {
      const initiator = await loggedIn(port);
      initiator.request(OPCODE.logout, { flags: 0x82 });
      assert.equal((await initiator.expect(OPCODE.logoutResponse)).header.readUInt8(2), 2);
      await assertAlive(initiator);
    }));
});

describe('Secrets', () => {
  for (const secret of ['with blanks, and "quotes"', 'ünïcödé-日本語-secret', '0x0123456789abcdef', 'a'.repeat(200)])
    it(`may be ${secret.slice(0, 30)}`, async () => {
      const server = await startIscsiServer({ host: '127.0.0.1', port: 0 });
      try {
        const access = [{ initiatorName: INITIATORS.at(-1) ?? '', chapUser: 'ü ser', chapSecret: secret }];
        server.addTarget({ name: TARGET, access, disks: [{ disk: new HeldDisk(), seed: 'secret' }] });
        const wrong = await OwnInitiator.connect(server.port);
        assert.equal(await wrong.login({ user: 'ü ser', secret: `${secret} ` }), LOGIN_STATUS.authenticationFailed);
        await assertAlive(await loggedIn(server.port, { user: 'ü ser', secret }));
      } finally {
        await server.close();
      }
    });
});
