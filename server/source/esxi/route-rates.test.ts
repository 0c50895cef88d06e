import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GIB, MIB } from '../../runtime/index.ts';
import type { RouteName, RouteRates } from '../source.ts';
import { addRate, chooseRoute, MEASURED_BYTES_MIN, type RouteChoice, type RouteQuestion } from './route-rates.ts';

const DAY_MS = 24 * 3_600_000;
const NOW_MS = 1_800_000_000_000;
const ALL: RouteName[] = ['ssh-raw', 'https-folder', 'iscsi-clone', 'nfs-clone', 'host-clone'];

/** `{'ssh-raw': 50}` in MiB/s on VMFS-6, measured so many days ago. */
function rates(known: Partial<Record<RouteName, number>>, daysAgo = 1): RouteRates {
  let all: RouteRates = {};
  for (const [route, mibPerSecond] of Object.entries(known)) {
    const bytesPerSecond = mibPerSecond * MIB;
    const atMs = NOW_MS - daysAgo * DAY_MS;
    all = addRate(all, { datastoreType: 'VMFS-6', route: route as RouteName, bytesPerSecond, atMs });
  }
  return all;
}

function choose(known: RouteRates | undefined, question: Partial<RouteQuestion> = {}): RouteChoice {
  return chooseRoute({
    routes: ALL,
    rates: known,
    datastoreType: 'VMFS-6',
    wantedBytes: 10 * GIB,
    sizeBytes: 10 * GIB,
    nowMs: NOW_MS,
    measuredBytesMin: MEASURED_BYTES_MIN,
    ...question,
  });
}

test('takes the usual order as long as nothing was measured, in whatever order the routes were found', () => {
  for (const known of [undefined, {}, rates({ 'iscsi-clone': 500 })]) {
    assert.deepEqual(choose(known, { routes: ALL.toReversed() }).routes[0], 'ssh-raw');
  }
  assert.deepEqual(choose(undefined, { routes: ALL.toReversed() }).routes, ALL);
});

test('gives each untried route one chance, then takes the fastest', () => {
  const speeds: Record<string, number> = { 'ssh-raw': 40, 'https-folder': 90, 'iscsi-clone': 60, 'nfs-clone': 10 };
  let known: RouteRates = {};
  const taken: string[] = [];
  for (let run = 0; run < 8; run += 1) {
    const { routes, reason } = choose(known);
    const route = routes[0] ?? 'host-clone';
    taken.push(`${route} ${reason}`);
    const bytesPerSecond = (speeds[route] ?? 0) * MIB;
    known = addRate(known, { datastoreType: 'VMFS-6', route, bytesPerSecond, atMs: NOW_MS });
  }

  assert.deepEqual(taken, [
    'ssh-raw preferred',
    'https-folder trial',
    'iscsi-clone trial',
    'nfs-clone trial',
    ...Array.from({ length: 4 }, () => 'https-folder measured'),
  ]);
});

test('names what it is compared with', () => {
  const choice = choose(rates({ 'ssh-raw': 40, 'https-folder': 90, 'iscsi-clone': 200, 'nfs-clone': 10 }));

  assert.deepEqual(choice, {
    routes: ['iscsi-clone', 'https-folder', 'ssh-raw', 'nfs-clone', 'host-clone'],
    reason: 'measured',
    bytesPerSecond: 200 * MIB,
    otherRoute: 'ssh-raw',
    otherBytesPerSecond: 40 * MIB,
  });
});

test('never copies on the host only to see how fast that is', () => {
  const choice = choose(rates({ 'nfs-clone': 1 }), { routes: ['nfs-clone', 'host-clone'] });

  assert.deepEqual([choice.routes[0], choice.reason], ['nfs-clone', 'preferred']);
});

test('stays with the usual route where another is a little faster', () => {
  const routes: RouteName[] = ['ssh-raw', 'https-folder'];
  assert.equal(choose(rates({ 'ssh-raw': 50, 'https-folder': 59 }), { routes }).routes[0], 'ssh-raw');
  assert.equal(choose(rates({ 'ssh-raw': 50, 'https-folder': 61 }), { routes }).routes[0], 'https-folder');
});

test('compares the time, not the rate: a little of a large disk is read, not copied', () => {
  const routes: RouteName[] = ['ssh-raw', 'iscsi-clone'];
  const known = rates({ 'ssh-raw': 50, 'iscsi-clone': 200 });

  assert.equal(choose(known, { routes, wantedBytes: 1 * GIB, sizeBytes: 100 * GIB }).routes[0], 'ssh-raw');
  assert.equal(choose(known, { routes, wantedBytes: 99 * GIB, sizeBytes: 100 * GIB }).routes[0], 'iscsi-clone');
});

test('risks no trial by what is too small to tell, too large to bear, or copies far more than was asked for', () => {
  const routes: RouteName[] = ['ssh-raw', 'iscsi-clone'];
  const known = rates({ 'ssh-raw': 50 });
  const first = (wantedBytes: number, sizeBytes: number): string =>
    choose(known, { routes, wantedBytes, sizeBytes }).routes[0] ?? '';

  assert.equal(first(MEASURED_BYTES_MIN - 1, MEASURED_BYTES_MIN - 1), 'ssh-raw');
  assert.equal(first(MEASURED_BYTES_MIN, MEASURED_BYTES_MIN), 'iscsi-clone');
  assert.equal(first(80 * GIB, 80 * GIB), 'iscsi-clone');
  // 90 GiB by 50 MiB/s are more than half an hour.
  assert.equal(first(90 * GIB, 90 * GIB), 'ssh-raw');
  assert.equal(first(1 * GIB, 3 * GIB), 'ssh-raw');
});

test('a route that was refused is not tried again soon, and comes last', () => {
  const known = addRate(rates({ 'ssh-raw': 50, 'iscsi-clone': 20, 'nfs-clone': 10 }), {
    datastoreType: 'VMFS-6',
    route: 'https-folder',
    bytesPerSecond: 0,
    atMs: NOW_MS - 29 * DAY_MS,
  });

  assert.deepEqual(choose(known, { routes: ALL.slice(0, 4) }).routes, ALL.slice(0, 4));
  const later = choose(known, { routes: ALL.slice(0, 2), nowMs: NOW_MS + 2 * DAY_MS });
  assert.deepEqual([later.routes[0], later.reason], ['https-folder', 'trial']);
});

test('what was measured on another type of datastore, or a month ago, does not count', () => {
  const known = rates({ 'ssh-raw': 10, 'https-folder': 90 });
  const routes: RouteName[] = ['ssh-raw', 'https-folder'];
  assert.equal(choose(known, { routes, datastoreType: 'NFS' }).routes[0], 'ssh-raw');
  assert.equal(choose(known, { routes, nowMs: NOW_MS + 40 * DAY_MS }).routes[0], 'ssh-raw');
  assert.equal(choose(known, { routes }).routes[0], 'https-folder');
});

test('one bad hour counts half', () => {
  const known = addRate(rates({ 'ssh-raw': 100 }), {
    datastoreType: 'VMFS-6',
    route: 'ssh-raw',
    bytesPerSecond: 10 * MIB,
    atMs: NOW_MS,
  });
  assert.deepEqual(known['VMFS-6']?.['ssh-raw'], { bytesPerSecond: 55 * MIB, atMs: NOW_MS });
});

test('no route stays no route', () => {
  assert.deepEqual(choose(undefined, { routes: [] }).routes, []);
});
