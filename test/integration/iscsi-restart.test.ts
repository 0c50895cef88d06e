/** The host loses its power while it copies a disk over iSCSI. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { SharedPortal } from '../../server/iscsi/index.ts';
import { randomHex, systemClock, type Clock } from '../../server/runtime/index.ts';
import { startIscsiScene, type IscsiScene } from './iscsi-scene.ts';
import { HURRIED_CLOCK, MIB } from './source-scene.ts';

const SIZE_BYTES = 24 * MIB;
/** So much of the disk is copied when the power goes. */
const COPIED_PERCENT = 40;
const CHUNK_BYTES = 64 * 1024;
const ISCSI = { portal: new SharedPortal({ bind: '127.0.0.1' }), address: null };
/** So long a copy is left alone between two looks. */
const BETWEEN_LOOKS_MS = 1_000;
let scene: IscsiScene;

/** Goes three times as fast, and stands still from the copy's so manyth look until it is released. */
class HoldingClock implements Clock {
  readonly nowMs = (): number => systemClock.nowMs();
  readonly monotonicMs = (): number => systemClock.monotonicMs();
  readonly #held = Promise.withResolvers<void>();
  readonly #released = Promise.withResolvers<void>();
  #looks: number;

  constructor(looks: number) {
    this.#looks = looks;
  }

  get held(): Promise<void> {
    return this.#held.promise;
  }

  release(): void {
    this.#released.resolve();
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms === BETWEEN_LOOKS_MS && this.#looks-- <= 0) {
      this.#held.resolve();
      await this.#released.promise;
    }
    await systemClock.sleep(ms / 3, signal);
  }
}

before(async () => {
  scene = await startIscsiScene({
    edition: 'free',
    datastores: [{ name: 'six', type: 'VMFS-6' }],
    vms: [
      {
        name: 'web',
        datastore: 'six',
        running: true,
        disks: [{ sizeBytes: SIZE_BYTES, fill: { percent: 95, seed: 7 } }],
      },
    ],
  });
});
afterEach(async () => {
  await scene.lab.set({ cloneWaitsAtPercent: null });
  await scene.assertUntouched();
  assert.deepEqual((await scene.repository.check({ depth: 'hashes' })).damages, []);
});
after(async () => await scene.close());

for (const [looks, when] of [
  [0, 'before the copy was looked after'],
  [1, 'after the copy was looked after'],
] as const) {
  test(`a run goes on by itself after the host was restarted ${when}`, async () => {
    await scene.lab.set({ cloneWaitsAtPercent: COPIED_PERCENT });
    const hold = `dozo-${randomHex(8)}`;
    const clock = new HoldingClock(looks);
    const host = await scene.connect({ clock, iscsi: ISCSI });
    const backing = scene.back('web', { hold, host, clock });
    await Promise.all([scene.lab.cloneWaits(), clock.held]);
    await scene.lab.losePower();
    // The number that the copy's process had is another one's after the restart.
    await writeFile(scene.lab.localPath(`/vmfs/volumes/six/.${hold}/scsi0-0-iscsi.pid`), '1\n');
    const left = await scene.lab.iscsi();
    assert.deepEqual([left.enabled, left.statics.length, left.sessions, left.devices], [true, 1, [], []]);
    await scene.lab.set({ cloneWaitsAtPercent: null });
    await scene.lab.boot();
    clock.release();

    const { result, lines } = await backing;

    assert.equal(result.state, 'success', JSON.stringify([result.error, lines], null, 1));
    assert.equal(result.disks[0]?.route, 'iscsi-clone');
    const resumed = lines.find(({ code }) => code === 'TRANSFER_RESUMED');
    assert.equal(resumed?.details?.['cause'], 'DISK_CLONE_INTERRUPTED', JSON.stringify(lines, null, 1));
    await scene.assertEqualsFrozen(result.pointId ?? '', 'web', hold);
  });
}

test('a run whose host stays away ends by name; what it left is swept, and the next run stores the rest', async () => {
  // The first half is new to the repository.
  const data = randomBytes(SIZE_BYTES / 2);
  await scene.lab.writeAt(await scene.lab.vmId('web'), 'scsi0:0', [{ offsetBytes: 0, data }]);
  const host = await scene.connect({ clock: HURRIED_CLOCK, iscsi: ISCSI });
  await scene.lab.set({ cloneWaitsAtPercent: COPIED_PERCENT });
  const backing = scene.back('web', { host, clock: HURRIED_CLOCK });
  await scene.lab.cloneWaits();
  await scene.lab.losePower();
  const { result: failed, hold } = await backing;
  assert.deepEqual([failed.state, failed.error?.code], ['failed', 'HOST_CONNECTION_LOST']);
  assert.equal(failed.holdReleased, false);

  await scene.lab.set({ cloneWaitsAtPercent: null });
  await scene.lab.boot({ autostart: false });
  const swept = await scene.host.sweep([hold]);
  assert.deepEqual(swept.failed, []);
  const removed = new Set(swept.removed.map(({ what }) => what));
  for (const what of ['iSCSI target', 'iSCSI settings', 'snapshot of web'])
    assert.ok(removed.has(what), `${what} is not among ${[...removed].join(', ')}`);
  await scene.assertUntouched();

  await scene.lab.power(await scene.lab.vmId('web'), 'on');
  const next = await scene.back('web');

  assert.equal(next.result.state, 'success', JSON.stringify(next.result.error));
  assert.equal(next.result.disks[0]?.route, 'iscsi-clone');
  const { duplicateBytes, zeroBytes } = next.result.stats;
  const arrivedBytes = (SIZE_BYTES * COPIED_PERCENT) / 100 - CHUNK_BYTES;
  assert.ok(duplicateBytes + zeroBytes >= SIZE_BYTES / 2 + arrivedBytes, JSON.stringify(next.result.stats));
  await scene.assertEqualsFrozen(next.result.pointId ?? '', 'web', next.hold);
  assert.deepEqual((await scene.host.sweep([hold])).removed, []);
});
