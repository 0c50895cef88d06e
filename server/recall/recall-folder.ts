import { hash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { PointDisk } from '../repository/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { DiskRecall } from './disk-recall.ts';
import type { TagSubject } from './tag-file.ts';

const DAY_MS = 24 * 3600 * 1000;
/** A file being written that nobody wrote to for so long was left by a process that is gone. */
const BEGUN_AGE_MS = 7 * DAY_MS;
/** Of a disk that nobody backed up for so long: it is gone, or has change tracking by now. */
const UNUSED_AGE_MS = 180 * DAY_MS;

/** A disk of a machine in a repository: whose tags a file holds, whatever the version. */
export type RecalledDisk = Pick<TagSubject, 'repositoryId' | 'machineId' | 'diskKey'>;

/** The folder of tag files, one a disk of a machine and repository: the NAS's own, never in a repository. */
export class RecallFolder {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #tidiedAtMs = Number.NEGATIVE_INFINITY;

  /** @param options.folder made when it is not there */
  constructor(options: { folder: string; clock: Clock; logger: Logger }) {
    this.#folder = options.folder;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /**
   * Tags for the next version of a disk.
   * @param former the version whose tags may be relied on; null: none, everything is hashed
   * @returns null where the folder cannot be used
   */
  open(disk: RecalledDisk, former: { subject: TagSubject; disk: PointDisk } | null): DiskRecall | null {
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      this.#tidy();
    } catch (error) {
      this.#logger.info({ folder: this.#folder, error: (error as Error).message }, 'tags of chunks cannot be kept');
      return null;
    }
    const { repositoryId, machineId, diskKey } = disk;
    const name = hash('sha256', JSON.stringify([repositoryId, machineId, diskKey])).slice(0, 32);
    return new DiskRecall({ path: join(this.#folder, `${name}.tags`), former, logger: this.#logger });
  }

  #tidy(): void {
    const nowMs = this.#clock.nowMs();
    if (Math.abs(nowMs - this.#tidiedAtMs) < DAY_MS) return;
    this.#tidiedAtMs = nowMs;
    for (const name of readdirSync(this.#folder)) {
      const path = join(this.#folder, name);
      const ageMs = nowMs - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? nowMs);
      if (ageMs > (name.endsWith('.new') ? BEGUN_AGE_MS : UNUSED_AGE_MS)) rmSync(path, { force: true });
    }
  }
}
