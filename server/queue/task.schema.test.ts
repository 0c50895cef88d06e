import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { MachineProgress } from '../contract/run.ts';
import { taskEventSchema } from './task.schema.ts';

it('every number of a run comes from the worker to the server', () => {
  // `Required`: what is added to the numbers is added here, or this file does not compile.
  const disk: Required<MachineProgress['disks'][number]> = {
    ...{ key: 'scsi0:0', label: 'Hard disk 1', totalBytes: 3, doneBytes: 1, route: 'ssh-raw', waitsFor: 'source' },
  };
  const progress: Required<MachineProgress> = {
    ...{ stage: 'reading', totalBytes: 3, doneBytes: 1, bytesPerSecond: 1, remainingSeconds: 2, stillSinceMs: 5 },
    disks: [disk],
  };
  const event = { kind: 'progress', progress };
  assert.deepEqual(taskEventSchema.parse(event), event);
});
