import { cpus, loadavg, release, totalmem } from 'node:os';

export interface MachineFacts {
  cpuModel: string;
  cpus: number;
  memoryBytes: number;
  kernel: string;
  node: string;
  /** Of the minute before the start: what others did on the machine. */
  loadAverage: number;
}

export function machineFacts(): MachineFacts {
  const all = cpus();
  return {
    cpuModel: all[0]?.model.trim() ?? 'an unknown processor',
    cpus: all.length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    loadAverage: loadavg()[0] ?? 0,
  };
}
