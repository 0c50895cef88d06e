import { AppError } from '../../errors/index.ts';

/**
 * The newest virtual hardware of releases that get no new one any more (VMware's table "Virtual machine hardware
 * versions", KB 315655), whatever update of them a host has.
 */
const HARDWARE_MAX: Record<string, number> = { '5.5': 10, '6.0': 11, '6.5': 13, '6.7': 15, '7.0': 19 };

/**
 * A host shows a machine of hardware that it does not know as invalid, after hours of writing its disks.
 * @param hardwareVersion `vmx-19`
 * @param hostVersion `7.0.3`
 * @throws RESTORE_REGISTER_FAILED
 */
export function assertHardwareKnown(machine: string, hardwareVersion: string, hostVersion: string): void {
  const wanted = Number(/^vmx-(\d{1,3})$/.exec(hardwareVersion)?.[1]);
  const known = HARDWARE_MAX[/^\d+\.\d+/.exec(hostVersion)?.[0] ?? ''];
  if (known === undefined || !(wanted > known)) return;
  throw new AppError(
    'RESTORE_REGISTER_FAILED',
    `"${machine}" has virtual hardware of version ${String(wanted)}; ESXi ${hostVersion} knows no later than ${String(known)}.`,
    {
      hint: 'Restore it to a newer host; or export its disks, and attach them to a machine that you make on this one.',
      details: { machine, hardwareVersion: wanted, knownVersion: known, hostVersion },
    },
  );
}
