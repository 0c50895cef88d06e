/**
 * The route over iSCSI cut at every change that it makes to a host's settings: by kill -9 of Dozo, and by the power of
 * the host. Nothing of ours may stay, whichever change was the last one.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SharedPortal } from '../../server/iscsi/index.ts';
import { randomHex, systemClock, type Clock } from '../../server/runtime/index.ts';
import { freePort } from '../lab/free-port.ts';
import { startIscsiScene, type ChildOrder, type IscsiScene } from './iscsi-scene.ts';
import { findMachine, MIB } from './source-scene.ts';

/** Firewall opened and closed 3 each, software iSCSI 2, and 8 a disk from the entry to the last rescan. */
const CHANGES = 3 + 3 + 2 + 8;
/** Of the changes at which the power goes, every so manyth; all by `DOZO_ALL_STEPS=1`, which takes a minute more. */
const POWER_STRIDE = process.env['DOZO_ALL_STEPS'] === '1' ? 1 : 4;
const WAIT_MS = 300_000;
let scene: IscsiScene;
const children = new Set<ChildProcess>();

before(async () => {
  scene = await startIscsiScene({
    edition: 'free',
    datastores: [
      { name: 'six', type: 'VMFS-6' },
      { name: 'seven', type: 'VMFS-6' },
    ],
    vms: [
      {
        name: 'web',
        datastore: 'six',
        running: true,
        disks: [{ sizeBytes: 2 * MIB, fill: { percent: 60, seed: 2 } }],
      },
      {
        name: 'mail',
        datastore: 'six',
        running: true,
        disks: [
          { sizeBytes: 4 * MIB, fill: { percent: 95, seed: 3 } },
          { sizeBytes: 16 * MIB, datastore: 'seven', fill: { percent: 95, seed: 4 } },
        ],
      },
    ],
  });
});
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await scene.close();
});

/**
 * Hurries, and stands still while the host is off: however long that takes here, it is a moment to who waits for it.
 */
class OutageClock implements Clock {
  readonly nowMs = (): number => systemClock.nowMs();
  readonly monotonicMs = (): number => systemClock.monotonicMs();
  #isOver = Promise.resolve();

  async during(outage: () => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#isOver = promise;
    await outage().finally(resolve);
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    await this.#isOver;
    await systemClock.sleep(ms / 30, signal);
  }
}

/** Has the so manyth change from now stand still. */
async function haltAt(step: number): Promise<void> {
  const { begun } = await scene.lab.iscsiChanges();
  await scene.lab.set({ iscsiChangeWaitsAt: begun + step });
}

/** Whether a change stands still before `ended` is done. */
async function stoodStill(ended: Promise<unknown>): Promise<boolean> {
  let isOver = false;
  void ended.finally(() => (isOver = true)).catch(() => undefined);
  for (const untilMs = performance.now() + WAIT_MS; performance.now() < untilMs;) {
    if ((await scene.lab.iscsiChanges()).waiting > 0) return true;
    if (isOver) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return assert.fail('nothing happened');
}

/** Lets what stands still go on, and waits until it has. */
async function letGo(): Promise<void> {
  await scene.lab.set({ iscsiChangeWaitsAt: null });
  for (const untilMs = performance.now() + WAIT_MS; (await scene.lab.iscsiChanges()).waiting > 0;) {
    assert.ok(performance.now() < untilMs);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A process that has loaded everything, and begins when it is told what. */
function prepareChild(): ChildProcess {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'iscsi-child.ts')], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  children.add(child);
  return child;
}

test('a sweep finds nothing left after kill -9 at any change of the host', async () => {
  const { identity } = await findMachine(scene.host, 'web');
  const port = await freePort();
  let steps = 0;
  for (let child = prepareChild(); ;) {
    const hold = `dozo-${randomHex(8)}`;
    const order: ChildOrder = { address: scene.address, repositoryPath: scene.repositoryPath, identity, hold, port };
    const ended = once(child, 'exit');
    await haltAt(steps + 1);
    child.stdin?.end(`${JSON.stringify(order)}\n`);
    const next = prepareChild();
    const isCut = await stoodStill(ended);
    child.kill('SIGKILL');
    await ended;
    await letGo();
    const { failed } = await scene.host.sweep([hold]);
    assert.deepEqual(failed, [], `after change ${steps + 1}`);
    await scene.assertUntouched();
    child = next;
    if (!isCut) break;
    steps += 1;
  }
  assert.equal(steps, CHANGES);
});

test('a run ends well by itself, and leaves nothing, when the host loses its power at any change', async () => {
  const iscsi = { portal: new SharedPortal({ bind: '127.0.0.1', port: await freePort() }), address: null };
  for (let step = POWER_STRIDE; step <= CHANGES; step += POWER_STRIDE) {
    const clock = new OutageClock();
    const host = await scene.connect({ iscsi, clock });
    await haltAt(step);
    const backing = scene.back('web', { host, clock });
    assert.ok(await stoodStill(backing), `change ${step} never came`);
    await clock.during(async () => {
      await scene.lab.losePower();
      await letGo();
      await scene.lab.boot();
    });
    const { result, lines, hold } = await backing;

    assert.equal(result.state, 'success', JSON.stringify([step, result.error, lines], null, 1));
    assert.ok(result.holdReleased, `change ${step}`);
    await scene.assertUntouched();
    await scene.assertEqualsFrozen(result.pointId ?? '', 'web', hold);
    await host.close();
  }
});

test('a retry takes back what the first attempt changed, also when it has other datastores to write on', async () => {
  const { identity } = await findMachine(scene.host, 'mail');
  const hold = `dozo-${randomHex(8)}`;
  const order = {
    address: scene.address,
    repositoryPath: scene.repositoryPath,
    identity,
    hold,
    port: await freePort(),
  };
  const child = prepareChild();
  const ended = once(child, 'exit');
  // The first disk is over, and its copy stands in a checkpoint once the second one has come that far.
  await haltAt(3 + 1 + 8 + 1);
  child.stdin?.end(`${JSON.stringify(order satisfies ChildOrder)}\n`);
  assert.ok(await stoodStill(ended));
  await scene.lab.set({ cloneWaitsAtPercent: 90 });
  await letGo();
  await scene.lab.cloneWaits();
  child.kill('SIGKILL');
  await ended;
  await scene.lab.set({ cloneWaitsAtPercent: null });

  const { result, lines } = await scene.back('mail', { hold });

  assert.equal(result.state, 'success', JSON.stringify([result.error, lines], null, 1));
  assert.ok(
    lines.some(({ code }) => code === 'RUN_RESUMED'),
    'begun anew: the test proves nothing',
  );
  await scene.assertUntouched();
  await scene.assertEqualsFrozen(result.pointId ?? '', 'mail', hold);
});
