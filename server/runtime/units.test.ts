import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, GIB, KIB, MIB } from './units.ts';

test('a size has three digits at most before its unit, also where rounding would make a fourth', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.98 KiB'],
    [1.5 * GIB, '1.50 GiB'],
    [9.996 * MIB, '10.0 MiB'],
    [99.96 * MIB, '100 MiB'],
    [999.4 * KIB, '999 KiB'],
    [999.6 * KIB, '0.98 MiB'],
    [2 ** 50 * 5000, '5000 PiB'],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text, String(bytes));
});
