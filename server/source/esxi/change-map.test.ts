import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { totalBytes } from '../../disk/index.ts';
import { AppError, isAppError } from '../../errors/index.ts';
import {
  distrust,
  encodeChangeToken,
  explainQueryFailure,
  parseChangeId,
  parseChangeToken,
  queryChanges,
} from './change-map.ts';

const EPOCH = '52 2d 7b 8f ac 61 51 cc-77 4c 7b ec 91 50 bb 7b';
const TOKEN = { changeId: `${EPOCH}/4`, diskUuid: '60 00 C2 9a-11', tip: '[ds 1] a b/ü.vmdk', bootedAtMs: 5 };
const NOW = {
  changeId: `${EPOCH}/7`,
  diskUuid: '6000c29a-11',
  sizeBytes: 100,
  chain: ['[ds 1] a b/ü.vmdk'],
  bootedAtMs: 6,
};
const REFERENCE = { type: 'VirtualMachine', value: '1' };

test('keeps a token through its text', () => {
  assert.deepEqual(parseChangeToken(encodeChangeToken(TOKEN)), TOKEN);
  const off = { ...TOKEN, bootedAtMs: null };
  assert.deepEqual(parseChangeToken(encodeChangeToken(off)), off);
  const earlier = encodeChangeToken(TOKEN).replace(/ 5$/, '');
  assert.deepEqual(parseChangeToken(earlier), off);
  assert.equal(parseChangeToken('cbt1 x y z'), null);
  assert.equal(parseChangeToken('cbt1 %E0%A4%A y z'), null);
  assert.deepEqual(parseChangeId(`${EPOCH}/12`), { epoch: '522d7b8fac6151cc774c7bec9150bb7b', sequence: 12 });
  assert.equal(parseChangeId('*'), null);
});

const since = { changeToken: encodeChangeToken(TOKEN), sizeBytes: 100 };
/** Of a machine that had a snapshot of its own then. */
const LAYER = '[ds 1] a b/ü-000001.vmdk';
const layered = (bootedAtMs: number | null): typeof since => ({
  ...since,
  changeToken: encodeChangeToken({ ...TOKEN, tip: LAYER, bootedAtMs }),
});
const onLayer = { ...NOW, chain: [LAYER, ...NOW.chain] };
for (const [code, before, now] of [
  [null, since, NOW],
  [null, since, { ...NOW, chain: ['[ds 1] a b/ü-000002.vmdk', ...NOW.chain] }],
  ['CHANGES_TOKEN_UNREADABLE', { ...since, changeToken: 'x' }, NOW],
  ['CHANGES_DISK_RESIZED', { ...since, sizeBytes: 50 }, NOW],
  ['CHANGES_DISK_REPLACED', since, { ...NOW, diskUuid: '60 00 C2 9a-12' }],
  ['CHANGES_TRACKING_RESET', since, { ...NOW, changeId: `53${EPOCH.slice(2)}/7` }],
  ['CHANGES_REVERTED', since, { ...NOW, changeId: `${EPOCH}/3` }],
  ['CHANGES_CHAIN_CHANGED', since, { ...NOW, chain: ['[ds 1] a b/ü-000003.vmdk'] }],
  [null, layered(6), onLayer],
  [null, layered(6), { ...onLayer, chain: ['[ds 1] a b/ü-000002.vmdk', ...onLayer.chain] }],
  ['CHANGES_MAYBE_REVERTED', layered(5), onLayer],
  ['CHANGES_MAYBE_REVERTED', layered(null), onLayer],
  ['CHANGES_MAYBE_REVERTED', layered(null), { ...onLayer, bootedAtMs: null }],
] as const) {
  const { tip, bootedAtMs } = parseChangeToken(before.changeToken) ?? { tip: 'unreadable', bootedAtMs: null };
  const when = `${String(bootedAtMs)} and ${String(now.bootedAtMs)}`;
  test(`trust in a change map: ${code ?? 'granted'}, ${tip} in a chain of ${String(now.chain.length)}, on since ${when}`, () => {
    assert.equal(distrust(before, { ...now, chain: [...now.chain] })?.code ?? null, code);
  });
}

type Reply = Awaited<ReturnType<Parameters<typeof queryChanges>[0]['queryChangedDiskAreas']>>;

async function query(replies: (Reply | Error)[], sizeBytes: number) {
  const asked: number[] = [];
  const areas = await queryChanges(
    {
      queryChangedDiskAreas: async ({ startOffsetBytes }) => {
        asked.push(startOffsetBytes);
        const reply = replies[asked.length - 1];
        assert.ok(reply !== undefined, 'asked for more windows than there are');
        if (reply instanceof Error) throw reply;
        return Promise.resolve(reply);
      },
    },
    {
      machine: REFERENCE,
      snapshot: null,
      deviceKey: 2000,
      sizeBytes,
      changeId: '*',
      signal: new AbortController().signal,
    },
  );
  return { areas, asked };
}

function window(startOffsetBytes: number, lengthBytes: number, ...areas: [number, number][]): Reply {
  return {
    startOffsetBytes,
    lengthBytes,
    areas: areas.map(([offset, length]) => ({ offsetBytes: offset, lengthBytes: length })),
  };
}

test('moves the window on until the disk was answered for, and joins areas', async () => {
  const { areas, asked } = await query(
    [window(0, 40, [10, 30]), window(40, 40, [40, 10]), window(80, 30, [90, 20])],
    100,
  );
  assert.deepEqual(asked, [0, 40, 80]);
  assert.deepEqual(areas, [
    { offsetBytes: 10, lengthBytes: 40 },
    { offsetBytes: 90, lengthBytes: 10 },
  ]);
});

for (const [what, reply] of [
  ['a window that begins elsewhere', window(8, 92)],
  ['a window without length', window(0, 0)],
  ['overlapping areas', window(0, 100, [0, 50], [40, 10])],
  ['areas out of order', window(0, 100, [50, 10], [0, 10])],
  ['an area before its window', window(0, 100, [-8, 16])],
  ['an area past its window', window(0, 50, [40, 20])],
  ['an area without length', window(0, 100, [40, 0])],
] as const) {
  test(`refuses a change map: ${what}`, async () => {
    await assert.rejects(query([reply], 100), { code: 'CHANGE_MAP_INVALID' });
  });
}

test('whatever the host answers, areas lie in the disk or the map is refused', async () => {
  const area = fc.tuple(fc.integer({ min: -20, max: 200 }), fc.integer({ min: -5, max: 200 }));
  const reply = fc.record({
    start: fc.integer({ min: 0, max: 120 }),
    length: fc.integer({ min: 0, max: 200 }),
    areas: fc.array(area, { maxLength: 4 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(reply, { minLength: 1, maxLength: 4 }), async (replies) => {
      const last = window(0, 0);
      try {
        const { areas } = await query([...replies.map((r) => window(r.start, r.length, ...r.areas)), last], 100);
        let end = 0;
        for (const { offsetBytes, lengthBytes } of areas) {
          assert.ok(offsetBytes >= end && lengthBytes > 0);
          end = offsetBytes + lengthBytes;
        }
        assert.ok(end <= 100 && totalBytes(areas) <= 100);
      } catch (error) {
        assert.ok(isAppError(error) && error.code === 'CHANGE_MAP_INVALID', String(error));
      }
    }),
  );
});

for (const [code, error] of [
  ['CHANGES_LICENSE', new AppError('HOST_LICENSE_REFUSES', 'x')],
  ['CHANGES_NOT_TRACKED', fault('FileFault', 'vim.hostd.vmsvc.cbt.noTrack')],
  ['CHANGES_NO_MAP', fault('FileFault', 'vim.hostd.vmsvc.cbt.noEpoch')],
  ['CHANGES_UNKNOWN', fault('FileFault', 'vim.hostd.vmsvc.cbt.cannotGetChanges')],
  ['CHANGES_POINT_UNKNOWN', fault('InvalidArgument', '')],
  [null, fault('ManagedObjectNotFound', '')],
  [null, new AppError('HOST_UNREACHABLE', 'x')],
  [null, new Error('x')],
] as const) {
  test(`explains a refused query: ${code ?? 'not one of change tracking'}`, () => {
    assert.equal(explainQueryFailure(error)?.code ?? null, code);
  });
}

function fault(name: string, key: string): AppError {
  return new AppError('SOAP_FAULT', 'x', { details: { fault: name, key } });
}
