import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinNames, splitPath } from './guest-path.ts';

test('a path and its names are the same thing', () => {
  assert.equal(joinNames([]), '/');
  assert.deepEqual(splitPath('/'), []);
  const names = ['etc', 'a b', '日本語', '..', 'C:\\x', '%2F?&#'];
  assert.deepEqual(splitPath(joinNames(names)), names);
  assert.deepEqual(splitPath('//a///b/'), ['a', 'b']);
});
