import { onUnmounted, ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue';
import { toErrorBody } from '../api/client.ts';
import { onEvent } from '../api/events.ts';
import type { ErrorBody } from '../api/types.ts';

/** Changes come in swarms: one load for all of them. */
const GATHER_MS = 250;
/** So many rows further than before the last row that was shown is looked for; then it has gone. */
const LEEWAY = 200;

export interface GrowingList<T> {
  rows: ShallowRef<T[]>;
  /** Whether the server has more than is shown. */
  hasMore: Ref<boolean>;
  isLoaded: Ref<boolean>;
  isGrowing: Ref<boolean>;
  error: Ref<ErrorBody | null>;
  /** Loads what is shown anew, as far down as it reaches. */
  reload(): Promise<void>;
  grow(): Promise<void>;
}

interface Answer<T> {
  rows: T[];
  next: string | null;
}

/**
 * A list that the server tells page by page, each on wish: begun anew when what `query` reads changes, and loaded
 * anew as far as it is shown when an event says that one of `kinds` did.
 */
export function useGrowingList<Q, T extends { id: string }>(
  query: () => Q,
  load: (query: Q, before: string | null) => Promise<Answer<T>>,
  kinds: readonly string[],
): GrowingList<T> {
  const rows = shallowRef<T[]>([]);
  const next = ref<string | null>(null);
  const hasMore = ref(false);
  const isLoaded = ref(false);
  const isGrowing = ref(false);
  const error = ref<ErrorBody | null>(null);
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Goes up with every other question: answers to an earlier one count no more. */
  let question = 0;
  let turn = Promise.resolve();

  /** One after the other, so that a page is put below the list that it follows. */
  function take(read: () => Promise<Answer<T>>): Promise<void> {
    const mine = question;
    turn = turn.then(async () => {
      if (mine !== question) return;
      try {
        const answer = await read();
        if (mine !== question) return;
        rows.value = answer.rows;
        next.value = answer.next;
        hasMore.value = answer.next !== null;
        error.value = null;
      } catch (failure) {
        if (mine === question) error.value = toErrorBody(failure);
      }
      if (mine === question) isLoaded.value = true;
    });
    return turn;
  }

  function reload(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    return take(async () => {
      const wanted = query();
      const shown = rows.value.length;
      const last = rows.value.at(-1)?.id;
      let page = await load(wanted, null);
      const found = [...page.rows];
      while (shown > 0 && page.next !== null && found.length < shown + LEEWAY && found.every(({ id }) => id !== last)) {
        page = await load(wanted, page.next);
        found.push(...page.rows);
      }
      return { rows: found, next: page.next };
    });
  }

  async function grow(): Promise<void> {
    if (isGrowing.value) return;
    isGrowing.value = true;
    await take(async () => {
      if (next.value === null) return { rows: rows.value, next: null };
      const page = await load(query(), next.value);
      return { rows: [...rows.value, ...page.rows], next: page.next };
    });
    isGrowing.value = false;
  }

  watch(
    () => JSON.stringify(query()),
    () => {
      question += 1;
      rows.value = [];
      next.value = null;
      hasMore.value = false;
      isLoaded.value = false;
      error.value = null;
      // Nobody waits for the end of what is not asked any more.
      turn = Promise.resolve();
      void reload();
    },
    { immediate: true },
  );
  onUnmounted(
    onEvent((event) => {
      const isConcerned = event.type === 'reset' || (event.type === 'changed' && kinds.includes(event.what));
      if (isConcerned) timer ??= setTimeout(() => void reload(), GATHER_MS);
    }),
  );
  onUnmounted(() => clearTimeout(timer));
  return { rows, hasMore, isLoaded, isGrowing, error, reload, grow };
}
