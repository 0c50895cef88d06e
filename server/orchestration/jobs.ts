import type { z } from 'zod';
import type { jobChangeSchema, JobInput } from '../contract/api/job.schema.ts';
import type { Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { randomHex } from '../runtime/index.ts';
import { found, type OrchestrationContext } from './context.ts';

/** What the user configured. */
export class JobService {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  /** @throws CONFLICT, NOT_FOUND (machine, repository) */
  async add(input: JobInput): Promise<string> {
    const { catalogue, clock, events } = this.#context;
    const id = randomHex(8);
    await catalogue.transaction(async (tables) => {
      await assertUsable(tables, input, null);
      const nowMs = clock.nowMs();
      await tables.jobs.add({ id, ...input, revision: 1, createdAtMs: nowMs, updatedAtMs: nowMs });
    });
    events.emit({ type: 'changed', what: 'job', id });
    return id;
  }

  /** @throws NOT_FOUND, CONFLICT when someone else changed it meanwhile */
  async change(id: string, change: z.infer<typeof jobChangeSchema>): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      const job = found(await tables.jobs.load(id), 'job', id);
      await assertUsable(tables, change, id);
      const isChanged = await tables.jobs.change({
        ...job,
        name: change.name,
        machineIds: change.machineIds,
        repositoryId: change.repositoryId,
        options: change.options,
        revision: change.revision,
        updatedAtMs: clock.nowMs(),
      });
      if (!isChanged) {
        throw new AppError('CONFLICT', `The job "${job.name}" was changed by someone else meanwhile.`, {
          hint: 'Load it again and repeat your change.',
          details: { revision: job.revision },
        });
      }
    });
    events.emit({ type: 'changed', what: 'job', id });
  }

  /** The versions stay. @throws NOT_FOUND, CONFLICT while it runs */
  async remove(id: string): Promise<void> {
    const { catalogue, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      const job = found(await tables.jobs.load(id), 'job', id);
      if ((await tables.runs.list({ jobId: id, active: true, limit: 1 })).length > 0) {
        throw new AppError('CONFLICT', `The job "${job.name}" runs at the moment.`, {
          hint: 'Wait for the end of the run, or cancel it.',
        });
      }
      await tables.jobs.remove(id);
    });
    events.emit({ type: 'changed', what: 'job', id });
  }
}

async function assertUsable(tables: Tables, input: JobInput, exceptId: string | null): Promise<void> {
  found(await tables.repositories.load(input.repositoryId), 'repository', input.repositoryId);
  for (const machineId of input.machineIds) found(await tables.machines.load(machineId), 'machine', machineId);
  const twin = (await tables.jobs.list()).find((job) => job.id !== exceptId && job.name === input.name);
  if (twin !== undefined) {
    throw new AppError('CONFLICT', `There is a job named "${input.name}" already.`, {
      hint: 'Choose another name.',
      details: { jobId: twin.id },
    });
  }
}
