import type { MachineProgress, RunStage } from '../contract/run.ts';
import { SpeedMeter, type Clock } from '../runtime/index.ts';

const EMIT_EVERY_MS = 250;

/**
 * Live numbers of a restore or export: the bytes of the disks, once while they are written and from the
 * beginning again while they are read back. The time that remains is that of both.
 */
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
    if (stage === 'verifying') for (const disk of this.#disks.values()) disk.doneBytes = 0;
    this.#stage = stage;
    this.#send();
  }

  addDisk(key: string, label: string, dataBytes: number): void {
    this.#disks.set(key, { key, label, totalBytes: dataBytes, doneBytes: 0, route: null });
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
    const aheadBytes = totalBytes - doneBytes + (this.#stage === 'writing' ? totalBytes : 0);
    const remainingSeconds = bytesPerSecond > 0 ? Math.ceil(aheadBytes / bytesPerSecond) : null;
    this.#emit({ stage: this.#stage, totalBytes, doneBytes, bytesPerSecond, remainingSeconds, disks });
  }
}
