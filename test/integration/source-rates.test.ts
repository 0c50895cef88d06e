import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { HostFacts, RouteName } from '../../server/source/index.ts';
import { assertTruth, findMachine, MIB, readAll, startScene, type ReadBack, type SourceScene } from './source-scene.ts';

/** So small disks are a measure here, with the speeds that the test writes in. */
const LIMITS = { measuredBytesMin: 1 * MIB };
const TYPE = 'VMFS-5';
let scene: SourceScene;

before(async () => {
  scene = await startScene({
    edition: 'free',
    datastores: [{ name: 'five', type: TYPE, rawFrozenRead: 'allow' }],
    vms: [
      {
        name: 'web',
        datastore: 'five',
        running: true,
        disks: [{ sizeBytes: 8 * MIB, fill: { percent: 100, seed: 1 } }],
      },
    ],
  });
});
after(async () => await scene.close());

/** Reads the disk as a new process would that was told the facts of the last one. */
async function read(
  facts: HostFacts | undefined,
  isHeld = false,
): Promise<{ disk: ReadBack; facts: HostFacts; codes: string[] }> {
  scene.notes.length = 0;
  const host = await scene.connect({ limits: LIMITS, ...(facts && { facts }) });
  const frozen = await host.freeze(scene.request(await findMachine(host, 'web')));
  const disks = await readAll(frozen, undefined, isHeld ? async () => await Promise.resolve() : undefined);
  await assertTruth(disks, await scene.lab.frozenCopy(await scene.lab.vmId('web'), scene.holds.at(-1) ?? ''));
  await frozen.thaw();
  await host.close();
  const disk = disks['scsi0:0'];
  assert.ok(disk !== undefined);
  return { disk, facts: host.facts, codes: scene.notes.map(({ code }) => code) };
}

function withRates(facts: HostFacts, mibPerSecond: Partial<Record<RouteName, number>>): HostFacts {
  const rates = Object.entries(mibPerSecond).map(([route, mib]) => [
    route,
    { bytesPerSecond: mib * MIB, atMs: Date.now() },
  ]);
  return { ...facts, rates: { [TYPE]: Object.fromEntries(rates) as Record<string, never> } };
}

test('reads by the faster route of former runs, after each was tried once', async () => {
  const first = await read(undefined);
  assert.equal(first.disk.route, 'ssh-raw');
  assert.ok((first.facts.rates?.[TYPE]?.['ssh-raw']?.bytesPerSecond ?? 0) > 0);

  const second = await read(first.facts);
  assert.equal(second.disk.route, 'https-folder');
  assert.ok(second.codes.includes('ROUTE_TRIAL'));
  assert.ok((second.facts.rates?.[TYPE]?.['https-folder']?.bytesPerSecond ?? 0) > 0);

  const third = await read(withRates(second.facts, { 'ssh-raw': 40, 'https-folder': 90 }));
  assert.equal(third.disk.route, 'https-folder');
  const told = scene.notes.find(({ code }) => code === 'ROUTE_MEASURED');
  assert.deepEqual(
    [told?.details?.['route'], told?.details?.['speedBytes'], told?.details?.['otherRoute']],
    ['https-folder', 90 * MIB, 'ssh-raw'],
  );

  const fourth = await read(withRates(second.facts, { 'ssh-raw': 90, 'https-folder': 40 }));
  assert.equal(fourth.disk.route, 'ssh-raw');
});

test('forgets what was measured before an update of the host', async () => {
  const { facts } = await read(undefined);
  const before = { ...withRates(facts, { 'ssh-raw': 1, 'https-folder': 900 }), build: 'older' };

  const { disk, codes } = await read(before);

  assert.equal(disk.route, 'ssh-raw');
  assert.ok(!codes.includes('ROUTE_TRIAL') && !codes.includes('ROUTE_MEASURED'));
});

test('takes a transfer that is held to a speed for no measure', async () => {
  const { facts } = await read(undefined, true);

  assert.equal(facts.rates, undefined);
});
