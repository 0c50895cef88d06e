import type { RepositoryAddress } from '../contract/task.ts';
import type { Sealer } from '../queue/index.ts';
import type { KeptRepository } from '../repository/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { assertMeant, openFolder } from './open-repository.ts';
import { openAddressKey } from './repository-secrets.ts';

/** A repository in use by several at once in one process: one index in memory, one set of threads. */
export class SharedRepositories {
  readonly #parts: { sealer: Sealer; clock: Clock; logger: Logger };
  readonly #open = new Map<string, { opening: Promise<KeptRepository>; users: number }>();

  constructor(parts: { sealer: Sealer; clock: Clock; logger: Logger }) {
    this.#parts = parts;
  }

  /** Opens the repository, or shares the open one, for as long as `work` takes. */
  async use<T>(address: RepositoryAddress, work: (repository: KeptRepository) => Promise<T>): Promise<T> {
    const { repository, release } = await this.open(address);
    try {
      return await work(repository);
    } finally {
      await release();
    }
  }

  /**
   * As `use`, until `release` is called, once.
   * @throws STORAGE_MISSING, REPOSITORY_*
   */
  async open(address: RepositoryAddress): Promise<{ repository: KeptRepository; release(): Promise<void> }> {
    const { path } = address;
    const { sealer, clock, logger } = this.#parts;
    const secret = openAddressKey(sealer, address);
    const entry = this.#open.get(path) ?? { opening: openFolder(path, { clock, logger, secret }), users: 0 };
    this.#open.set(path, entry);
    entry.users += 1;
    const release = async (): Promise<void> => {
      entry.users -= 1;
      if (entry.users > 0) return;
      // Whoever comes next opens it anew, also after a failure to open it.
      this.#open.delete(path);
      await entry.opening.then(
        (repository) => repository.close(),
        () => undefined,
      );
    };
    try {
      const repository = await entry.opening;
      assertMeant(repository, address);
      return { repository, release };
    } catch (error) {
      await release();
      throw error;
    }
  }
}
