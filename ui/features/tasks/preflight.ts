import type { HostView, JobView, MachineView, RepositoryView } from '../../api/types.ts';

/** One line of the configuration check: `key` names its sentence in the catalogue. */
export interface Finding {
  level: 'ok' | 'warning' | 'error';
  key: string;
  values: Record<string, string>;
  /** By name, those of which the sentence is true; none where it is about no machine, or about one of its disks. */
  machines: string[];
}
type Single = Omit<Finding, 'machines'>;

interface Draft {
  machines: MachineView[];
  repository: RepositoryView | undefined;
  quiesce: JobView['options']['quiesce'];
  excludedDisks: Record<string, string[]>;
  hosts: HostView[];
}

/** What can be said of a task before it ran, from what the hosts told last. */
export function checkTask(draft: Draft): Finding[] {
  const findings: Single[] = [];
  const { repository } = draft;
  if (repository !== undefined) {
    const values = { storage: repository.name };
    findings.push(
      repository.error === null
        ? { level: 'ok', key: 'storageReady', values }
        : { level: 'error', key: 'storageFails', values },
    );
  }
  const hostIds = new Set(draft.machines.map(({ hostId }) => hostId));
  for (const host of draft.hosts.filter(({ id }) => hostIds.has(id))) {
    const values = { host: host.name };
    if (host.error !== null) findings.push({ level: 'error', key: 'hostFails', values });
    else findings.push({ level: 'ok', key: 'hostReady', values });
    if (host.facts?.changeTracking === 'refused') findings.push({ level: 'warning', key: 'hostNoChanges', values });
  }
  for (const machine of draft.machines) findings.push(...checkMachine(machine, draft));
  return gather(findings);
}

/** What is true of several machines is said once. */
function gather(singles: Single[]): Finding[] {
  const findings: Finding[] = [];
  const told = new Map<string, Finding>();
  for (const single of singles) {
    const name = Object.keys(single.values).join() === 'machine' ? single.values['machine'] : undefined;
    const known = name === undefined ? undefined : told.get(single.key);
    if (known !== undefined && name !== undefined) {
      known.machines.push(name);
      continue;
    }
    const finding = { ...single, machines: name === undefined ? [] : [name] };
    findings.push(finding);
    if (name !== undefined) told.set(single.key, finding);
  }
  return findings;
}

function checkMachine(machine: MachineView, draft: Draft): Single[] {
  const values = { machine: machine.name };
  const { summary } = machine;
  if (!machine.present || summary === null) return [{ level: 'error', key: 'machineGone', values }];
  const findings: Single[] = [];
  if (summary.consolidationNeeded) findings.push({ level: 'error', key: 'consolidation', values });
  const leftOut = new Set(draft.excludedDisks[machine.id] ?? []);
  const wanted = summary.disks.filter(({ key }) => !leftOut.has(key));
  if (wanted.every(({ excluded }) => excluded !== null)) findings.push({ level: 'error', key: 'noDisks', values });
  for (const disk of wanted) {
    if (disk.excluded !== null) {
      findings.push({ level: 'warning', key: 'diskSkipped', values: { ...values, disk: disk.label } });
    }
  }
  if (summary.powerState === 'on' && !summary.toolsRunning && draft.quiesce !== 'off') {
    const isRequired = draft.quiesce === 'require';
    findings.push({ level: isRequired ? 'error' : 'warning', key: isRequired ? 'noToolsRequired' : 'noTools', values });
  }
  // Where the host answers to nobody, that is said of the host, and turning it on would not help.
  const answers = draft.hosts.find(({ id }) => id === machine.hostId)?.facts?.changeTracking;
  if (!summary.changeTracking && answers !== 'refused') findings.push({ level: 'warning', key: 'noTracking', values });
  if (summary.hasSnapshots) findings.push({ level: 'warning', key: 'ownSnapshots', values });
  if (findings.length === 0) findings.push({ level: 'ok', key: 'machineReady', values });
  return findings;
}
