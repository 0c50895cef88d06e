import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';

/** What a logical unit says of itself. */
export interface UnitFacts {
  vendor: string;
  model: string;
  revision: string;
  /** 16 or 32 hexadecimal digits. */
  naa: string;
  serial: string;
  sizeBytes: number;
}

export interface IscsiLogin {
  address: string;
  port: number;
  target: string;
  initiator: string;
  chap: { user: string; secret: string } | null;
  /** What the target has to prove itself with. */
  mutual: { user: string; secret: string } | null;
}

/** The connection was lost while a command was at work. */
export class SessionLost extends Error {}

/** The target answered a command with an error. */
export class CommandFailed extends Error {}

interface Waiting {
  resolve(data: Buffer): void;
  reject(error: Error): void;
}

/** A session of native/lab-iscsi.c, which logs in by libiscsi. */
export class IscsiSession {
  readonly facts: UnitFacts;
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: Map<number, Waiting>;
  readonly ended: Promise<void>;
  isOver = false;
  #lastTag = 0;

  private constructor(
    process: ChildProcessByStdio<Writable, Readable, null>,
    waiting: Map<number, Waiting>,
    ended: Promise<void>,
    facts: UnitFacts,
  ) {
    this.#process = process;
    this.#waiting = waiting;
    this.facts = facts;
    this.ended = ended.then(() => {
      this.isOver = true;
    });
  }

  /** @throws Error with libiscsi's words where the login fails */
  static async open(program: string, login: IscsiLogin): Promise<IscsiSession> {
    const { address, port, target, initiator, chap, mutual } = login;
    const portal = `${address.includes(':') ? `[${address}]` : address}:${port}`;
    const child = spawn(program, [portal, target, initiator], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        ...(chap === null ? {} : { CHAP_USER: chap.user, CHAP_SECRET: chap.secret }),
        ...(mutual === null ? {} : { MUTUAL_USER: mutual.user, MUTUAL_SECRET: mutual.secret }),
      },
    });
    child.stdin.on('error', () => undefined);
    const waiting = new Map<number, Waiting>();
    const ended = new Promise<void>((resolve) => {
      child.once('error', () => resolve());
      child.once('close', () => resolve());
    }).then(() => {
      for (const { reject } of waiting.values()) reject(new SessionLost('the session is lost'));
      waiting.clear();
    });
    const first = new Promise<Buffer>((resolve, reject) => waiting.set(0, { resolve, reject }));
    readAnswers(child.stdout, waiting);
    const facts = JSON.parse((await first).toString('utf8')) as UnitFacts;
    return new IscsiSession(child, waiting, ended, facts);
  }

  read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return this.#request('R', offsetBytes, lengthBytes, null);
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    await this.#request('W', offsetBytes, data.length, data);
  }

  /** By WRITE SAME. */
  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#request('Z', offsetBytes, lengthBytes, null);
  }

  async synchronize(): Promise<void> {
    await this.#request('S', 0, 0, null);
  }

  /** Logs out in order. */
  async close(): Promise<void> {
    this.#process.stdin.end();
    await this.ended;
  }

  /** Loses the connection without a word. */
  async cut(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.ended;
  }

  #request(kind: string, offsetBytes: number, lengthBytes: number, data: Buffer | null): Promise<Buffer> {
    if (this.isOver) return Promise.reject(new SessionLost('the session is lost'));
    const tag = (this.#lastTag = (this.#lastTag % 0x7fffffff) + 1);
    const header = Buffer.alloc(24);
    header.write(kind, 'latin1');
    header.writeUInt32LE(tag, 4);
    header.writeBigUInt64LE(BigInt(offsetBytes), 8);
    header.writeUInt32LE(lengthBytes, 16);
    return new Promise((resolve, reject) => {
      this.#waiting.set(tag, { resolve, reject });
      this.#process.stdin.write(header);
      if (data !== null) this.#process.stdin.write(data);
    });
  }
}

function readAnswers(stream: Readable, waiting: Map<number, Waiting>): void {
  let chunks: Buffer[] = [];
  let size = 0;
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
    for (;;) {
      if (size < 12) return;
      let all = chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks);
      const length = all.readUInt32LE(8);
      if (size < 12 + length) {
        chunks = [all];
        return;
      }
      const [tag, failed, body] = [all.readUInt32LE(0), all.readUInt32LE(4), all.subarray(12, 12 + length)];
      all = all.subarray(12 + length);
      chunks = [all];
      size = all.length;
      const one = waiting.get(tag);
      waiting.delete(tag);
      if (failed === 0) one?.resolve(Buffer.from(body));
      else one?.reject(new CommandFailed(body.toString('utf8').trim()));
    }
  });
}
