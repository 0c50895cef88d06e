import { onUnmounted, ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue';
import { toErrorBody } from '../api/client.ts';
import { onEvent } from '../api/events.ts';
import type { ErrorBody } from '../api/types.ts';

/** Typing and changes come in swarms: one load for all of them. */
const GATHER_MS = 250;

export interface Page<T> {
  rows: ShallowRef<T[]>;
  total: Ref<number>;
  error: Ref<ErrorBody | null>;
  isLoaded: Ref<boolean>;
  isLoading: Ref<boolean>;
  reload(): Promise<void>;
}

/**
 * One page of a list that the server cuts, sorts and filters; loaded anew when what `query` reads changes, and
 * when an event says that one of `kinds` did.
 */
export function usePage<Q, T>(
  query: () => Q,
  load: (query: Q) => Promise<{ rows: T[]; total: number }>,
  kinds: readonly string[],
): Page<T> {
  const rows = shallowRef<T[]>([]);
  const total = ref(0);
  const error = ref<ErrorBody | null>(null);
  const isLoaded = ref(false);
  const isLoading = ref(false);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let newest = 0;

  async function reload(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    newest += 1;
    const mine = newest;
    isLoading.value = true;
    try {
      const answer = await load(query());
      // A later question has been asked: its answer counts.
      if (mine !== newest) return;
      rows.value = answer.rows;
      total.value = answer.total;
      error.value = null;
    } catch (failure) {
      if (mine === newest) error.value = toErrorBody(failure);
    } finally {
      if (mine === newest) {
        isLoading.value = false;
        isLoaded.value = true;
      }
    }
  }

  function later(): void {
    timer ??= setTimeout(() => void reload(), GATHER_MS);
  }

  watch(() => JSON.stringify(query()), later);
  onUnmounted(
    onEvent((event) => {
      const isConcerned =
        event.type === 'reset' ||
        (event.type === 'changed' && kinds.includes(event.what)) ||
        (event.type === 'run' && kinds.includes('run'));
      if (isConcerned) later();
    }),
  );
  onUnmounted(() => clearTimeout(timer));
  void reload();
  return { rows, total, error, isLoaded, isLoading, reload };
}
