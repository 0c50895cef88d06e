import { cpus, release, totalmem } from 'node:os';

export interface MachineFacts {
  cpuModel: string;
  cpus: number;
  memoryBytes: number;
  kernel: string;
  node: string;
}

export function machineFacts(): MachineFacts {
  const all = cpus();
  return {
    cpuModel: all[0]?.model.trim() ?? 'an unknown processor',
    cpus: all.length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
  };
}
