import type { MachineSummary } from '../source.ts';
import type { InventoryMachine } from './inventory.ts';
import { toMachineDisk } from './machine-configuration.ts';

/** The part of a machine that the contract tells. */
export function toSummary(machine: InventoryMachine): MachineSummary {
  return {
    identity: machine.identity,
    hostId: machine.hostId,
    powerState: machine.powerState,
    guest: machine.guest,
    hardwareVersion: machine.hardwareVersion,
    changeTracking: machine.changeTracking,
    toolsRunning: machine.toolsRunning,
    hasSnapshots: machine.hasSnapshots,
    consolidationNeeded: machine.consolidationNeeded,
    annotation: machine.annotation,
    networks: machine.networks,
    macAddresses: machine.networkCards.flatMap(({ mac }) => (mac === null ? [] : [mac])),
    ipAddress: machine.ipAddress ?? null,
    disks: machine.disks.map(toMachineDisk),
  };
}
