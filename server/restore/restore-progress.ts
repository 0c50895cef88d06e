import type { MachineProgress, RunStage } from '../contract/run.ts';
import { SpeedMeter, type Clock } from '../runtime/index.ts';

const EMIT_EVERY_MS = 250;

/** Live numbers of a restore or export. Each byte counts twice: once written, once verified. */
export class RestoreProgress {
  readonly #clock: Clock;
  readonly #speed: SpeedMeter;
  readonly #emit: (progress: MachineProgress) => void;
  readonly #disks = new Map<string, MachineProgress['disks'][number]>();
  #stage: RunStage = 'waiting';
  #emittedAtMs = -Infinity;

  constructor(options: { clock: Clock; emit(progress: MachineProgress): void }) {
    this.#clock = options.clock;
    this.#speed = new SpeedMeter(options.clock);
    this.#emit = (progress) => {
      options.emit(progress);
    };
  }

  enter(stage: RunStage): void {
    this.#stage = stage;
    this.#send();
  }

  addDisk(key: string, label: string, dataBytes: number): void {
    this.#disks.set(key, { key, label, totalBytes: dataBytes * 2, doneBytes: 0, route: null });
  }

  done(key: string, bytes: number): void {
    const disk = this.#disks.get(key);
    if (disk !== undefined) disk.doneBytes = Math.min(disk.totalBytes, disk.doneBytes + bytes);
    this.#speed.add(bytes);
    if (this.#clock.monotonicMs() - this.#emittedAtMs >= EMIT_EVERY_MS) this.#send();
  }

  #send(): void {
    this.#emittedAtMs = this.#clock.monotonicMs();
    const disks = [...this.#disks.values()].map((disk) => ({ ...disk }));
    const totalBytes = disks.reduce((sum, disk) => sum + disk.totalBytes, 0);
    const doneBytes = disks.reduce((sum, disk) => sum + disk.doneBytes, 0);
    const bytesPerSecond = this.#speed.bytesPerSecond();
    const remainingSeconds = bytesPerSecond > 0 ? Math.ceil((totalBytes - doneBytes) / bytesPerSecond) : null;
    this.#emit({ stage: this.#stage, totalBytes, doneBytes, bytesPerSecond, remainingSeconds, disks });
  }
}
