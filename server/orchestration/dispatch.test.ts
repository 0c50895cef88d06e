import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chooseParts, priorityOf, type DispatchPart } from './dispatch.ts';

const MANY = { tasksPerHost: 100, tasksPerDatastore: 100, tasksPerRepository: 100, tasksInTotal: 100 };

function part(id: string, facts: Partial<DispatchPart> = {}): DispatchPart {
  return {
    id,
    machineId: null,
    hostId: 'h1',
    datastores: ['ds1'],
    repositoryId: 'r1',
    priority: 3,
    isAwaited: false,
    isEnqueued: false,
    ...facts,
  };
}

describe('choosing parts for the queue', () => {
  it('holds every limit, also against what is handed over already', () => {
    const parts = [part('a', { isEnqueued: true }), part('b'), part('c'), part('d')];
    assert.deepEqual(chooseParts(parts, MANY), ['b', 'c', 'd']);
    for (const name of ['tasksPerHost', 'tasksPerDatastore', 'tasksPerRepository', 'tasksInTotal']) {
      assert.deepEqual(chooseParts(parts, { ...MANY, [name]: 2 }), ['b'], name);
      assert.deepEqual(chooseParts(parts, { ...MANY, [name]: 1 }), [], name);
    }
  });

  it('has a machine in one place at a time, be it of two jobs or while it is replaced', () => {
    const one = { machineId: 'm1' };
    assert.deepEqual(chooseParts([part('a', one), part('b', one), part('c', { machineId: 'm2' })], MANY), ['a', 'c']);
    const restore = part('restore', { ...one, isAwaited: true, priority: 1, isEnqueued: true });
    assert.deepEqual(chooseParts([restore, part('a', one), part('b')], MANY), ['b']);
  });

  it('lets others pass one that has to wait', () => {
    const parts = [
      part('a', { isEnqueued: true }),
      part('same host'),
      part('other host', { hostId: 'h2' }),
      part('no host', { hostId: null, datastores: [] }),
    ];
    assert.deepEqual(chooseParts(parts, { ...MANY, tasksPerHost: 1 }), ['other host', 'no host']);
  });

  it('counts a machine on each of its datastores, and sets those of two hosts apart', () => {
    const parts = [
      part('a', { datastores: ['ds1', 'ds2', 'ds1'], isEnqueued: true }),
      part('b', { datastores: ['ds3', 'ds2'] }),
      part('c', { datastores: ['ds3'] }),
      part('d', { datastores: ['ds2'], hostId: 'h2' }),
    ];
    assert.deepEqual(chooseParts(parts, { ...MANY, tasksPerDatastore: 1 }), ['c', 'd']);
  });

  it('puts what is more urgent first and keeps the order of the rest', () => {
    const parts = [
      part('low', { priority: priorityOf('backup', { priority: 'low' }) }),
      part('check', { priority: priorityOf('check', null) }),
      part('normal 1', { priority: priorityOf('backup', { priority: 'normal' }) }),
      part('normal 2', { priority: priorityOf('backup', null) }),
      part('high', { priority: priorityOf('backup', { priority: 'high' }) }),
      part('restore', { priority: priorityOf('restore', null), isAwaited: true }),
    ];
    assert.deepEqual(chooseParts(parts, MANY), ['restore', 'high', 'normal 1', 'normal 2', 'low', 'check']);
    assert.deepEqual(chooseParts(parts, { ...MANY, tasksInTotal: 2 }), ['restore', 'high']);
  });

  it('keeps one place beyond every limit for a restore, and lets no backup take it', () => {
    const restore = { priority: 1, isAwaited: true };
    for (const name of ['tasksPerHost', 'tasksPerDatastore', 'tasksPerRepository', 'tasksInTotal']) {
      const limits = { ...MANY, [name]: 2 };
      const full = [part('a', { isEnqueued: true }), part('b', { isEnqueued: true })];
      assert.deepEqual(chooseParts([...full, part('c'), part('r', restore)], limits), ['r'], name);
      const beyond = [...full, part('r', { ...restore, isEnqueued: true })];
      assert.deepEqual(chooseParts([...beyond, part('c'), part('r 2', restore)], limits), [], name);
      const lowered = [...full, part('x', { isEnqueued: true }), part('y', { isEnqueued: true })];
      assert.deepEqual(chooseParts([...lowered, part('r', restore), part('r 2', restore)], limits), ['r'], name);
      // Beside one backup there is room for two; restores alone keep to the limit.
      const waiting = [part('r 1', restore), part('r 2', restore), part('r 3', restore)];
      assert.deepEqual(chooseParts([...full.slice(1), ...waiting], limits), ['r 1', 'r 2'], name);
      assert.deepEqual(chooseParts([...waiting, part('c')], limits), ['r 1', 'r 2'], name);
    }
  });
});
