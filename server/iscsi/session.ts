import { MIB } from '../runtime/index.ts';
import { BufferPool } from './buffer-pool.ts';
import { ByteBudget } from './byte-budget.ts';
import type { LogicalUnit } from './logical-unit.ts';
import type { LoginResult } from './login.ts';
import { NO_TAG, OPCODE, ProtocolError, REJECT, type Pdu } from './pdu.ts';
import type { ScsiReply } from './scsi-request.ts';
import { executeScsi, unitAt, type ScsiTarget } from './scsi-target.ts';
import { STATUS } from './sense.ts';
import { encodeTextKeys, parseTextKeys } from './text-keys.ts';

/** Commands that an initiator may have on the way to one session. */
const COMMAND_WINDOW = 64;
/** Immediate commands do not count in the window; more of them than this are sent back. */
const TASKS_MAX = 2 * COMMAND_WINDOW;
/** Data of commands at work, in either direction, of one session. */
const SESSION_BYTES_MAX = 24 * MIB;
const TEXT_BYTES_MAX = 8192;

const ATTRIBUTE_ORDERED = 2;
const TASK_MANAGEMENT = { complete: 0, noTask: 1, noUnit: 2, noReassignment: 4, notSupported: 5 } as const;

/** What a session needs of its connection and server. */
export interface SessionLink {
  /** @param sent called once the bytes have left this process, or never will */
  send(header: Buffer, data: Buffer | null, sent?: () => void): void;
  /** Ends the connection once everything sent has gone out. */
  end(): void;
  /** Address for SendTargets, as the initiator reached us. */
  readonly address: string;
  /** Targets that the initiator may see. */
  visibleTargets(): string[];
  /** All sessions of the target, this one included. */
  siblings(): Iterable<Session>;
}

interface Task {
  tag: number;
  unit: LogicalUnit | undefined;
  lunField: Buffer;
  cdb: Buffer;
  reads: boolean;
  writes: boolean;
  /** Commands that must be over before this one starts. */
  waitsFor: Promise<unknown> | null;
  /** Expected data transfer length: what the initiator is ready to send or take. */
  expectedBytes: number;
  /** Data that the command itself asks for from the initiator. */
  wantedBytes: number;
  /** Data to be received: the smaller of the two. */
  collectBytes: number;
  /** What came before there was memory for the whole; copies, of the pool. */
  parts: Buffer[];
  /** Of the pool: data to be received, or to be sent. */
  memory: Buffer | null;
  /** Offset of the next Data-Out, those beyond `collectBytes` included. */
  arrivedBytes: number;
  unsolicitedOpen: boolean;
  /** Sequences asked for and not complete, in order. */
  transfers: { tag: number; endBytes: number; nextDataSn: number }[];
  unsolicitedDataSn: number;
  solicitedBytes: number;
  transferSn: number;
  budgetBytes: number;
  granted: boolean;
  started: boolean;
  aborted: boolean;
  done: Promise<void>;
  finish: () => void;
}

/** The full feature phase of one session on its one connection: RFC 7143 sections 4 and 11, recovery level 0. */
export class Session {
  readonly login: LoginResult;
  /** Null: a discovery session. */
  readonly target: ScsiTarget | null;
  /** The initiator's port: its name and session id, as persistent reservations know it. */
  readonly nexus: string;
  readonly tsih: number;
  readonly #link: SessionLink;
  readonly #budget = new ByteBudget(SESSION_BYTES_MAX);
  readonly #pool = new BufferPool();
  readonly #tasks = new Map<number, Task>();
  /** Commands that came before their turn, by number. */
  readonly #early = new Map<number, Pdu>();
  #statSn: number;
  #expCmdSn: number;
  #maxCmdSn: number;
  #nextTransferTag = 1;
  #barrier: Promise<void> | null = null;
  #textParts: Buffer[] = [];
  #textRest: Buffer | null = null;
  #closed: Promise<void> | null = null;
  #leaving = false;

  constructor(
    link: SessionLink,
    options: {
      login: LoginResult;
      target: ScsiTarget | null;
      nexus: string;
      tsih: number;
      statSn: number;
      expCmdSn: number;
    },
  ) {
    this.#link = link;
    this.login = options.login;
    this.target = options.target;
    this.nexus = options.nexus;
    this.tsih = options.tsih;
    this.#statSn = options.statSn;
    this.#expCmdSn = options.expCmdSn;
    this.#maxCmdSn = (options.expCmdSn + COMMAND_WINDOW - 1) >>> 0;
    for (const unit of this.target?.units ?? []) unit.attach(this.nexus);
  }

  /**
   * Ends the session: nothing is answered any more. Resolves once no command of it touches a disk.
   * Idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#early.clear();
    await this.abortTasks();
    for (const unit of this.target?.units ?? []) unit.detach(this.nexus);
    this.target?.onSessionEnd({ initiatorName: this.login.initiatorName, orderly: this.#leaving });
  }

  /** Aborts tasks, all or those of a unit. Resolves once none of them touches a disk. */
  async abortTasks(unit?: LogicalUnit): Promise<void> {
    const tasks = [...this.#tasks.values()].filter((task) => unit === undefined || task.unit === unit);
    for (const task of tasks) this.#abort(task);
    await Promise.all(tasks.map((task) => task.done));
  }

  /** Keeps nothing of a PDU's data but copies. @throws ProtocolError */
  take(pdu: Pdu): void {
    if (this.#closed !== null || this.#leaving) return;
    if (pdu.opcode === OPCODE.dataOut) {
      this.#takeData(pdu);
      return;
    }
    const answersOurPing = pdu.opcode === OPCODE.nopOut && tagOf(pdu) === NO_TAG;
    if (pdu.immediate || answersOurPing) {
      this.#perform(pdu);
      return;
    }
    const cmdSn = pdu.header.readUInt32BE(24);
    const ahead = (cmdSn - this.#expCmdSn) | 0;
    // Outside the window: to be ignored without an answer (section 4.2.2.1).
    if (ahead < 0 || ((this.#maxCmdSn - cmdSn) | 0) < 0) return;
    this.#early.set(cmdSn, pdu);
    for (;;) {
      const next = this.#early.get(this.#expCmdSn);
      if (next === undefined) break;
      this.#early.delete(this.#expCmdSn);
      this.#expCmdSn = (this.#expCmdSn + 1) >>> 0;
      this.#perform(next);
    }
    if (this.#early.get(cmdSn) === pdu) this.#early.set(cmdSn, { ...pdu, data: Buffer.from(pdu.data) });
  }

  /** Asks the peer for a sign of life. */
  ping(): void {
    const header = Buffer.alloc(48);
    header[0] = OPCODE.nopIn;
    header[1] = 0x80;
    header.writeUInt32BE(NO_TAG, 16);
    header.writeUInt32BE(this.#newTransferTag(), 20);
    this.#stamp(header, false);
    this.#link.send(header, null);
  }

  /** @param reason of section 11.17.1 */
  reject(reason: number, faulty: Buffer): void {
    const header = Buffer.alloc(48);
    header[0] = OPCODE.reject;
    header[1] = 0x80;
    header[2] = reason;
    header.writeUInt32BE(NO_TAG, 16);
    this.#stamp(header, true);
    this.#link.send(header, Buffer.from(faulty));
  }

  #perform(pdu: Pdu): void {
    switch (pdu.opcode) {
      case OPCODE.nopOut:
        this.#answerPing(pdu);
        return;
      case OPCODE.text:
        this.#answerText(pdu);
        return;
      case OPCODE.logout:
        void this.#logout(pdu);
        return;
      case OPCODE.scsiCommand:
        if (this.target === null) break;
        this.#beginTask(pdu, this.target);
        return;
      case OPCODE.taskManagement:
        if (this.target === null) break;
        void this.#manageTasks(pdu, this.target);
        return;
      default:
        this.reject(REJECT.notSupported, pdu.header);
        return;
    }
    this.reject(REJECT.protocolError, pdu.header);
  }

  // Commands ------------------------------------------------------------------------------------

  #beginTask(pdu: Pdu, target: ScsiTarget): void {
    const { header } = pdu;
    const flags = header.readUInt8(1);
    const tag = tagOf(pdu);
    if (tag === NO_TAG) throw new ProtocolError('a command without a tag', REJECT.invalidField, header);
    if (this.#tasks.has(tag)) throw new ProtocolError('a tag in use', REJECT.invalidField, header);
    const cdb = header.subarray(32, 48);
    const lunField = header.subarray(8, 16);
    const unit = unitAt(target, lunField);
    const writes = (flags & 0x20) !== 0;
    const expectedBytes = header.readUInt32BE(20);
    const wantedBytes = unit?.dataOutBytes(cdb) ?? 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    const collectBytes = writes ? Math.min(expectedBytes, wantedBytes) : 0;
    const task: Task = {
      tag,
      unit,
      lunField,
      cdb,
      reads: (flags & 0x40) !== 0,
      writes,
      waitsFor: this.#barrier,
      expectedBytes,
      wantedBytes,
      collectBytes,
      parts: [],
      memory: null,
      arrivedBytes: 0,
      unsolicitedOpen: writes && !pdu.final,
      transfers: [],
      unsolicitedDataSn: 0,
      solicitedBytes: 0,
      transferSn: 0,
      budgetBytes: collectBytes + (unit?.workBytes(cdb) ?? 0),
      granted: false,
      started: false,
      aborted: false,
      done: promise,
      finish: resolve,
    };
    if (pdu.data.length > 0) {
      if (!writes || !this.login.parameters.immediateData)
        throw new ProtocolError('immediate data that was not agreed on', REJECT.protocolError, header);
      this.#store(task, pdu, this.#unsolicitedLimit(task));
    }
    if (task.unsolicitedOpen && this.login.parameters.initialR2T)
      throw new ProtocolError('unsolicited data that was not agreed on', REJECT.protocolError, header);
    if ((flags & 0x07) === ATTRIBUTE_ORDERED) {
      task.waitsFor = Promise.all([...this.#tasks.values()].map((older) => older.done));
      this.#barrier = task.done;
    }
    this.#tasks.set(tag, task);
    if (this.#tasks.size > TASKS_MAX) {
      this.#finishTask(task, { status: STATUS.taskSetFull, dataIn: null, sense: null });
      return;
    }
    // In the order of arrival, so that an older command never waits for memory that a younger one holds.
    this.#budget.acquire(task.budgetBytes, () => {
      task.granted = true;
      if (task.aborted) this.#retire(task);
      else {
        this.#gather(task);
        this.#advance(task);
      }
    });
  }

  /** One piece of memory for all that a command takes, unless it came whole. */
  #gather(task: Task): void {
    const [first] = task.parts;
    if (task.collectBytes === 0 || first?.length === task.collectBytes) return;
    task.memory = this.#pool.take(task.collectBytes);
    let at = 0;
    for (const part of task.parts) at += part.copy(task.memory, at);
    this.#releaseParts(task);
  }

  #release(task: Task): void {
    if (task.memory !== null) this.#pool.give(task.memory);
    task.memory = null;
    this.#releaseParts(task);
  }

  #releaseParts(task: Task): void {
    for (const part of task.parts) this.#pool.give(part);
    task.parts = [];
  }

  #unsolicitedLimit(task: Task): number {
    return Math.min(task.expectedBytes, this.login.parameters.firstBurstBytes);
  }

  /** @param endBytes how far the initiator may send now */
  #store(task: Task, pdu: Pdu, endBytes: number): void {
    const end = task.arrivedBytes + pdu.data.length;
    if (end > endBytes) throw new ProtocolError('more data than agreed on', REJECT.protocolError, pdu.header);
    const useful = Math.min(pdu.data.length, task.collectBytes - task.arrivedBytes);
    if (useful > 0) {
      if (task.memory === null) task.parts.push(this.#copy(pdu.data.subarray(0, useful)));
      else pdu.data.copy(task.memory, task.arrivedBytes, 0, useful);
    }
    task.arrivedBytes = end;
  }

  #copy(data: Buffer): Buffer {
    const copy = this.#pool.take(data.length);
    data.copy(copy);
    return copy;
  }

  #takeData(pdu: Pdu): void {
    const { header } = pdu;
    const task = this.#tasks.get(tagOf(pdu));
    // Data of a command that was aborted or refused is still on its way: dropped.
    if (task === undefined || task.aborted || task.started) return;
    const transferTag = header.readUInt32BE(20);
    const dataSn = header.readUInt32BE(36);
    if (header.readUInt32BE(40) !== task.arrivedBytes)
      throw new ProtocolError('data out of order', REJECT.protocolError, header);
    if (transferTag === NO_TAG) {
      if (!task.unsolicitedOpen || dataSn !== task.unsolicitedDataSn)
        throw new ProtocolError('unsolicited data out of order', REJECT.protocolError, header);
      task.unsolicitedDataSn += 1;
      this.#store(task, pdu, this.#unsolicitedLimit(task));
      if (pdu.final) task.unsolicitedOpen = false;
    } else {
      const transfer = task.transfers[0];
      if (transfer?.tag !== transferTag || dataSn !== transfer.nextDataSn)
        throw new ProtocolError('data that nobody asked for', REJECT.protocolError, header);
      transfer.nextDataSn += 1;
      this.#store(task, pdu, transfer.endBytes);
      if (pdu.final !== (task.arrivedBytes === transfer.endBytes))
        throw new ProtocolError('a sequence that ends elsewhere', REJECT.protocolError, header);
      if (pdu.final) task.transfers.shift();
    }
    this.#advance(task);
  }

  /** Asks for more data, or starts the command when all of it is there. */
  #advance(task: Task): void {
    if (!task.granted || task.unsolicitedOpen || task.started) return;
    if (task.arrivedBytes >= task.collectBytes && task.transfers.length === 0) {
      task.started = true;
      void this.#run(task);
      return;
    }
    const { maxBurstBytes, maxOutstandingR2T } = this.login.parameters;
    task.solicitedBytes = Math.max(task.solicitedBytes, task.arrivedBytes);
    while (task.transfers.length < maxOutstandingR2T && task.solicitedBytes < task.collectBytes) {
      const lengthBytes = Math.min(maxBurstBytes, task.collectBytes - task.solicitedBytes);
      const tag = this.#newTransferTag();
      const header = Buffer.alloc(48);
      header[0] = OPCODE.readyToTransfer;
      header[1] = 0x80;
      task.lunField.copy(header, 8);
      header.writeUInt32BE(task.tag, 16);
      header.writeUInt32BE(tag, 20);
      this.#stamp(header, false);
      header.writeUInt32BE(task.transferSn, 36);
      header.writeUInt32BE(task.solicitedBytes, 40);
      header.writeUInt32BE(lengthBytes, 44);
      task.transferSn += 1;
      task.solicitedBytes += lengthBytes;
      task.transfers.push({ tag, endBytes: task.solicitedBytes, nextDataSn: 0 });
      this.#link.send(header, null);
    }
  }

  async #run(task: Task): Promise<void> {
    if (task.waitsFor !== null) await task.waitsFor;
    if (task.aborted || this.target === null) {
      this.#retire(task);
      return;
    }
    const reply = await executeScsi(this.target, task.unit, {
      cdb: task.cdb,
      nexus: this.nexus,
      dataOut: task.memory ?? task.parts[0] ?? Buffer.alloc(0),
      announcedBytes: task.writes ? task.expectedBytes : 0,
      takeBuffer: (lengthBytes) =>
        task.writes ? Buffer.alloc(lengthBytes) : (task.memory = this.#pool.take(lengthBytes)),
    });
    if (task.writes) this.#release(task);
    if (task.aborted) this.#retire(task);
    else this.#finishTask(task, reply);
  }

  #finishTask(task: Task, reply: ScsiReply): void {
    this.#tasks.delete(task.tag);
    const release = (): void => {
      this.#release(task);
      if (task.granted) this.#budget.release(task.budgetBytes);
      task.granted = false;
    };
    if (reply.status === STATUS.good && reply.dataIn !== null && task.reads && task.expectedBytes > 0)
      this.#sendData(task, reply.dataIn, release);
    else this.#sendStatus(task, reply, release);
    task.finish();
    if (this.#barrier === task.done) this.#barrier = null;
  }

  /** A task that ends without an answer. */
  #retire(task: Task): void {
    if (this.#tasks.get(task.tag) === task) this.#tasks.delete(task.tag);
    this.#release(task);
    if (task.granted) this.#budget.release(task.budgetBytes);
    task.granted = false;
    if (this.#barrier === task.done) this.#barrier = null;
    task.finish();
  }

  #abort(task: Task): void {
    if (task.aborted) return;
    task.aborted = true;
    // One that waits for memory, or is at work, retires when that is over.
    if (task.granted && !task.started) this.#retire(task);
    else if (!task.granted) {
      this.#tasks.delete(task.tag);
      task.parts = [];
      task.finish();
    }
  }

  #sendData(task: Task, data: Buffer, sent: () => void): void {
    const { peerDataSegmentBytesMax, maxBurstBytes } = this.login.parameters;
    const totalBytes = Math.min(data.length, task.expectedBytes);
    let dataSn = 0;
    let at = 0;
    while (at < totalBytes || dataSn === 0) {
      const burstEnd = Math.min(totalBytes, (Math.floor(at / maxBurstBytes) + 1) * maxBurstBytes);
      const end = Math.min(burstEnd, at + peerDataSegmentBytesMax);
      const isLast = end >= totalBytes;
      const header = Buffer.alloc(48);
      header[0] = OPCODE.dataIn;
      header[1] = end === burstEnd ? 0x80 : 0;
      header.writeUInt32BE(task.tag, 16);
      header.writeUInt32BE(NO_TAG, 20);
      this.#stamp(header, isLast);
      header.writeUInt32BE(dataSn, 36);
      header.writeUInt32BE(at, 40);
      if (isLast) {
        const residual = this.#writeResidual(header, task, data.length);
        header[1] = 0x81 | residual;
      }
      this.#link.send(header, data.subarray(at, end), isLast ? sent : undefined);
      dataSn += 1;
      at = end;
    }
  }

  #sendStatus(task: Task, reply: ScsiReply, sent: () => void): void {
    const header = Buffer.alloc(48);
    header[0] = OPCODE.scsiResponse;
    header[3] = reply.status;
    header.writeUInt32BE(task.tag, 16);
    this.#stamp(header, true);
    const moved = task.writes ? task.wantedBytes : reply.status === STATUS.good ? (reply.dataIn?.length ?? 0) : 0;
    header[1] = 0x80 | this.#writeResidual(header, task, moved);
    let data: Buffer | null = null;
    if (reply.sense !== null) {
      data = Buffer.alloc(2 + reply.sense.length);
      data.writeUInt16BE(reply.sense.length, 0);
      reply.sense.copy(data, 2);
    }
    this.#link.send(header, data, sent);
  }

  /** @returns the flag for underflow or overflow */
  #writeResidual(header: Buffer, task: Task, movedBytes: number): number {
    const residual = movedBytes - (task.reads || task.writes ? task.expectedBytes : 0);
    if (residual === 0) return 0;
    header.writeUInt32BE(Math.abs(residual), 44);
    return residual > 0 ? 0x04 : 0x02;
  }

  // Everything else -----------------------------------------------------------------------------

  async #manageTasks(pdu: Pdu, target: ScsiTarget): Promise<void> {
    const work = pdu.header.readUInt8(1) & 0x7f;
    const unit = unitAt(target, pdu.header.subarray(8, 16));
    let response: number = TASK_MANAGEMENT.complete;
    if (work === 1) {
      const task = this.#tasks.get(pdu.header.readUInt32BE(20));
      if (task === undefined) response = TASK_MANAGEMENT.noTask;
      else {
        this.#abort(task);
        await task.done;
      }
    } else if (work === 2 || work === 4 || work === 5) {
      if (unit === undefined) response = TASK_MANAGEMENT.noUnit;
      else if (work === 2) await this.abortTasks(unit);
      else {
        await Promise.all([...this.#link.siblings()].map((session) => session.abortTasks(unit)));
        if (work === 5) unit.reset();
      }
    } else if (work === 6 || work === 7) {
      await Promise.all([...this.#link.siblings()].map((session) => session.abortTasks()));
      for (const each of target.units) each.reset();
    } else response = work === 8 ? TASK_MANAGEMENT.noReassignment : TASK_MANAGEMENT.notSupported;
    if (this.#closed !== null) return;
    const header = Buffer.alloc(48);
    header[0] = OPCODE.taskManagementResponse;
    header[1] = 0x80;
    header[2] = response;
    header.writeUInt32BE(tagOf(pdu), 16);
    this.#stamp(header, true);
    this.#link.send(header, null);
    // A cold reset ends every session of the target.
    if (work === 7) for (const session of this.#link.siblings()) session.#link.end();
  }

  #answerPing(pdu: Pdu): void {
    if (tagOf(pdu) === NO_TAG) return;
    const header = Buffer.alloc(48);
    header[0] = OPCODE.nopIn;
    header[1] = 0x80;
    header.writeUInt32BE(tagOf(pdu), 16);
    header.writeUInt32BE(NO_TAG, 20);
    this.#stamp(header, true);
    const bytes = Math.min(pdu.data.length, this.login.parameters.peerDataSegmentBytesMax);
    this.#link.send(header, bytes === 0 ? null : Buffer.from(pdu.data.subarray(0, bytes)));
  }

  #answerText(pdu: Pdu): void {
    const isContinuation = pdu.header.readUInt32BE(20) !== NO_TAG;
    if (!isContinuation) this.#textParts = [];
    if (!isContinuation || this.#textRest === null) {
      this.#textParts.push(Buffer.from(pdu.data));
      const request = Buffer.concat(this.#textParts);
      if (request.length > TEXT_BYTES_MAX) throw new ProtocolError('a text too long', REJECT.protocolError, pdu.header);
      if ((pdu.header.readUInt8(1) & 0x40) !== 0) {
        this.#textRest = null;
        this.#sendText(pdu, Buffer.alloc(0), false);
        return;
      }
      this.#textParts = [];
      this.#textRest = encodeTextKeys(this.#textAnswers(parseTextKeys(request)));
    }
    const bytes = Math.min(this.#textRest.length, this.login.parameters.peerDataSegmentBytesMax);
    const part = this.#textRest.subarray(0, bytes);
    this.#textRest = bytes < this.#textRest.length ? this.#textRest.subarray(bytes) : null;
    this.#sendText(pdu, part, this.#textRest === null);
  }

  #sendText(pdu: Pdu, text: Buffer, isLast: boolean): void {
    const header = Buffer.alloc(48);
    header[0] = OPCODE.textResponse;
    header[1] = isLast ? 0x80 : text.length > 0 ? 0x40 : 0;
    header.writeUInt32BE(tagOf(pdu), 16);
    header.writeUInt32BE(isLast ? NO_TAG : this.#newTransferTag(), 20);
    this.#stamp(header, true);
    this.#link.send(header, text.length === 0 ? null : text);
  }

  #textAnswers(keys: Map<string, string>): [string, string][] {
    const answers: [string, string][] = [];
    for (const [key, value] of keys) {
      if (key !== 'SendTargets') {
        answers.push([key, 'NotUnderstood']);
        continue;
      }
      const visible = this.#link.visibleTargets();
      const own = this.target?.name;
      // All targets only in a discovery session; an empty value means the session's own.
      const names =
        value === 'All' ? (own === undefined ? visible : []) : value === '' && own !== undefined ? [own] : [value];
      for (const name of names) {
        if (!visible.includes(name)) continue;
        answers.push(['TargetName', name], ['TargetAddress', `${this.#link.address},1`]);
      }
    }
    return answers;
  }

  async #logout(pdu: Pdu): Promise<void> {
    const reason = pdu.header.readUInt8(1) & 0x7f;
    this.#leaving = reason <= 1;
    // Commands whose data is still on its way will not get it; those at work end as they would have.
    const pending = [...this.#tasks.values()];
    for (const task of pending) if (!task.started) this.#abort(task);
    await Promise.all(pending.map((task) => task.done));
    if (this.#closed !== null) return;
    const header = Buffer.alloc(48);
    header[0] = OPCODE.logoutResponse;
    header[1] = 0x80;
    // 2: connection recovery is not supported.
    header[2] = reason <= 1 ? 0 : 2;
    header.writeUInt32BE(tagOf(pdu), 16);
    this.#stamp(header, true);
    this.#link.send(header, null);
    if (reason <= 1) this.#link.end();
  }

  /** Sequence numbers. @param hasStatus whether the PDU takes a status number of its own */
  #stamp(header: Buffer, hasStatus: boolean): void {
    const isStatusless = header[0] === OPCODE.dataIn && !hasStatus;
    if (!isStatusless) header.writeUInt32BE(this.#statSn, 24);
    if (hasStatus) this.#statSn = (this.#statSn + 1) >>> 0;
    const maxCmdSn = (this.#expCmdSn + Math.max(0, COMMAND_WINDOW - this.#tasks.size) - 1) >>> 0;
    if (((maxCmdSn - this.#maxCmdSn) | 0) > 0) this.#maxCmdSn = maxCmdSn;
    header.writeUInt32BE(this.#expCmdSn, 28);
    header.writeUInt32BE(this.#maxCmdSn, 32);
  }

  #newTransferTag(): number {
    const tag = this.#nextTransferTag;
    this.#nextTransferTag = tag >= 0xfffffffe ? 1 : tag + 1;
    return tag;
  }
}

function tagOf(pdu: Pdu): number {
  return pdu.header.readUInt32BE(16);
}
