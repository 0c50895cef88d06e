import type { GhettoImportInput, GhettoImportReport } from '../contract/api/configuration.schema.ts';
import { jobInputSchema } from '../contract/api/job.schema.ts';
import type { MachineRecord } from '../database/index.ts';
import { found, type OrchestrationContext } from './context.ts';
import { readGhettoConfiguration, readGhettoMachines } from './ghetto-configuration.ts';
import type { JobService } from './jobs.ts';

/**
 * Makes a job of what ghettoVCB was told to do, and tells what of it was not taken over.
 * @throws NOT_FOUND (repository), CONFLICT when there is a job of this name
 */
export async function importGhetto(
  context: OrchestrationContext,
  jobs: JobService,
  input: GhettoImportInput,
): Promise<GhettoImportReport> {
  const { catalogue } = context;
  const { name, repositoryId, dryRun } = input;
  found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
  const configuration = readGhettoConfiguration(input.configuration);
  const known = (await catalogue.machines.list()).filter(({ present }) => present);
  const lines = readGhettoMachines(input.machines);
  const machines =
    lines.length === 0
      ? known.map((machine) => ({ line: machine.name, machineId: machine.id, reason: null }))
      : lines.map((line) => findMachine(line, known));
  const machineIds = [...new Set(machines.flatMap(({ machineId }) => (machineId === null ? [] : [machineId])))];
  const report = { dryRun, jobId: null, settings: configuration.settings, machines };
  if (dryRun || machineIds.length === 0) return report;
  const job = jobInputSchema.parse({
    name,
    machineIds,
    repositoryId,
    options: {
      ...(configuration.quiesce === null ? {} : { quiesce: configuration.quiesce }),
      ...(configuration.keepLast === null ? {} : { retention: { last: configuration.keepLast } }),
      excludedDisks: excludeOthers(
        known.filter(({ id }) => machineIds.includes(id)),
        configuration.disks,
      ),
    },
  });
  return { ...report, jobId: await jobs.add(job) };
}

function findMachine(line: string, known: readonly MachineRecord[]): GhettoImportReport['machines'][number] {
  const name = line.includes('/') ? line.replace(/\/+$/, '').split('/').at(-1) : line;
  const found = known.filter((machine) => machine.name === line || machine.name === name?.replace(/\.vmx$/, ''));
  const [only] = found;
  if (only === undefined) return { line, machineId: null, reason: 'No known host has a machine of this name.' };
  if (found.length > 1)
    return { line, machineId: null, reason: 'Several machines have this name: choose in the window.' };
  return { line, machineId: only.id, reason: null };
}

/** Keys of the disks that are not among the named ones. */
function excludeOthers(machines: readonly MachineRecord[], disks: readonly string[] | null): Record<string, string[]> {
  if (disks === null) return {};
  return Object.fromEntries(
    machines.flatMap(({ id, summary }) => {
      const others = (summary?.disks ?? []).filter(({ path }) => !disks.includes(path.split('/').at(-1) ?? ''));
      return others.length === 0 ? [] : [[id, others.map(({ key }) => key)]];
    }),
  );
}
