import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leftWithout } from './last-versions.ts';

const VERSIONS = [
  { id: 'a1', machineId: 'a', machineName: 'mail' },
  { id: 'a2', machineId: 'a', machineName: 'mail' },
  { id: 'b1', machineId: 'b', machineName: 'web' },
];

async function namesWithout(...ids: string[]): Promise<string[]> {
  const chosen = VERSIONS.filter(({ id }) => ids.includes(id));
  return leftWithout(chosen, (machineId, limit) =>
    Promise.resolve(VERSIONS.filter((version) => version.machineId === machineId).slice(0, limit)),
  );
}

test('a machine is named when its last versions go, and not while one stays', async () => {
  assert.deepEqual(await namesWithout('a1'), []);
  assert.deepEqual(await namesWithout('a2'), []);
  assert.deepEqual(await namesWithout('a1', 'a2'), ['mail']);
  assert.deepEqual(await namesWithout('a1', 'b1'), ['web']);
  assert.deepEqual(await namesWithout('a1', 'a2', 'b1'), ['mail', 'web']);
});
