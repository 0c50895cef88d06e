import { inject, onUnmounted, provide, ref, type InjectionKey, type Ref } from 'vue';

/** How many things in a dialog or a guide must be dealt with before it can be closed or goes on. */
const LOCKS: InjectionKey<Ref<number>> = Symbol('locks of a dialog');

/** For the dialog or guide. */
export function provideDialogLock(): Ref<number> {
  const locks = ref(0);
  provide(LOCKS, locks);
  return locks;
}

/** For what must not be closed by a slip: as long as it is shown, the dialog around it, if there is one, stays. */
export function lockDialog(): void {
  const locks = inject(LOCKS, null);
  if (locks === null) return;
  locks.value += 1;
  onUnmounted(() => {
    locks.value -= 1;
  });
}
