import type { MachineView } from '../api/types.ts';

export type Protection = 'protected' | 'failing' | 'pending' | 'unprotected';

/** How well a machine is off: what the worst of its last run and its versions says. */
export function protectionOf(machine: MachineView): Protection {
  if (machine.jobIds.length === 0) return 'unprotected';
  const last = machine.lastRun?.state;
  if (last === 'failed' || last === 'incomplete') return 'failing';
  return machine.lastPointAtMs === null ? 'pending' : 'protected';
}

export function sizeOf(machine: MachineView): number {
  return (machine.summary?.disks ?? []).reduce((sum, disk) => sum + disk.sizeBytes, 0);
}
