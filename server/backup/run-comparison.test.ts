import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { DiskResult } from '../contract/run.ts';
import type { PointManifest } from '../repository/index.ts';
import { GIB, MIB } from '../runtime/index.ts';

import { compareAmounts } from './run-comparison.ts';

function previous(kind: DiskResult['kind'], deliveredBytes: number): PointManifest {
  const stats = { nominalBytes: GIB, zeroBytes: 0, duplicateBytes: 0, newBytes: 0, storedBytes: 0, deliveredBytes };
  return {
    pointId: 'p',
    kind: 'disk-image',
    createdAtMs: 0,
    machineId: 'm',
    machineName: 'web',
    state: 'complete',
    stateReasons: [],
    disks: [{ key: 'scsi0:0', sizeBytes: GIB, rootHash: '', changeToken: null, facts: null, stats }],
    machine: null,
    evidence: {
      version: 1,
      runId: 'r',
      hold: 'h',
      frozenAtMs: 0,
      consistency: { level: 'crash', requested: 'off', evidence: '' },
      disks: [{ key: 'scsi0:0', kind, why: '', route: null, verifiedBytes: 0 }],
      missing: [],
    },
    rootHash: '',
    previousPointId: null,
    previousRootHash: null,
  };
}

function now(kind: DiskResult['kind'], readBytes: number): DiskResult[] {
  const stats = { nominalBytes: GIB, readBytes, sentBytes: 0, storedBytes: 0, zeroBytes: 0, duplicateBytes: 0 };
  const why = { atMs: 0, level: 'info', code: 'X', text: 'The tracking was reset.' } as const;
  return [
    { key: 'scsi0:0', label: 'Disk 1', sizeBytes: GIB, kind, why, route: null, stats, seconds: 0, bottleneck: null },
  ];
}

function codes(before: PointManifest, results: DiskResult[]): string[] {
  return compareAmounts(before, results).map((note) => note.code);
}

test('says when much more or much less changed than last time', () => {
  assert.deepEqual(codes(previous('changed', 100 * MIB), now('changed', 900 * MIB)), ['DIFFERENCE_MUCH_MORE']);
  assert.deepEqual(codes(previous('changed', 900 * MIB), now('changed', 10 * MIB)), ['DIFFERENCE_MUCH_LESS']);
});

test('says when a chain of changes is broken by a full read, and why', () => {
  const notes = compareAmounts(previous('changed', 100), now('allocated', GIB));
  assert.equal(notes[0]?.code, 'DIFFERENCE_FULL_AGAIN');
  assert.match(notes[0].text, /tracking was reset/);
});

test('stays silent about noise and about the first changes after a full read', () => {
  assert.deepEqual(codes(previous('changed', 100), now('changed', 10_000)), []);
  assert.deepEqual(codes(previous('allocated', GIB), now('changed', MIB)), []);
  assert.deepEqual(codes(previous('changed', 100 * MIB), now('changed', 200 * MIB)), []);
});
