import type { HostAddress, MachineIdentity } from '../../server/source/index.ts';

/** What `dozo-task.ts` is told, in a file. */
export type DozoTask =
  | { kind: 'create'; repository: string }
  | {
      kind: 'backup';
      repository: string;
      address: HostAddress;
      hold: string;
      machineId: string;
      identity: MachineIdentity;
    }
  | {
      kind: 'restore';
      repository: string;
      address: HostAddress;
      hold: string;
      pointId: string;
      name: string;
      datastore: string;
    };

/** What it prints at its end, as one document. */
export interface DozoOutcome {
  state: string;
  pointId: string | null;
  /** Of the only disk: what the plan read. */
  readKind: string | null;
  route: string | null;
  bottleneck: string | null;
  /** Bytes of all sockets to the host, both ways. */
  wireBytes: number;
  /** Seconds from the start of the process to the first stage, then of each stage. */
  stages: Record<string, number>;
  log: string[];
}
