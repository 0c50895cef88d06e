import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTask } from './preflight.ts';

type Draft = Parameters<typeof checkTask>[0];

function keysFor(changeTracking: 'answered' | 'refused' | 'unknown', isTracked: boolean): string[] {
  const disk = { key: 'scsi0:0', label: 'Hard disk 1', excluded: null };
  const summary = { consolidationNeeded: false, disks: [disk], powerState: 'off', changeTracking: isTracked };
  const draft = {
    machines: [{ id: 'm', name: 'web', hostId: 'h', present: true, summary: { snapshots: [], ...summary } }],
    repository: undefined,
    quiesce: 'try',
    excludedDisks: {},
    hosts: [{ id: 'h', name: 'esxi', error: null, facts: { changeTracking } }],
  } as unknown as Draft;
  return checkTask(draft)
    .filter(({ level }) => level === 'warning')
    .map(({ key }) => key);
}

test('change tracking is asked for only where the host would answer for it', () => {
  assert.deepEqual(keysFor('answered', false), ['noTracking']);
  assert.deepEqual(keysFor('unknown', false), ['noTracking']);
  assert.deepEqual(keysFor('refused', false), ['hostNoChanges']);
  assert.deepEqual(keysFor('answered', true), []);
});

test('what is true of several machines is said once, by their names', () => {
  const disk = { key: 'scsi0:0', label: 'Hard disk 1', excluded: null };
  const summary = { consolidationNeeded: false, disks: [disk], powerState: 'off', changeTracking: false };
  const independent = { ...summary, disks: [disk, { ...disk, key: 'scsi0:1', excluded: 'independent' }] };
  const machines = [
    { id: 'a', name: 'web', hostId: 'h', present: true, summary },
    { id: 'b', name: 'mail', hostId: 'h', present: false, summary },
    { id: 'c', name: 'db', hostId: 'h', present: true, summary: independent },
  ];
  const draft = { machines, repository: undefined, quiesce: 'try', excludedDisks: {}, hosts: [] } as unknown as Draft;

  const told = checkTask(draft).map(({ key, machines }) => [key, ...machines]);

  assert.deepEqual(told, [['noTracking', 'web', 'db'], ['machineGone', 'mail'], ['diskSkipped']]);
});
