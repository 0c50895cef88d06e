/**
 * Freezes a machine, does what it is told and then waits to be killed. Started by the tests of sweeping;
 * standard input is one line of JSON, standard output gets one line a step.
 */
import { createInterface } from 'node:readline';
import { connectEsxi, type FreezeRequest, type HostAddress, type MachineIdentity } from '../../server/source/index.ts';
import { ImageSink, QUICK_LIMITS } from './source-scene.ts';

interface Order {
  address: HostAddress;
  machine: MachineIdentity;
  hold: string;
  nfsStaging: FreezeRequest['nfsStaging'];
  /** Starts the transfer of the first disk as well. */
  read: boolean;
}

const line = await new Promise<string>((resolve) => createInterface({ input: process.stdin }).once('line', resolve));
const order = JSON.parse(line) as Order;
const host = await connectEsxi(order.address, { limits: QUICK_LIMITS });
console.log('connected');
const signal = new AbortController().signal;
const frozen = await host.freeze({
  machine: order.machine,
  hold: order.hold,
  quiesce: 'off',
  nfsStaging: order.nfsStaging,
  note: (note) => console.log(note.code),
  signal,
});
console.log('frozen');
const [disk] = frozen.disks;
if (order.read && disk !== undefined) {
  const plan = await disk.plan(null, signal);
  await plan.transfer(new ImageSink(disk.disk.sizeBytes), { signal });
  console.log('read');
}
setInterval(() => undefined, 1000);
