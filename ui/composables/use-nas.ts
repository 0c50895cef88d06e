import { shallowRef, type ShallowRef } from 'vue';
import { api } from '../api/client.ts';
import type { NasView } from '../api/types.ts';

/** On anything else its notifications have only the log of the server to go to. */
export function isNas({ name }: Pick<NasView, 'name'>): boolean {
  return name !== 'Linux';
}

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
