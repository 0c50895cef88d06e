import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { SweepResult } from '../contract/task-result.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import { HoldSweeper } from './hold-sweeper.ts';
import type { RunLog } from './run-log.ts';

const SUMMARY = { identity: { path: '[local] web/web.vmx' }, disks: [{ datastore: 'data' }] };
const TASKS: Record<string, unknown> = {
  backup: { kind: 'backup' },
  elsewhere: { kind: 'restore', target: { mode: { kind: 'new' }, datastore: 'local' } },
  anywhere: { kind: 'restore', target: { mode: { kind: 'new' }, datastore: null } },
  replacing: { kind: 'restore', target: { mode: { kind: 'replace' }, datastore: 'local' } },
};

/** Sweeps the holds of all of `TASKS` once, after which they are released or have an error. */
async function sweepOnce(
  report: Partial<SweepResult>,
): Promise<{ released: string[]; errors: Map<string, ErrorBody> }> {
  const released: string[] = [];
  const errors = new Map<string, ErrorBody>();
  const swept = Promise.withResolvers<void>();
  const holds = Object.keys(TASKS).map((name) => ({ name, hostId: 'h', partId: name, runId: 'r', machineId: 'm' }));
  const catalogue = {
    hosts: { load: () => Promise.resolve({ id: 'h', error: null, host: 'esxi', secret: 's', facts: null }) },
    machines: { load: () => Promise.resolve({ summary: SUMMARY }) },
    parts: { load: (id: string) => Promise.resolve({ task: TASKS[id] }) },
    holds: {
      listAbandoned: () => Promise.resolve(holds),
      release: (name: string) => Promise.resolve(void released.push(name)),
      saveError: (name: string, error: ErrorBody) => Promise.resolve(void errors.set(name, error)),
    },
  };
  const context = {
    catalogue,
    queue: { request: () => Promise.resolve({ removed: [], failed: [], unseen: [], ...report }) },
    sealer: { open: () => ({ password: 'p', privateKey: null }), seal: () => ({}) },
    clock: systemClock,
    events: { emit: () => swept.resolve() },
    logger: silentLogger,
  } as unknown as OrchestrationContext;
  await new HoldSweeper(context, { write: () => Promise.resolve() } as unknown as RunLog).sweep();
  await swept.promise;
  return { released, errors };
}

test('a hold is kept while a datastore is away on which its run may have left something', async () => {
  assert.deepEqual((await sweepOnce({ unseen: ['data'] })).released, ['elsewhere']);
  assert.deepEqual((await sweepOnce({ unseen: ['local'] })).released, []);
  assert.deepEqual((await sweepOnce({ unseen: ['usb'] })).released, ['backup', 'elsewhere']);
  assert.deepEqual((await sweepOnce({})).released, Object.keys(TASKS));
  const { errors } = await sweepOnce({ unseen: ['usb', 'data'] });
  assert.equal(errors.get('backup')?.message, 'datastore data: it does not answer');
});

test('nobody is told to remove what a restore was cut short in', async () => {
  const failed = [{ hold: 'replacing', what: 'unfinished restore on /vmfs/volumes/1', message: 'It is away.' }];

  const { errors, released } = await sweepOnce({ failed });

  assert.deepEqual(released, ['backup', 'elsewhere', 'anywhere']);
  assert.match(errors.get('replacing')?.hint ?? '', /Remove nothing/);
});
