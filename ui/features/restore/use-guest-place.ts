import { computed, shallowRef, watch, type WritableComputedRef } from 'vue';
import { useRoute, useRouter } from 'vue-router';
import { placeOf, queryOf, type GuestPlace } from './guest-path.ts';

/** Where somebody is within a version stands in the address: going back goes up, a load of the page stays there. */
export function useGuestPlace(): WritableComputedRef<GuestPlace> {
  const route = useRoute();
  const router = useRouter();
  const page = route.name;
  const place = shallowRef(placeOf(route.query));
  watch(
    () => route.query,
    (query) => {
      // While another page is on its way this one stays as it is.
      if (route.name === page) place.value = placeOf(query);
    },
  );
  return computed({
    get: () => place.value,
    set: (to) => void router.push({ query: { ...route.query, ...queryOf(to) } }),
  });
}
