import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinNames, placeOf, queryOf, splitPath } from './guest-path.ts';

test('a path and its names are the same thing', () => {
  assert.equal(joinNames([]), '/');
  assert.deepEqual(splitPath('/'), []);
  const names = ['etc', 'a b', '日本語', '..', 'C:\\x', '%2F?&#'];
  assert.deepEqual(splitPath(joinNames(names)), names);
  assert.deepEqual(splitPath('//a///b/'), ['a', 'b']);
});

test('a place in an address is found again, and what names none is none', () => {
  const nowhere = { diskKey: null, volume: null, names: [] };
  for (const place of [
    nowhere,
    { diskKey: 'scsi0:0', volume: null, names: [] },
    { diskKey: 'scsi0:0', volume: 0, names: [] },
    { diskKey: null, volume: 2, names: ['etc', 'a b', '日本語'] },
  ]) {
    const { disk, volume, path } = queryOf(place);
    const query = { disk: text(disk), volume: text(volume), path: text(path) };
    assert.deepEqual(placeOf(query as Parameters<typeof placeOf>[0]), place);
  }
  assert.deepEqual(placeOf({ disk: ['a', 'b'], volume: '-1', path: null }), nowhere);
});

/** As an address carries it. */
function text(value: string | number | undefined): string | undefined {
  return value === undefined ? undefined : String(value);
}
