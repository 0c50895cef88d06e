import type { z } from 'zod';
import type { jobChangeSchema, JobInput } from '../contract/api/job.schema.ts';
import type { Selection, SelectionPreview } from '../contract/api/selection.schema.ts';
import type { Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { randomHex } from '../runtime/index.ts';
import { found, type OrchestrationContext } from './context.ts';
import { listFollowers } from './schedules.ts';
import { listSelected, previewSelection } from './selections.ts';

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
      const machineIds = await listMachines(tables, input);
      await tables.jobs.add({ id, ...input, machineIds, revision: 1, createdAtMs: nowMs, updatedAtMs: nowMs });
    });
    events.emit({ type: 'changed', what: 'job', id });
    return id;
  }

  /** What rules give as of now. */
  previewSelection(selection: Selection): Promise<SelectionPreview> {
    return previewSelection(this.#context.catalogue, selection);
  }

  /** @throws NOT_FOUND, CONFLICT when someone else changed it meanwhile */
  async change(id: string, change: z.infer<typeof jobChangeSchema>): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      const job = found(await tables.jobs.load(id), 'job', id);
      const { selection = job.selection } = change;
      const wanted = { ...change, selection };
      await assertUsable(tables, wanted, id);
      const isChanged = await tables.jobs.change({
        ...job,
        name: change.name,
        machineIds: await listMachines(tables, wanted),
        selection,
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
      await assertRemovable(tables, id);
      await tables.jobs.remove(id);
    });
    events.emit({ type: 'changed', what: 'job', id });
  }

  /** @throws as `remove` would now */
  async assertRemovable(id: string): Promise<void> {
    await assertRemovable(this.#context.catalogue, id);
  }
}

async function assertRemovable(tables: Tables, id: string): Promise<void> {
  const job = found(await tables.jobs.load(id), 'job', id);
  if ((await tables.runs.list({ jobId: id, active: true, limit: 1 })).length > 0) {
    throw new AppError('CONFLICT', `The job "${job.name}" runs at the moment.`, {
      hint: 'Wait for the end of the run, or cancel it.',
    });
  }
  const [follower] = await listFollowers(tables, id);
  if (follower !== undefined) {
    throw new AppError('CONFLICT', `The job "${follower.name}" runs after "${job.name}".`, {
      hint: 'Give that job another schedule first.',
      details: { jobId: follower.jobId },
    });
  }
}

async function listMachines(tables: Tables, { machineIds, selection }: JobInput): Promise<string[]> {
  return selection === null ? machineIds : listSelected(tables, selection);
}

async function assertUsable(tables: Tables, input: JobInput, exceptId: string | null): Promise<void> {
  found(await tables.repositories.load(input.repositoryId), 'repository', input.repositoryId);
  const named = input.selection === null ? input.machineIds : [];
  for (const machineId of named) found(await tables.machines.load(machineId), 'machine', machineId);
  const twin = (await tables.jobs.list()).find((job) => job.id !== exceptId && job.name === input.name);
  if (twin !== undefined) {
    throw new AppError('CONFLICT', `There is a job named "${input.name}" already.`, {
      hint: 'Choose another name.',
      details: { jobId: twin.id },
    });
  }
}
