import { ref, watch, type Ref } from 'vue';
import { toErrorBody } from '../api/client.ts';
import type { ErrorBody } from '../api/types.ts';

interface Action<A extends unknown[]> {
  isBusy: Ref<boolean>;
  error: Ref<ErrorBody | null>;
  /** Does nothing while it is at work already: a double click is one click. */
  run(...input: A): Promise<void>;
}

/**
 * Something that the user sets off: busy while it lasts, its failure kept for showing until the next attempt,
 * or until what it was `about` is changed.
 */
export function useAction<A extends unknown[]>(
  work: (...input: A) => Promise<unknown>,
  about?: () => unknown,
): Action<A> {
  const isBusy = ref(false);
  const error = ref<ErrorBody | null>(null);
  if (about !== undefined) watch(about, () => (error.value = null), { deep: true });
  return {
    isBusy,
    error,
    async run(...input: A) {
      if (isBusy.value) return;
      isBusy.value = true;
      error.value = null;
      try {
        await work(...input);
      } catch (failure) {
        error.value = toErrorBody(failure);
      } finally {
        isBusy.value = false;
      }
    },
  };
}
