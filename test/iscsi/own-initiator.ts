import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { answerChallenge } from '../../server/iscsi/chap.ts';
import { framePdu, NO_TAG, OPCODE, PduReader, type Digests, type Pdu } from '../../server/iscsi/pdu.ts';
import { encodeTextKeys, parseBinary, parseTextKeys } from '../../server/iscsi/text-keys.ts';
import { SECRET, TARGET, USER } from './scene.ts';

const NO_DIGESTS: Digests = { header: false, data: false };

export interface LoginChoice {
  initiatorName?: string;
  user?: string;
  secret?: string;
  /** Further keys of the operational stage. */
  keys?: [string, string][];
  isid?: number;
  /** Not 0: of the session to take over. */
  tsih?: number;
  /** Of the connection. */
  cid?: number;
  /** Null: a discovery session. */
  target?: string | null;
}

/** What goes into a header besides its opcode, tag and command number. */
interface PduParts {
  flags?: number;
  tag?: number;
  data?: Buffer | null;
  immediate?: boolean;
  /** Numbers of 4 bytes by their offset. */
  words?: Record<number, number>;
}

/** An initiator that does what the tests tell it, right or wrong. */
export class OwnInitiator {
  readonly socket: Socket;
  readonly #arrived: Pdu[] = [];
  readonly #reader = new PduReader(2 ** 24, (pdu) => {
    this.#arrived.push(pdu);
    this.#wake();
  });
  #wake: () => void = () => {};
  isClosed = false;
  digests = NO_DIGESTS;
  cmdSn = 1;
  /** Of the session, once it is logged in. */
  tsih = 0;
  /** A bit of the next PDU arrives wrong. */
  spoilNext: 'header' | 'data' | null = null;
  /** What the target said to the keys of the operational stage. */
  agreed = new Map<string, string>();
  #tag = 1;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#reader.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.isClosed = true;
      this.#wake();
    });
  }

  static async connect(port: number): Promise<OwnInitiator> {
    const socket = connect(port, '127.0.0.1');
    const initiator = new OwnInitiator(socket);
    await once(socket, 'connect');
    return initiator;
  }

  send(header: Buffer, data: Buffer | null = null): void {
    const parts = framePdu(header, data, this.digests);
    // After the digests were made; the data before their padding and digest.
    const spoiled = this.spoilNext === 'header' ? header : this.spoilNext === 'data' ? data : null;
    if (spoiled !== null) spoiled[spoiled.length - 1] = spoiled.readUInt8(spoiled.length - 1) ^ 1;
    this.spoilNext = null;
    for (const part of parts) this.socket.write(part);
  }

  /** The next PDU; null once the target has closed the connection. */
  async next(): Promise<Pdu | null> {
    for (;;) {
      const pdu = this.#arrived.shift();
      if (pdu !== undefined) return pdu;
      if (this.isClosed) return null;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The status of the last login response. */
  async login(choice: LoginChoice = {}): Promise<number> {
    const { initiatorName = 'iqn.2020-01.test.dozo:own', user = USER, secret = SECRET, keys = [] } = choice;
    const { target = TARGET } = choice;
    const first = await this.#loginStep(choice, 0, [
      ['InitiatorName', initiatorName],
      target === null ? ['SessionType', 'Discovery'] : ['TargetName', target],
      ['AuthMethod', 'CHAP,None'],
    ]);
    if (first.status !== 0) return first.status;
    const { keys: offer } = await this.#loginStep(choice, 0, [['CHAP_A', '5']]);
    const proof = answerChallenge(
      {
        algorithm: '5',
        id: Number(offer.get('CHAP_I')),
        challenge: parseBinary(offer.get('CHAP_C') ?? '') ?? Buffer.alloc(0),
      },
      secret,
    );
    const third = await this.#loginStep(choice, 0x81, [
      ['CHAP_N', user],
      ['CHAP_R', `0x${proof.toString('hex')}`],
    ]);
    if (third.status !== 0) return third.status;
    const last = await this.#loginStep(choice, 0x87, keys);
    this.agreed = last.keys;
    this.tsih = last.tsih;
    const isOn = (key: string): boolean => last.keys.get(key) === 'CRC32C';
    this.digests = { header: isOn('HeaderDigest'), data: isOn('DataDigest') };
    this.#reader.digests = this.digests;
    return last.status;
  }

  async #loginStep(
    { isid = 1, tsih = 0, cid = 0 }: LoginChoice,
    flags: number,
    keys: [string, string][],
  ): Promise<{ status: number; tsih: number; keys: Map<string, string> }> {
    const header = Buffer.alloc(48);
    header[0] = 0x40 | OPCODE.login;
    header[1] = flags;
    header.writeUInt32BE(isid, 8);
    header.writeUInt16BE(tsih, 14);
    header.writeUInt16BE(cid, 20);
    header.writeUInt32BE(this.cmdSn, 24);
    this.send(header, encodeTextKeys(keys));
    const pdu = await this.next();
    if (pdu === null) return { status: -1, tsih: 0, keys: new Map() };
    const answers = parseTextKeys(pdu.data);
    return { status: pdu.header.readUInt16BE(36), tsih: pdu.header.readUInt16BE(14), keys: answers };
  }

  /** The next PDU, which has to be of that kind. */
  async expect(opcode: number): Promise<Pdu> {
    const pdu = await this.next();
    assert.equal(pdu?.opcode, opcode);
    return pdu;
  }

  /** Sends any request; its number counts unless it is immediate. */
  request(opcode: number, parts: PduParts = {}): void {
    const { flags = 0x80, tag = (this.#tag += 1), data = null, immediate = false, words = {} } = parts;
    const header = Buffer.alloc(48);
    header[0] = opcode | (immediate ? 0x40 : 0);
    header[1] = flags;
    header.writeUInt32BE(tag, 16);
    header.writeUInt32BE(NO_TAG, 20);
    header.writeUInt32BE(this.cmdSn, 24);
    if (!immediate && opcode !== OPCODE.dataOut) this.cmdSn += 1;
    for (const [offset, word] of Object.entries(words)) header.writeUInt32BE(word, Number(offset));
    this.send(header, data);
  }

  /** Data of a command: asked for under `transferTag`, or unsolicited. */
  dataOut(
    tag: number,
    offset: number,
    data: Buffer,
    more: { transferTag?: number; sn?: number; final?: boolean } = {},
  ) {
    const { transferTag = NO_TAG, sn = 0, final = true } = more;
    const words = { 20: transferTag, 24: 0, 36: sn, 40: offset };
    this.request(OPCODE.dataOut, { tag, flags: final ? 0x80 : 0, data, words });
  }

  /** Sends a command that reads or moves nothing, and gives its tag. */
  command(cdb: number[], options: { expectedBytes?: number; data?: Buffer; flags?: number } = {}): number {
    const { expectedBytes = 0, data, flags = 0xc1 } = options;
    const header = Buffer.alloc(48);
    header[0] = OPCODE.scsiCommand;
    header[1] = flags;
    this.#tag += 1;
    header.writeUInt32BE(this.#tag, 16);
    header.writeUInt32BE(expectedBytes, 20);
    header.writeUInt32BE(this.cmdSn, 24);
    this.cmdSn += 1;
    Buffer.from(cdb).copy(header, 32);
    this.send(header, data ?? null);
    return this.#tag;
  }

  ping(): void {
    const header = Buffer.alloc(48);
    header[0] = 0x40 | OPCODE.nopOut;
    header[1] = 0x80;
    header.writeUInt32BE(0x7777, 16);
    header.writeUInt32BE(NO_TAG, 20);
    header.writeUInt32BE(this.cmdSn, 24);
    this.send(header);
  }

  close(): void {
    this.socket.destroy();
  }
}
