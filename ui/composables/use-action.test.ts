import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextTick, reactive } from 'vue';
import { useAction } from './use-action.ts';

test('what failed is told until what it was about is changed', async () => {
  const form = reactive({ path: 'Dozo' });
  const save = useAction(
    () => Promise.reject(new Error('refused')),
    () => form,
  );
  await save.run();
  assert.ok(save.error.value !== null);
  form.path = '/volume1/Dozo';
  await nextTick();
  assert.equal(save.error.value, null);
});

test('a failure that is about nothing stays until the next attempt', async () => {
  const save = useAction(() => Promise.reject(new Error('refused')));
  await save.run();
  await nextTick();
  assert.ok(save.error.value !== null);
});
