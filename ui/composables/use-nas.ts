import { shallowRef, type ShallowRef } from 'vue';
import { api } from '../api/client.ts';
import type { NasView } from '../api/types.ts';

/** The NAS, asked once; null until it is known. What it is good for is an extra, so that it fails is not told. */
export function useNas(): ShallowRef<NasView | null> {
  const nas = shallowRef<NasView | null>(null);
  void api
    .nas()
    .then((known) => {
      nas.value = known;
    })
    .catch(() => undefined);
  return nas;
}
