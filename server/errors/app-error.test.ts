import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, assert as assertInvariant, isAppError, toAppError } from './index.ts';

test('an error keeps code, hint and details across a process border', () => {
  const original = new AppError('DATASTORE_FULL', 'No room on ds1.', {
    hint: 'Free 3 GiB.',
    details: { datastore: 'ds1' },
  });

  const copy = AppError.fromBody(JSON.parse(JSON.stringify(original.toBody())));

  assert.deepEqual(copy.toBody(), original.toBody());
  assert.equal(copy.retry, 'permanent');
  assert.ok(isAppError(copy));
});

test('an error of a newer version becomes INTERNAL and keeps its sentence', () => {
  const copy = AppError.fromBody({ code: 'FROM_THE_FUTURE' as never, message: 'Later.', details: {} });

  assert.equal(copy.code, 'INTERNAL');
  assert.equal(copy.message, 'Later.');
});

test('what nobody foresaw is INTERNAL with its cause, an abort is CANCELLED', () => {
  const cause = new TypeError('x is undefined');

  assert.equal(toAppError(cause).code, 'INTERNAL');
  assert.equal(toAppError(cause).cause, cause);
  assert.equal(toAppError(AbortSignal.abort().reason).code, 'CANCELLED');
});

test('a broken invariant stops', () => {
  assert.throws(() => assertInvariant(1 > 2, 'one is more than two'), /Broken invariant: one is more than two/);
});
