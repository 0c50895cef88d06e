import { onUnmounted, watch, type Ref } from 'vue';

/** Steps have slid open and shut by then, and what they show has come. */
const SETTLE_MS = 1_500;
/** Who does one of these decides from then on what is in sight. */
const OWN_HAND = ['wheel', 'touchmove', 'pointerdown', 'keydown'] as const;

/**
 * Brings the head of a wizard's new step into sight: while the step before it shuts, what is below moves up, under the
 * bar at the top of a small window.
 */
export function useStepInView(step: Ref<string>): void {
  const resizes = new ResizeObserver(show);
  let timer: ReturnType<typeof setTimeout> | undefined;

  function show(): void {
    const head = document.querySelector('.q-stepper__tab--active');
    const bar = document.querySelector('.q-header');
    if (head === null || bar === null) return;
    const { top } = head.getBoundingClientRect();
    if (top < bar.getBoundingClientRect().bottom || top > innerHeight / 2) head.scrollIntoView({ block: 'start' });
  }
  function stop(): void {
    clearTimeout(timer);
    resizes.disconnect();
    for (const kind of OWN_HAND) removeEventListener(kind, stop);
  }

  watch(step, () => {
    stop();
    const wizard = document.querySelector('.q-stepper');
    if (wizard === null) return;
    resizes.observe(wizard);
    for (const kind of OWN_HAND) addEventListener(kind, stop, { passive: true });
    timer = setTimeout(stop, SETTLE_MS);
  });
  onUnmounted(stop);
}
