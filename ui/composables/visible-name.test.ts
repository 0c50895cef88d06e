import assert from 'node:assert/strict';
import { test } from 'node:test';
import { visibleName } from './visible-name.ts';

test('a name shows what is hidden in it', () => {
  assert.equal(visibleName('new\nline\u0007\u007f'), 'new\ufffdline\ufffd\ufffd');
  assert.equal(visibleName('photo\u202Egpj.exe'), 'photo\ufffdgpj.exe');
  assert.equal(visibleName('שרת 日本 ü 🗄️'), 'שרת 日本 ü 🗄️');
});
