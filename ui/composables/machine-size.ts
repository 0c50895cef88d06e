import type { MachineView } from '../api/types.ts';

export function sizeOf(machine: MachineView): number {
  return (machine.summary?.disks ?? []).reduce((sum, disk) => sum + disk.sizeBytes, 0);
}
