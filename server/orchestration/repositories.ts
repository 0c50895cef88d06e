import type { z } from 'zod';
import type {
  repositoryAdoptSchema,
  repositoryChangeSchema,
  repositoryCreateSchema,
} from '../contract/api/repository.schema.ts';
import type { PointsResult, WorkerResults } from '../contract/task-result.ts';
import type { RepositoryAddress } from '../contract/task.ts';
import type { RepositoryRecord, Tables } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import { randomHex } from '../runtime/index.ts';
import { found, type OrchestrationContext } from './context.ts';
import { addressOf, forgetKeys, KEY_TEXT_PURPOSE, saveOwnKey, type RepositoryKeyService } from './repository-keys.ts';

const CREATE_TIMEOUT_MS = 60_000;
/** A cold disk with many versions. */
const POINTS_TIMEOUT_MS = 300_000;

/** Repositories: where they are, and what they hold. */
export class RepositoryService {
  readonly #context: OrchestrationContext;
  readonly #keys: RepositoryKeyService;
  readonly #looking = new Map<string, Promise<PointsResult>>();
  /** Looks that follow those under way: all who ask meanwhile share one. */
  readonly #following = new Map<string, Promise<PointsResult>>();

  constructor(context: OrchestrationContext, keys: RepositoryKeyService) {
    this.#context = context;
    this.#keys = keys;
  }

  /**
   * @returns its id, and the recovery key of an encrypted one, which nobody can show again
   * @throws CONFLICT, REPOSITORY_EXISTS, STORAGE_*
   */
  async create(input: z.infer<typeof repositoryCreateSchema>): Promise<{ id: string; recoveryKey: string | null }> {
    await this.#assertFree(this.#context.catalogue, input, null);
    const made = (await this.#context.queue.request(
      {
        kind: 'create-repository',
        repository: { path: input.path },
        chunkSizeBytes: input.chunkSizeBytes,
        ...(input.passphrase === undefined
          ? {}
          : { secret: this.#context.sealer.seal(KEY_TEXT_PURPOSE, { text: input.passphrase }) }),
      },
      { timeoutMs: CREATE_TIMEOUT_MS },
    )) as WorkerResults['create-repository'];
    const own = made.keys === null ? null : { machineKey: made.keys.machineKey, slotId: made.keys.ownSlotId };
    return { id: await this.#add(input, made, null, own), recoveryKey: this.#keys.recoveryKeyOf(made.keys) };
  }

  /**
   * Takes up a repository that is there, with all its versions and the machines they are of.
   * @throws CONFLICT, REPOSITORY_NOT_FOUND, REPOSITORY_FORMAT_UNKNOWN, REPOSITORY_KEY_*, STORAGE_*
   */
  async adopt(input: z.infer<typeof repositoryAdoptSchema>): Promise<string> {
    const { path } = input;
    await this.#assertFree(this.#context.catalogue, input, null);
    const own = input.key === undefined ? null : await this.#keys.takeUp(path, input.key);
    const content = await this.#askPoints(own === null ? { path } : { path, key: own.machineKey });
    return this.#add(input, content, content, own);
  }

  /** @throws NOT_FOUND, CONFLICT */
  async change(id: string, change: z.infer<typeof repositoryChangeSchema>): Promise<void> {
    const { catalogue, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      const repository = found(await tables.repositories.load(id), 'repository', id);
      const changed = { ...repository, name: change.name ?? repository.name, path: change.path ?? repository.path };
      await this.#assertFree(tables, changed, id);
      await tables.repositories.save(changed);
      if (change.retention !== undefined) await tables.repositories.setRetention(id, change.retention);
    });
    events.emit({ type: 'changed', what: 'repository', id });
  }

  /**
   * Forgets a repository; its files stay as they are and can be adopted again.
   * @throws NOT_FOUND, CONFLICT while a job or a run uses it
   */
  async remove(id: string): Promise<void> {
    const { catalogue, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      found(await tables.repositories.load(id), 'repository', id);
      const job = (await tables.jobs.list()).find((one) => one.repositoryId === id);
      if (job !== undefined) {
        throw new AppError('CONFLICT', `The job "${job.name}" stores into this repository.`, {
          hint: 'Give the job another repository, or delete it, first.',
          details: { jobId: job.id },
        });
      }
      const runs = await tables.runs.list({ active: true, limit: 1000 });
      if (runs.some((run) => run.repositoryId === id)) {
        throw new AppError('CONFLICT', 'A run uses this repository.', { hint: 'Wait for its end, or cancel it.' });
      }
      await tables.repositories.remove(id);
      await forgetKeys(tables, id);
    });
    events.emit({ type: 'changed', what: 'repository', id });
    events.emit({ type: 'changed', what: 'point', id: null });
  }

  /** Looks what the repository holds now. @throws NOT_FOUND, REPOSITORY_*, STORAGE_* */
  refresh(id: string): Promise<PointsResult> {
    const following = this.#following.get(id);
    if (following !== undefined) return following;
    const looking = this.#looking.get(id);
    if (looking === undefined) return this.#look(id);
    // One that is under way may have looked before the caller's version was there.
    const next = looking
      .catch(() => undefined)
      .then(() => {
        this.#following.delete(id);
        return this.#look(id);
      });
    this.#following.set(id, next);
    return next;
  }

  #look(id: string): Promise<PointsResult> {
    const look = this.#refresh(id).finally(() => this.#looking.delete(id));
    this.#looking.set(id, look);
    return look;
  }

  async #refresh(id: string): Promise<PointsResult> {
    const { catalogue, clock, events } = this.#context;
    const repository = found(await catalogue.repositories.load(id), 'repository', id);
    // What is made while the answer is under way counts as not seen.
    const askedAtMs = clock.nowMs();
    try {
      const content = await this.#askPoints(await addressOf(catalogue, repository));
      await catalogue.transaction(async (tables) => {
        const current = await tables.repositories.load(id);
        // Moved or forgotten meanwhile: what was seen is of another folder.
        if (current?.path !== repository.path) return;
        await tables.repositories.save(withContent(current, content, askedAtMs));
        await takeOverPoints(tables, id, content);
      });
      return content;
    } catch (error) {
      const body = toAppError(error).toBody();
      await catalogue.transaction(async (tables) => {
        const current = await tables.repositories.load(id);
        if (current?.path === repository.path) await tables.repositories.save({ ...current, error: body });
      });
      throw error;
    } finally {
      events.emit({ type: 'changed', what: 'repository', id });
      events.emit({ type: 'changed', what: 'point', id: null });
    }
  }

  async #add(
    input: { name: string; path: string },
    made: { formatId: string; chunkSizeBytes: number },
    content: PointsResult | null,
    own: { machineKey: string; slotId: string } | null,
  ): Promise<string> {
    const { catalogue, clock, events } = this.#context;
    const id = randomHex(8);
    await catalogue.transaction(async (tables) => {
      await this.#assertFree(tables, input, null);
      const twin = (await tables.repositories.list()).find((other) => other.formatId === made.formatId);
      if (twin !== undefined) {
        throw new AppError('CONFLICT', `This is the repository "${twin.name}" or a copy of it.`, {
          hint: 'Change the path of that one, or delete it here (its files stay), and adopt this one then.',
          details: { repositoryId: twin.id },
        });
      }
      const empty = { points: 0, packs: 0, chunks: 0, storedBytes: 0, nominalBytes: 0 };
      await tables.repositories.save({
        id,
        name: input.name,
        path: input.path,
        formatId: made.formatId,
        chunkSizeBytes: made.chunkSizeBytes,
        stats: content?.stats ?? empty,
        error: null,
        seenAtMs: clock.nowMs(),
        createdAtMs: clock.nowMs(),
      });
      if (own !== null) await saveOwnKey(tables, id, own);
      if (content !== null) await takeOverPoints(tables, id, content);
    });
    events.emit({ type: 'changed', what: 'repository', id });
    return id;
  }

  async #askPoints(repository: RepositoryAddress): Promise<PointsResult> {
    const answer = await this.#context.queue.request({ kind: 'points', repository }, { timeoutMs: POINTS_TIMEOUT_MS });
    return answer as PointsResult;
  }

  async #assertFree(tables: Tables, input: { name: string; path: string }, exceptId: string | null): Promise<void> {
    for (const other of await tables.repositories.list()) {
      if (other.id === exceptId) continue;
      const what = other.name === input.name ? 'name' : other.path === input.path ? 'path' : null;
      if (what === null) continue;
      throw new AppError('CONFLICT', `There is a repository with this ${what} already: "${other.name}".`, {
        hint: `Choose another ${what}.`,
        details: { repositoryId: other.id },
      });
    }
  }
}

function withContent(repository: RepositoryRecord, content: PointsResult, nowMs: number): RepositoryRecord {
  return {
    ...repository,
    formatId: content.formatId,
    chunkSizeBytes: content.chunkSizeBytes,
    stats: content.stats,
    error: null,
    seenAtMs: nowMs,
  };
}

/** Versions of machines that nobody knows (an adopted repository) make those machines known. */
async function takeOverPoints(tables: Tables, repositoryId: string, content: PointsResult): Promise<void> {
  const known = new Set((await tables.machines.list()).map((machine) => machine.id));
  // Newest last: who the machine was at the end.
  for (const point of [...content.points].reverse()) {
    if (known.has(point.machineId) || point.identity === null || !/^[0-9a-f]{16}$/.test(point.machineId)) continue;
    known.add(point.machineId);
    await tables.machines.save({
      id: point.machineId,
      hostId: null,
      name: point.machineName,
      identity: point.identity,
      summary: null,
      present: false,
      seenAtMs: null,
    });
  }
  await tables.points.replaceAll(
    repositoryId,
    content.points.map(({ identity: _identity, ...point }) => ({ ...point, repositoryId })),
  );
}
