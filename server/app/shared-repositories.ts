import type { Repository } from '../repository/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { openFolder } from './open-repository.ts';

/** A repository in use by several tasks of one worker: one index in memory, one set of threads. */
export class SharedRepositories {
  readonly #parts: { clock: Clock; logger: Logger };
  readonly #open = new Map<string, { opening: Promise<Repository>; users: number }>();

  constructor(parts: { clock: Clock; logger: Logger }) {
    this.#parts = parts;
  }

  /** Opens the repository, or shares the open one, for as long as `work` takes. */
  async use<T>(path: string, work: (repository: Repository) => Promise<T>): Promise<T> {
    const entry = this.#open.get(path) ?? { opening: openFolder(path, this.#parts), users: 0 };
    this.#open.set(path, entry);
    entry.users += 1;
    try {
      return await work(await entry.opening);
    } finally {
      entry.users -= 1;
      if (entry.users === 0) {
        // Whoever comes next opens it anew, also after a failure to open it.
        this.#open.delete(path);
        await entry.opening.then(
          (repository) => repository.close(),
          () => undefined,
        );
      }
    }
  }
}
