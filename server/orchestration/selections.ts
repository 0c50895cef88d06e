import type { Selection, SelectionPreview } from '../contract/api/selection.schema.ts';
import type { JobRecord, MachineRecord, Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { selectMachines, type SelectableMachine, type SelectedMachine } from '../policy/index.ts';

/** Runs that are looked through for the last one of a whole job. */
const RUNS_LOOKED_AT = 50;

export interface ResolvedMachines {
  machineIds: string[];
  /** Keys of disks that rules leave out. */
  excludedDisks(machineId: string): readonly string[];
}

/**
 * The machines of a job as of now; those of a selection are remembered with the job.
 * @throws SELECTION_EMPTY when no machine fits
 */
export async function resolveMachines(tables: Tables, job: JobRecord): Promise<ResolvedMachines> {
  if (job.selection === null) return { machineIds: job.machineIds, excludedDisks: () => [] };
  const selected = await select(tables, job.selection);
  const machineIds = selected.filter((one) => one.selected).map(({ id }) => id);
  if (machineIds.length === 0) {
    throw new AppError('SELECTION_EMPTY', `No machine fits the rules of the job "${job.name}".`, {
      hint: 'Look at the preview of the rules, and whether the hosts list their machines.',
      details: { jobId: job.id },
    });
  }
  await tables.jobs.saveMachines({ id: job.id, machineIds });
  const disks = new Map(selected.map((one) => [one.id, one.excludedDisks]));
  return { machineIds, excludedDisks: (machineId) => disks.get(machineId) ?? [] };
}

/** Machines that a selection gives, in order of their names; may be none. */
export async function listSelected(tables: Tables, selection: Selection): Promise<string[]> {
  return (await select(tables, selection)).filter((one) => one.selected).map(({ id }) => id);
}

/** After a host told what it holds: new machines join the jobs whose rules fit them. */
export async function refreshSelections(tables: Tables): Promise<void> {
  for (const { id, selection } of await tables.jobs.list()) {
    if (selection !== null) await tables.jobs.saveMachines({ id, machineIds: await listSelected(tables, selection) });
  }
}

export async function previewSelection(tables: Tables, selection: Selection): Promise<SelectionPreview> {
  const known = new Map((await tables.machines.list()).map((machine) => [machine.id, machine]));
  const machines = (await select(tables, selection)).map(({ id, selected, excludedDisks }) => {
    const { name = id, hostId = null } = known.get(id) ?? {};
    return { machineId: id, name, hostId, selected, excludedDisks };
  });
  return { machines, selectedCount: machines.filter(({ selected }) => selected).length };
}

/** Machines (id → name) of the last run of the whole job; null: there was none. */
export async function findLastSelection(tables: Tables, jobId: string): Promise<Map<string, string> | null> {
  for (const run of await tables.runs.list({ jobId, kind: 'backup', active: false, limit: RUNS_LOOKED_AT })) {
    if (!['schedule', 'catch-up', 'link'].includes(run.startedBy)) continue;
    const parts = await tables.parts.listByRun(run.id);
    if (parts.length === 0) continue;
    return new Map(parts.flatMap(({ machineId, name }) => (machineId === null ? [] : [[machineId, name] as const])));
  }
  return null;
}

/** Machines that are gone from their host fit no rule: their versions stay, and the next run says so. */
async function select(tables: Tables, selection: Selection): Promise<SelectedMachine[]> {
  const machines = (await tables.machines.list()).filter((machine) => machine.present && machine.hostId !== null);
  return selectMachines(selection, machines.map(toSelectable));
}

function toSelectable({ id, name, hostId, identity, summary }: MachineRecord): SelectableMachine {
  return { id, name, hostId, path: identity.path, notes: summary?.annotation ?? '', disks: summary?.disks ?? [] };
}
