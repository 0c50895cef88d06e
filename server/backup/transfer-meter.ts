import { availableParallelism } from 'node:os';
import { performance, type EventLoopUtilization } from 'node:perf_hooks';

import type { DiskResult, LiveBottleneck, MachineProgress, RunStage } from '../contract/run.ts';
import { SpeedMeter, type Clock } from '../runtime/index.ts';
import type { Budget, RouteName } from '../source/index.ts';

/** Progress goes out at most this often: enough for a smooth bar, little for the queue. */
const EMIT_EVERY_MS = 250;
/** And at least this often while the run works, so that a stall is seen as a falling speed. */
const EMIT_IDLE_MS = 1000;
/** So long may a host take for a step without a word about it. */
const STILL_AFTER_MS = 60_000;

interface DiskMeter {
  key: string;
  label: string;
  totalBytes: number;
  doneBytes: number;
  route: string | null;
  waitsFor: (() => LiveBottleneck | null) | undefined;
}

/** Live numbers of one machine's run. */
export class ProgressMeter {
  readonly #clock: Clock;
  readonly #speed: SpeedMeter;
  readonly #emit: (progress: MachineProgress) => void;
  readonly #disks = new Map<string, DiskMeter>();
  readonly #timer: NodeJS.Timeout;
  #stage: RunStage = 'waiting';
  #emittedAtMs = -Infinity;
  /** When a stage was entered or bytes arrived last, by both clocks. */
  #moved: { atMs: number; monotonicMs: number };

  constructor(options: { clock: Clock; emit(progress: MachineProgress): void }) {
    this.#clock = options.clock;
    this.#moved = this.#now();
    this.#speed = new SpeedMeter(options.clock);
    this.#emit = (progress) => {
      options.emit(progress);
    };
    this.#timer = setInterval(() => {
      this.#send();
    }, EMIT_IDLE_MS);
    this.#timer.unref();
  }

  enter(stage: RunStage): void {
    this.#stage = stage;
    this.#moved = this.#now();
    this.#send();
  }

  addDisk(disk: {
    key: string;
    label: string;
    totalBytes: number;
    doneBytes: number;
    route: RouteName | null;
    waitsFor?: () => LiveBottleneck | null;
  }): void {
    this.#disks.set(disk.key, { ...disk, waitsFor: disk.waitsFor });
    this.#sendSometimes();
  }

  /** More is to be read of a disk than was planned. */
  widen(key: string, bytes: number): void {
    const disk = this.#disks.get(key);
    if (disk !== undefined) disk.totalBytes += bytes;
  }

  arrived(key: string, bytes: number): void {
    const disk = this.#disks.get(key);
    if (disk === undefined || bytes === 0) return;
    disk.doneBytes = Math.min(disk.totalBytes, disk.doneBytes + bytes);
    this.#speed.add(bytes);
    this.#moved = this.#now();
    this.#sendSometimes();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #now(): { atMs: number; monotonicMs: number } {
    return { atMs: this.#clock.nowMs(), monotonicMs: this.#clock.monotonicMs() };
  }

  #sendSometimes(): void {
    if (this.#clock.monotonicMs() - this.#emittedAtMs >= EMIT_EVERY_MS) this.#send();
  }

  #send(): void {
    this.#emittedAtMs = this.#clock.monotonicMs();
    const disks = [...this.#disks.values()].map(({ waitsFor, ...disk }) => {
      const held = waitsFor?.() ?? null;
      return held === null ? disk : { ...disk, waitsFor: held };
    });
    const totalBytes = disks.reduce((sum, disk) => sum + disk.totalBytes, 0);
    const doneBytes = disks.reduce((sum, disk) => sum + disk.doneBytes, 0);
    const bytesPerSecond = this.#speed.bytesPerSecond();
    const remainingSeconds = bytesPerSecond > 0 ? Math.ceil((totalBytes - doneBytes) / bytesPerSecond) : null;
    const isStill = this.#emittedAtMs - this.#moved.monotonicMs >= STILL_AFTER_MS;
    this.#emit({
      ...{ stage: this.#stage, totalBytes, doneBytes, bytesPerSecond, remainingSeconds, disks },
      ...(isStill ? { stillSinceMs: this.#moved.atMs } : {}),
    });
  }
}

/** Above this share of both cores (or of the event loop's thread) the processor is what limits. */
const BUSY_SHARE = 0.8;
/** Less time says nothing. */
const LIVE_AFTER_MS = 2000;
/** A host that reads this much more than it sends is limited by its reading, not by the wire. */
const READ_TO_WIRE_RATIO = 2;

/** The time in which at least one of several waits. */
class Waiting {
  readonly #clock: Clock;
  #count = 0;
  #sinceMs = 0;
  #endedMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  begin(): void {
    if (this.#count === 0) this.#sinceMs = this.#clock.monotonicMs();
    this.#count += 1;
  }

  end(): void {
    this.#count -= 1;
    if (this.#count === 0) this.#endedMs += this.#clock.monotonicMs() - this.#sinceMs;
  }

  get totalMs(): number {
    return this.#endedMs + (this.#count > 0 ? this.#clock.monotonicMs() - this.#sinceMs : 0);
  }
}

/**
 * Finds what held a transfer up, by who waited: while a write into the sink is pending, the source
 * waits for us; while a reader waits for its share of a speed limit, both sides wait for that; the rest
 * of the time we wait for the source. Which of two parts on one side it is (codec or disk, host or wire)
 * is told by the processor's load and by what the transport counted.
 */
export class BottleneckMeter {
  readonly #clock: Clock;
  readonly #writes: Waiting;
  readonly #turns: Waiting;
  #elapsedMs = 0;
  #startedAtMs = 0;
  #cpuMicros = 0;
  #cpuAtStart: NodeJS.CpuUsage = { user: 0, system: 0 };
  #loopAtStart: EventLoopUtilization | undefined;
  #loopShare = 0;
  #isRunning = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#writes = new Waiting(clock);
    this.#turns = new Waiting(clock);
  }

  start(): void {
    this.#isRunning = true;
    this.#startedAtMs = this.#clock.monotonicMs();
    this.#cpuAtStart = process.cpuUsage();
    this.#loopAtStart = performance.eventLoopUtilization();
  }

  stop(): void {
    this.#isRunning = false;
    this.#elapsedMs += this.#clock.monotonicMs() - this.#startedAtMs;
    const cpu = process.cpuUsage(this.#cpuAtStart);
    this.#cpuMicros += cpu.user + cpu.system;
    this.#loopShare = performance.eventLoopUtilization(this.#loopAtStart).utilization;
  }

  beginWrite(): void {
    this.#writes.begin();
  }

  endWrite(): void {
    this.#writes.end();
  }

  /** The same budget; the time in which it lets somebody wait is counted. */
  watch(budget: Budget): Budget {
    return (bytes) => {
      const turn = budget(bytes);
      if (turn === null) return null;
      this.#turns.begin();
      return turn.finally(() => {
        this.#turns.end();
      });
    };
  }

  /** As far as can be said now; null before there is something to measure, and when nothing is transferred. */
  now(): LiveBottleneck | null {
    const nowMs = this.#clock.monotonicMs();
    const elapsedMs = nowMs - this.#startedAtMs;
    if (!this.#isRunning || elapsedMs < LIVE_AFTER_MS) return null;
    const { user, system } = process.cpuUsage(this.#cpuAtStart);
    const held = attributeBottleneck({
      sinkShare: this.#writes.totalMs / elapsedMs,
      limitShare: this.#turns.totalMs / elapsedMs,
      processorShare: (user + system) / 1000 / elapsedMs / availableParallelism(),
      loopShare: performance.eventLoopUtilization(this.#loopAtStart).utilization,
      // What was read and sent is counted at the end of a delivery.
      route: 'ssh-raw',
      readBytes: 0,
      wireBytes: 0,
    });
    return held === 'host' || held === 'network' ? 'source' : held;
  }

  get seconds(): number {
    return this.#elapsedMs / 1000;
  }

  verdict(transfer: { route: RouteName; readBytes: number; wireBytes: number }): DiskResult['bottleneck'] {
    if (this.#elapsedMs <= 0 || transfer.readBytes === 0) return null;
    return attributeBottleneck({
      sinkShare: this.#writes.totalMs / this.#elapsedMs,
      limitShare: this.#turns.totalMs / this.#elapsedMs,
      processorShare: this.#cpuMicros / 1000 / this.#elapsedMs / availableParallelism(),
      loopShare: this.#loopShare,
      ...transfer,
    });
  }
}

/** The rule behind `BottleneckMeter.verdict`; shares from 0 to 1. */
export function attributeBottleneck(measured: {
  sinkShare: number;
  limitShare: number;
  processorShare: number;
  loopShare: number;
  route: RouteName;
  readBytes: number;
  wireBytes: number;
}): NonNullable<DiskResult['bottleneck']> {
  if (measured.processorShare > BUSY_SHARE || measured.loopShare > BUSY_SHARE) return 'processor';
  if (measured.limitShare > 0.5 && measured.limitShare > measured.sinkShare) return 'limit';
  if (measured.sinkShare > 0.5) return 'repository';
  if (measured.route.endsWith('-clone')) return 'host';
  return measured.readBytes > measured.wireBytes * READ_TO_WIRE_RATIO ? 'host' : 'network';
}
