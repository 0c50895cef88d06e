import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinNames, splitPath, visibleName } from './guest-path.ts';

test('a path and its names are the same thing', () => {
  assert.equal(joinNames([]), '/');
  assert.deepEqual(splitPath('/'), []);
  const names = ['etc', 'a b', '日本語', '..', 'C:\\x', '%2F?&#'];
  assert.deepEqual(splitPath(joinNames(names)), names);
  assert.deepEqual(splitPath('//a///b/'), ['a', 'b']);
});

test('a name shows what is hidden in it', () => {
  assert.equal(visibleName('new\nline\u0007\u007f'), 'new\ufffdline\ufffd\ufffd');
  assert.equal(visibleName('photo\u202Egpj.exe'), 'photo\ufffdgpj.exe');
  assert.equal(visibleName('שרת 日本 ü 🗄️'), 'שרת 日本 ü 🗄️');
});
