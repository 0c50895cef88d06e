import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findConflicts } from './conflicts.ts';

type Plan = Parameters<typeof findConflicts>[0];
type Summary = NonNullable<NonNullable<Plan['original']>['summary']>;

function machine(name: string, summary: Partial<Summary>): NonNullable<Plan['original']> {
  return { id: name, name, present: true, summary } as NonNullable<Plan['original']>;
}

/** Keys of what is in the way of restoring `web` as a new machine beside these, hints for later in brackets. */
function inTheWay(
  there: NonNullable<Plan['original']>[],
  { identity = 'new', powerOn = true }: Partial<Pick<Plan, 'identity' | 'powerOn'>> = {},
): string[] {
  const plan = {
    kind: 'new',
    point: { state: 'complete', sizeBytes: 10 },
    name: 'web again',
    there,
    replaced: undefined,
    original: there.find(({ name }) => name === 'web'),
    datastore: undefined,
    networks: [],
    known: [],
    identity,
    powerOn,
    formatBytes: String,
  } as unknown as Plan;
  return findConflicts(plan)
    .filter(({ level }) => level !== 'ok')
    .map(({ level, key, values }) => {
      const told = [key, ...Object.values(values)].join(' ');
      return level === 'info' ? `(${told})` : told;
    });
}

test('a machine that runs with a known address, or an unknown one, is named before another has it too', () => {
  const web = (summary: Partial<Summary>) => machine('web', { macAddresses: ['00:0c:29:00:00:01'], ...summary });

  const running = [web({ powerState: 'on', ipAddress: '192.0.2.7' })];
  const unknown = [web({ powerState: 'on', ipAddress: null })];
  assert.deepEqual(inTheWay(running), ['addressTaken web 192.0.2.7']);
  assert.deepEqual(inTheWay(unknown), ['originalRuns web']);
  // One that stays off meets nobody yet.
  assert.deepEqual(inTheWay(running, { powerOn: false }), ['(addressTakenNow web 192.0.2.7)']);
  assert.deepEqual(inTheWay(unknown, { powerOn: false }), ['(originalRunsNow web)']);
  assert.deepEqual(inTheWay([web({ powerState: 'off', ipAddress: null })]), []);
  assert.deepEqual(inTheWay([]), []);
});

test('MAC addresses that are taken are named where they are to be kept', () => {
  const web = machine('web', { powerState: 'off', macAddresses: ['00:0c:29:00:00:01', '00:0c:29:00:00:02'] });
  const twin = machine('twin', { powerState: 'off', macAddresses: ['00:0c:29:00:00:02'] });
  const gone = { ...machine('gone', { macAddresses: ['00:0c:29:00:00:01'] }), present: false };

  assert.deepEqual(inTheWay([web, twin, gone], { identity: 'keep' }), [
    'sameIdentity',
    'macTaken web 00:0c:29:00:00:01',
    'macTaken web 00:0c:29:00:00:02',
    'macTaken twin 00:0c:29:00:00:02',
  ]);
  assert.deepEqual(inTheWay([web, twin]), []);
});
