import { onUnmounted } from 'vue';
import { useRouter } from 'vue-router';
import { confirm } from './confirm.ts';

/**
 * As long as the component is there and something of it would be lost, whoever goes to another page is asked first;
 * whoever closes or loads the window anew is asked by the browser, in its own words. Signing out is always let through.
 */
export function askBeforeLeaving(isAtStake: () => boolean, question: () => Parameters<typeof confirm>[0]): void {
  const stop = useRouter().beforeEach(async (to) => to.name === 'login' || !isAtStake() || (await confirm(question())));
  function onUnload(event: BeforeUnloadEvent): void {
    if (isAtStake()) event.preventDefault();
  }
  addEventListener('beforeunload', onUnload);
  onUnmounted(() => {
    stop();
    removeEventListener('beforeunload', onUnload);
  });
}
