import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { BackupHooks } from '../../server/backup/index.ts';
import { systemClock, type Clock } from '../../server/runtime/index.ts';
import type { SourceHost } from '../../server/source/index.ts';
import type { Switches } from '../lab/lab-host.ts';
import { openHostEngine, type HostEngine } from './host-engine.ts';
import { HURRIED_CLOCK, MIB, startScene, type SourceScene } from './source-scene.ts';

const NAME = 'web';
/** Nothing but a host that was tried for in vain several times is waited for so long. */
const LONG_WAIT_MS = 10_000;

/** Waits of minutes pass in seconds; long ones stand still when that is asked for. */
class OutageClock implements Clock {
  readonly nowMs = (): number => systemClock.nowMs();
  readonly monotonicMs = (): number => systemClock.monotonicMs();
  #still: { begun: PromiseWithResolvers<void>; over: PromiseWithResolvers<void> } | null = null;

  /** From the next long wait on, until `goOn`; resolves when that wait has begun. */
  async standStill(): Promise<void> {
    this.#still = { begun: Promise.withResolvers<void>(), over: Promise.withResolvers<void>() };
    await this.#still.begun.promise;
  }

  goOn(): void {
    this.#still?.over.resolve();
    this.#still = null;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms >= LONG_WAIT_MS && this.#still !== null) {
      this.#still.begun.resolve();
      await this.#still.over.promise;
    }
    await HURRIED_CLOCK.sleep(ms, signal);
  }
}

const clock = new OutageClock();
let scene: SourceScene;
let host: SourceHost;
let engine: HostEngine;
let healthy: Switches;

before(async () => {
  scene = await startScene({
    edition: 'free',
    datastores: [{ name: 'ds', type: 'VMFS-5', rawFrozenRead: 'allow' }],
    vms: [
      { name: NAME, datastore: 'ds', running: true, disks: [{ sizeBytes: 96 * MIB, fill: { percent: 95, seed: 1 } }] },
    ],
  });
  healthy = (await scene.lab.state()).switches;
  host = await scene.connect({ clock });
  engine = await openHostEngine(scene, host, clock);
});
afterEach(async () => {
  await scene.lab.set(healthy);
});
after(async () => {
  await engine.close();
  await scene.close();
});

/**
 * Takes the host off the network once so much has arrived; `gone` then tells how much of the disk that was. Reading is
 * slow until then, and stands still while the host leaves, so that it is not over before.
 */
function leaveAfter(bytes: number): { hooks: Pick<BackupHooks, 'progress' | 'budget'>; gone: Promise<number> } {
  const { promise: gone, resolve, reject } = Promise.withResolvers<number>();
  let isLeaving = false;
  let isGone = false;
  const leave = async (doneBytes: number): Promise<void> => {
    await scene.lab.set({ ssh: 'off', https: 'off' });
    assert.ok((await scene.lab.killSessions()) > 0, 'the host had nobody to leave');
    isGone = true;
    resolve(doneBytes);
  };
  return {
    gone,
    hooks: {
      progress: ({ doneBytes }) => {
        if (isLeaving || doneBytes < bytes) return;
        isLeaving = true;
        leave(doneBytes).catch(reject);
      },
      budget: () => {
        if (isGone) return null;
        return isLeaving ? gone.then(() => undefined) : delay(500);
      },
    },
  };
}

test('a run waits for a host that is away for a while, and goes on where it was', async () => {
  const { hooks, gone } = leaveAfter(8 * MIB);
  const triedInVain = clock.standStill();
  const running = engine.back(NAME, { hooks });
  await gone;
  await triedInVain;
  await scene.lab.set(healthy);
  clock.goOn();

  const result = await running;

  assert.equal(result.state, 'success', JSON.stringify(result.error));
  assert.ok(result.stats.readBytes < 2 * result.stats.nominalBytes);
  await engine.assertRestores(result.pointId ?? '', result.frozen);
  await scene.assertClean();
});

test('a run that is cancelled while its host is away ends at once', async () => {
  const cancel = new AbortController();
  const { hooks, gone } = leaveAfter(8 * MIB);
  const hold = 'dozo-0123456789abcdef';
  const running = engine.back(NAME, { hold, hooks: { ...hooks, signal: cancel.signal } });
  await gone;
  cancel.abort();

  const result = await running;

  assert.equal(result.state, 'cancelled');
  assert.equal(result.holdReleased, false);
  await scene.lab.set(healthy);
  assert.deepEqual((await host.sweep([hold])).failed, []);
  await scene.assertClean();
});

test('a run whose host stays away fails by name; the next one stores nothing twice', async () => {
  await scene.lab.write(await scene.lab.vmId(NAME), { count: 600, blockBytes: 65536, seed: 9 });
  const { hooks, gone } = leaveAfter(8 * MIB);
  const running = engine.back(NAME, { hooks: { ...hooks, checkpointEveryBytes: 2 * MIB } });
  const arrivedBytes = await gone;

  const failed = await running;

  assert.equal(failed.state, 'failed');
  assert.equal(failed.error?.code, 'HOST_CONNECTION_LOST');
  assert.equal(failed.holdReleased, false);
  await scene.lab.set(healthy);
  const swept = await host.sweep([failed.hold]);
  assert.deepEqual(swept.failed, []);
  await scene.assertClean();

  const next = await engine.back(NAME);

  assert.equal(next.state, 'success', JSON.stringify(next.error));
  assert.ok(next.stats.duplicateBytes + next.stats.zeroBytes >= arrivedBytes, JSON.stringify(next.stats));
  await engine.assertRestores(next.pointId ?? '', next.frozen);
  await engine.assertStoreIsClean();
  await scene.assertClean();
});
