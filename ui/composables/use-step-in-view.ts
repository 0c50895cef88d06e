import { nextTick, onUnmounted, watch, type Ref } from 'vue';

/** Steps have slid open and shut by then, and what they show has come. */
const SETTLE_MS = 1_500;
/** Who does one of these decides from then on what is in sight. */
const OWN_HAND = ['wheel', 'touchmove', 'pointerdown', 'keydown'] as const;

/**
 * Brings the head of a wizard's new step into sight, and the focus to it: while the step before it shuts, what is below
 * moves up, under the bar at the top of a small window, and the button that was pressed is gone.
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
  /** Who goes on by keyboard goes on from the head; who has it read hears which step this is. */
  function focus(wizard: Element): void {
    const { activeElement } = document;
    const head = wizard.querySelector<HTMLElement>('.q-stepper__tab--active');
    // Who is elsewhere stays there, and so does who was put into the first field of the step.
    if (head === null || !wizard.contains(activeElement)) return;
    if (head.closest('.q-stepper__step')?.contains(activeElement) === true) return;
    if (!head.hasAttribute('tabindex')) head.tabIndex = -1;
    head.focus({ preventScroll: true });
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
    void nextTick(() => focus(wizard));
    resizes.observe(wizard);
    for (const kind of OWN_HAND) addEventListener(kind, stop, { passive: true });
    timer = setTimeout(stop, SETTLE_MS);
  });
  onUnmounted(stop);
}
