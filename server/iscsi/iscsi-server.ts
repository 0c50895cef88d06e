import { randomBytes } from 'node:crypto';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { AppError } from '../errors/index.ts';
import { KIB, MIB, silentLogger, systemClock, type Clock, type Logger } from '../runtime/index.ts';
import type { BackingDisk } from './backing-disk.ts';
import { identityOf, type UnitIdentity } from './device-pages.ts';
import { LogicalUnit } from './logical-unit.ts';
import { LOGIN_STATUS, LoginNegotiation, type LoginResult, type LoginStep, type TargetAccess } from './login.ts';
import { OWN_DATA_SEGMENT_BYTES_MAX } from './negotiation.ts';
import { framePdu, OPCODE, PduReader, ProtocolError, type Digests, type Pdu } from './pdu.ts';
import type { ScsiTarget, SessionEnd } from './scsi-target.ts';
import { Session } from './session.ts';

const LOGIN_SEGMENT_BYTES_MAX = 8192;
/** Bytes that wait for a peer that does not read; beyond it nothing more is read from it. */
const UNSENT_BYTES_MAX = 8 * MIB;
const SECRET_CHARACTERS_MIN = 12;
/** Smaller chunks of the socket are left to the collector. */
const FREED_BYTES_MIN = 16 * KIB;
/** Up to here a stream takes less time for one copy of what goes out together than for its parts. */
const JOINED_BYTES_MAX = 16 * KIB;

export interface IscsiLimits {
  /** Connections that have not logged in yet, of all peers. */
  pendingLoginsMax: number;
  sessionsMax: number;
  loginTimeoutMs: number;
  /** After that long without a sign of life the peer is asked for one; after twice as long it is gone. */
  idleMs: number;
}

const DEFAULT_LIMITS: IscsiLimits = {
  pendingLoginsMax: 32,
  sessionsMax: 64,
  loginTimeoutMs: 15_000,
  idleMs: 30_000,
};

export interface IscsiServerOptions {
  /** Address to listen on. */
  host: string;
  /** 0: any free one. */
  port: number;
  limits?: Partial<IscsiLimits>;
  logger?: Logger;
  clock?: Clock;
}

export interface TargetSpecification {
  /** `iqn.…`, lower case. */
  name: string;
  /** At least one: there is no open target. */
  access: readonly TargetAccess[];
  /** Logical units by number. `seed` gives the device names, see `identityOf`. */
  disks: readonly { disk: BackingDisk; seed: string }[];
  onSessionEnd?(end: SessionEnd): void;
  /** An error of a disk. The initiator was told what SCSI has words for. */
  onDiskError?(error: Error): void;
}

export interface ServedTarget {
  readonly name: string;
  readonly identities: readonly UnitIdentity[];
  /** Sessions that are logged in now. */
  sessions(): { initiatorName: string }[];
  /** Ends its sessions, waits until no command touches a disk. The disks stay open. Idempotent. */
  remove(): Promise<void>;
}

/** An iSCSI portal: RFC 7143 over TCP, for any number of targets. */
export interface IscsiServer {
  readonly port: number;
  /** @throws INPUT_INVALID for a name in use, no access, a weak or reflectable secret, or a size that is not sectors */
  addTarget(specification: TargetSpecification): ServedTarget;
  close(): Promise<void>;
}

export async function startIscsiServer(options: IscsiServerOptions): Promise<IscsiServer> {
  const portal = new Portal(options);
  await portal.listen(options);
  return portal;
}

class Portal implements IscsiServer {
  readonly limits: IscsiLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly targets = new Map<string, ScsiTarget>();
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  readonly #sessions = new Map<Session, Connection>();
  #lastTsih = 0;

  constructor(options: IscsiServerOptions) {
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.clock = options.clock ?? systemClock;
    this.logger = options.logger ?? silentLogger;
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  listen({ host, port }: IscsiServerOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) => this.logger.warn({ err: error }, 'iSCSI portal'));
        resolve();
      });
    });
  }

  addTarget(specification: TargetSpecification): ServedTarget {
    const name = specification.name.toLowerCase();
    this.#assertValid(specification, name);
    const units = specification.disks.map(
      ({ disk, seed }) =>
        new LogicalUnit(disk, identityOf(seed), (error) => {
          this.logger.warn({ err: error, target: name }, 'a served disk failed');
          specification.onDiskError?.(error);
        }),
    );
    const access = specification.access.map((one) => ({ ...one, initiatorName: one.initiatorName.toLowerCase() }));
    const target: ScsiTarget = {
      name,
      access,
      units,
      onSessionEnd: (end) => specification.onSessionEnd?.(end),
    };
    this.targets.set(name, target);
    return {
      name,
      identities: units.map((unit) => unit.identity),
      sessions: () => [...this.sessionsOf(target)].map(({ login }) => ({ initiatorName: login.initiatorName })),
      remove: async () => {
        if (this.targets.get(name) === target) this.targets.delete(name);
        await Promise.all([...this.sessionsOf(target)].map((session) => this.endSession(session)));
      },
    };
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await Promise.all([...this.#sessions.keys()].map((session) => this.endSession(session)));
    for (const connection of this.#connections) connection.destroy();
    await closed;
  }

  *sessionsOf(target: ScsiTarget | null): Generator<Session> {
    for (const session of this.#sessions.keys()) if (session.target === target) yield session;
  }

  visibleTargets(initiatorName: string): string[] {
    return [...this.targets.values()]
      .filter(({ access }) => access.some((one) => one.initiatorName === initiatorName))
      .map(({ name }) => name);
  }

  /** Makes the session of a login that succeeded. A number: the status to refuse with. */
  async admit(connection: Connection, login: LoginResult, request: Buffer, statSn: number): Promise<Session | number> {
    const isid = request.toString('hex', 8, 14);
    const tsih = request.readUInt16BE(14);
    const target = login.targetName === null ? null : (this.targets.get(login.targetName) ?? null);
    if (login.targetName !== null && target === null) return LOGIN_STATUS.targetNotFound;
    const nexus = `${login.initiatorName},i,0x${isid}`;
    const older = [...this.sessionsOf(target)].filter((session) => target !== null && session.nexus === nexus);
    if (tsih !== 0) {
      const same = older.find((session) => session.tsih === tsih);
      if (same === undefined) return LOGIN_STATUS.sessionDoesNotExist;
      // The same connection id takes the connection over; another would be a second one.
      if (this.#sessions.get(same)?.id !== request.readUInt16BE(20)) return LOGIN_STATUS.tooManyConnections;
    }
    // What the older session wrote has to be over before the new one begins.
    await Promise.all(older.map((session) => this.endSession(session)));
    if (this.#sessions.size >= this.limits.sessionsMax) return LOGIN_STATUS.outOfResources;
    if (connection.isGone) return LOGIN_STATUS.targetError;
    const session = new Session(connection.link(login.initiatorName), {
      login,
      target,
      nexus,
      tsih: tsih === 0 ? this.#newTsih() : tsih,
      statSn,
      expCmdSn: request.readUInt32BE(24),
    });
    this.#sessions.set(session, connection);
    return session;
  }

  async endSession(session: Session): Promise<void> {
    const connection = this.#sessions.get(session);
    connection?.destroy();
    await session.close();
    this.#sessions.delete(session);
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }

  #accept(socket: Socket): void {
    const pending = [...this.#connections].filter((connection) => !connection.isLoggedIn).length;
    if (pending >= this.limits.pendingLoginsMax) {
      this.logger.warn({ peer: socket.remoteAddress }, 'too many logins under way; one refused');
      socket.destroy();
      return;
    }
    this.#connections.add(new Connection(socket, this));
  }

  #newTsih(): number {
    const used = new Set([...this.#sessions.keys()].map(({ tsih }) => tsih));
    do this.#lastTsih = (this.#lastTsih % 0xffff) + 1;
    while (used.has(this.#lastTsih));
    return this.#lastTsih;
  }

  #assertValid({ access, disks }: TargetSpecification, name: string): void {
    const refuse = (message: string): never => {
      throw new AppError('INPUT_INVALID', `Cannot serve ${name}: ${message}.`);
    };
    if (!/^(iqn\.\d{4}-\d{2}\.|eui\.|naa\.)[a-z0-9.:-]{1,200}$/.test(name)) refuse('not an iSCSI name');
    if (this.targets.has(name)) refuse('the name is in use');
    if (access.length === 0) refuse('nobody would have access');
    for (const { initiatorName, chapUser, chapSecret, mutual } of access) {
      if (initiatorName === '' || chapUser === '') refuse('an initiator or user without a name');
      for (const secret of [chapSecret, mutual?.secret])
        if (secret !== undefined && secret.length < SECRET_CHARACTERS_MIN)
          refuse(`a secret shorter than ${SECRET_CHARACTERS_MIN} characters`);
      if (mutual?.secret === chapSecret) refuse('the same secret for both directions');
    }
    if (disks.length === 0 || disks.length > 256) refuse('1 to 256 disks are needed');
    for (const { disk } of disks)
      if (disk.sizeBytes <= 0 || disk.sizeBytes % 512 !== 0) refuse('a disk that is not whole sectors');
  }
}

/** One TCP connection: login, then whatever its session says. */
class Connection {
  id = 0;
  readonly #socket: Socket;
  readonly #portal: Portal;
  readonly #reader: PduReader;
  readonly #login: LoginNegotiation;
  readonly #loginTimer: NodeJS.Timeout;
  #session: Session | null = null;
  #digests: Digests = { header: false, data: false };
  #statSn = randomBytes(4).readUInt32BE(0);
  #admitting = false;
  #isOver = false;
  /** Of this turn of the event loop. */
  #unsent: Buffer[] = [];
  #unsentBytes = 0;
  #onSent: (() => void)[] = [];
  #heardMs: number;
  #pinged = false;
  #idleTimer: NodeJS.Timeout | null = null;

  constructor(socket: Socket, portal: Portal) {
    this.#socket = socket;
    this.#portal = portal;
    this.#heardMs = portal.clock.monotonicMs();
    this.#login = new LoginNegotiation({
      grants: (targetName, initiatorName) => {
        const target = portal.targets.get(targetName);
        return target === undefined ? null : target.access.filter((one) => one.initiatorName === initiatorName);
      },
      allGrants: (initiatorName) =>
        [...portal.targets.values()].flatMap(({ access }) =>
          access.filter((one) => one.initiatorName === initiatorName),
        ),
    });
    this.#reader = new PduReader(LOGIN_SEGMENT_BYTES_MAX, (pdu) => this.#take(pdu));
    this.#loginTimer = setTimeout(() => this.destroy(), portal.limits.loginTimeoutMs);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('drain', () => socket.resume());
    socket.on('error', () => this.destroy());
    socket.on('close', () => this.#onClose());
    socket.on('end', () => socket.end());
  }

  get isLoggedIn(): boolean {
    return this.#session !== null;
  }

  get isGone(): boolean {
    return this.#isOver || this.#socket.destroyed;
  }

  destroy(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  link(initiatorName: string): ConstructorParameters<typeof Session>[0] {
    const { localAddress = '', localPort = 0 } = this.#socket;
    const ip = localAddress.replace(/^::ffff:/, '');
    return {
      send: (header, data, sent) => this.#send(header, data, sent),
      end: () => {
        this.#isOver = true;
        this.#flush();
        this.#socket.end();
        // A peer that does not close its side has had its time.
        setTimeout(() => this.#socket.destroy(), this.#portal.limits.loginTimeoutMs).unref();
      },
      address: `${ip.includes(':') ? `[${ip}]` : ip}:${localPort}`,
      visibleTargets: () => this.#portal.visibleTargets(initiatorName),
      siblings: () => this.#portal.sessionsOf(this.#session?.target ?? null),
    };
  }

  #receive(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#heardMs = this.#portal.clock.monotonicMs();
    this.#pinged = false;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#fail(error);
    }
    // Nobody looks at it any more. Given back at once, large chunks neither pile up nor call the collector.
    const isOwn = chunk.length === chunk.buffer.byteLength && chunk.length >= FREED_BYTES_MIN;
    if (isOwn && this.#reader.reusesData) (chunk.buffer as ArrayBuffer).transfer(0);
    if (this.#socket.writableLength + this.#unsentBytes > UNSENT_BYTES_MAX) {
      this.#flush();
      this.#socket.pause();
    }
  }

  #take(pdu: Pdu): void {
    if (this.#isOver) return;
    if (this.#session !== null) this.#session.take(pdu);
    else if (pdu.opcode !== OPCODE.login || this.#admitting)
      throw new ProtocolError('only a login, one step at a time, is taken now');
    else this.#takeLogin(pdu);
  }

  #takeLogin(pdu: Pdu): void {
    const step = this.#login.take(pdu);
    this.id = pdu.header.readUInt16BE(20);
    if (step.result === null) {
      this.#answerLogin(pdu, step, 0);
      return;
    }
    this.#admitting = true;
    this.#portal.admit(this, step.result, pdu.header, (this.#statSn + 1) >>> 0).then(
      (session) => this.#enter(pdu, step, session),
      (error: unknown) => this.#fail(error),
    );
  }

  #enter(pdu: Pdu, step: LoginStep, session: Session | number): void {
    if (typeof session === 'number') {
      this.#answerLogin(pdu, { ...step, status: session, text: Buffer.alloc(0) }, 0);
      return;
    }
    if (this.isGone) {
      void this.#portal.endSession(session);
      return;
    }
    clearTimeout(this.#loginTimer);
    this.#answerLogin(pdu, step, session.tsih);
    const { headerDigest, dataDigest } = session.login.parameters;
    this.#digests = { header: headerDigest, data: dataDigest };
    this.#reader.digests = this.#digests;
    this.#reader.dataBytesMax = OWN_DATA_SEGMENT_BYTES_MAX;
    // A session copies what it keeps.
    this.#reader.reusesData = true;
    this.#session = session;
    this.#idleTimer = setInterval(() => this.#watch(session), this.#portal.limits.idleMs / 2);
    this.#portal.logger.info(
      { peer: this.#socket.remoteAddress, initiator: session.login.initiatorName, target: session.target?.name },
      'initiator logged in',
    );
  }

  #answerLogin(pdu: Pdu, step: LoginStep, tsih: number): void {
    const header = Buffer.alloc(48);
    header[0] = OPCODE.loginResponse;
    header[1] = step.status === LOGIN_STATUS.success ? step.flags : 0;
    pdu.header.copy(header, 8, 8, 14);
    header.writeUInt16BE(tsih, 14);
    pdu.header.copy(header, 16, 16, 20);
    header.writeUInt32BE(this.#statSn, 24);
    this.#statSn = (this.#statSn + 1) >>> 0;
    const cmdSn = pdu.header.readUInt32BE(24);
    header.writeUInt32BE(cmdSn, 28);
    header.writeUInt32BE(cmdSn, 32);
    header.writeUInt16BE(step.status, 36);
    this.#send(header, step.text.length === 0 ? null : step.text);
    if (step.status === LOGIN_STATUS.success) return;
    this.#portal.logger.warn({ peer: this.#socket.remoteAddress, status: step.status }, 'iSCSI login refused');
    this.#isOver = true;
    this.#flush();
    this.#socket.end();
  }

  /** Everything sent in one turn of the event loop goes out together. */
  #send(header: Buffer, data: Buffer | null, sent?: () => void): void {
    if (this.#socket.destroyed) {
      sent?.();
      return;
    }
    if (this.#unsent.length === 0) queueMicrotask(() => this.#flush());
    framePdu(header, data, this.#digests, this.#unsent);
    this.#unsentBytes += header.length + (data?.length ?? 0);
    if (sent !== undefined) this.#onSent.push(sent);
  }

  /** To be called before the socket is ended. */
  #flush(): void {
    const [parts, bytes, onSent] = [this.#unsent, this.#unsentBytes, this.#onSent];
    if (parts.length === 0) return;
    this.#unsent = [];
    this.#unsentBytes = 0;
    this.#onSent = [];
    const done = (): void => {
      for (const sent of onSent) sent();
    };
    if (bytes <= JOINED_BYTES_MAX) {
      this.#socket.write(Buffer.concat(parts), done);
      return;
    }
    const last = parts.length - 1;
    this.#socket.cork();
    parts.forEach((part, index) => this.#socket.write(part, index === last ? done : undefined));
    this.#socket.uncork();
  }

  #watch(session: Session): void {
    const silentMs = this.#portal.clock.monotonicMs() - this.#heardMs;
    if (silentMs > 2 * this.#portal.limits.idleMs) this.destroy();
    else if (silentMs > this.#portal.limits.idleMs && !this.#pinged) {
      this.#pinged = true;
      session.ping();
    }
  }

  /** Recovery level 0: what is wrong on a connection ends it. */
  #fail(error: unknown): void {
    const peer = this.#socket.remoteAddress;
    if (error instanceof ProtocolError) {
      this.#portal.logger.warn({ peer, reason: error.message }, 'iSCSI peer broke the protocol');
      if (error.header !== null) this.#session?.reject(error.rejectReason, error.header);
    } else this.#portal.logger.error({ peer, err: error }, 'iSCSI connection failed');
    this.#isOver = true;
    this.#flush();
    this.#socket.destroySoon();
  }

  #onClose(): void {
    clearTimeout(this.#loginTimer);
    if (this.#idleTimer !== null) clearInterval(this.#idleTimer);
    this.#isOver = true;
    this.#portal.forget(this);
    if (this.#session !== null) void this.#portal.endSession(this.#session);
  }
}
