import { computed, shallowRef, watch, type WritableComputedRef } from 'vue';
import { useRoute, useRouter, type LocationQuery, type Router } from 'vue-router';
import { forgetDraft, keepDraft, readDraft } from './drafts.ts';

interface Wizard<S extends string, T> {
  step: WritableComputedRef<S>;
  /** One step on, or back, which is what the browser's own button does. */
  go(by: 1 | -1): void;
  /** What had been typed before the page was loaded anew; null: nothing, or this is a new beginning. */
  resumed: T | null;
  /** It is done: what was typed is not kept any longer. */
  finish(): void;
}

/**
 * A wizard whose step stands in the address, so that back and forward of the browser go through its steps, and whose
 * fields are kept as long as this window is open: a load of the page loses nothing.
 */
export function useWizard<S extends string, T extends object>(options: {
  names: readonly [S, ...S[]];
  /** Those of them that there are now. */
  steps: () => readonly S[];
  /** All that was typed, as JSON can hold it, and nothing secret; null: nothing was. */
  draft: () => T | null;
  /** Every step is filled in: each may be begun with. */
  isFilled: boolean;
}): Wizard<S, T> {
  const route = useRoute();
  const router = useRouter();
  const page = route.name;
  const key = addressOfPage(router, route);
  const [first] = options.names;
  const stepOf = (query: LocationQuery): S | undefined => options.names.find((name) => name === query['step']);

  const asked = stepOf(route.query);
  const resumed = asked === undefined ? null : readDraft<T>(key);
  const isBeginning = asked === undefined || (resumed === null && !options.isFilled);
  const current = shallowRef<S>(isBeginning ? first : asked);
  // By its name in the address a load of the page at the first step is told from a new beginning.
  if (isBeginning) void router.replace({ query: { ...route.query, step: first } });
  watch(
    () => route.query,
    (query) => {
      // While another page is on its way this one stays as it is.
      if (route.name === page) current.value = stepOf(query) ?? first;
    },
  );

  function show(name: S): void {
    if (name !== current.value) void router.push({ query: { ...route.query, step: name } });
  }
  function isBefore(address: unknown, name: S): boolean {
    if (typeof address !== 'string') return false;
    const place = router.resolve(address);
    return stepOf(place.query) === name && addressOfPage(router, place) === key;
  }

  if (resumed === null) forgetDraft(key);
  const stop = watch(
    options.draft,
    (draft) => {
      if (draft === null) forgetDraft(key);
      else keepDraft(key, draft);
    },
    { deep: true },
  );
  return {
    step: computed({ get: () => current.value, set: show }),
    go(by) {
      const to = options.steps()[options.steps().indexOf(current.value) + by];
      if (to === undefined) return;
      if (by === -1 && isBefore(router.options.history.state['back'], to)) router.back();
      else show(to);
    },
    resumed,
    finish() {
      stop();
      forgetDraft(key);
    },
  };
}

/** The address of a page, whatever step of its wizard and whatever folder of a version is shown on it. */
export function addressOfPage(router: Router, { path, query }: { path: string; query: object }): string {
  const nowhere = { step: undefined, disk: undefined, volume: undefined, path: undefined };
  return router.resolve({ path, query: { ...query, ...nowhere } }).fullPath;
}
