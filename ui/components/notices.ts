import { shallowRef } from 'vue';

/** Long enough to be read. */
const TOLD_MS = 5_000;

/** What was done just now, told on whatever page that led to; null: nothing. */
export const notice = shallowRef<string | null>(null);
let timer: ReturnType<typeof setTimeout> | undefined;

export function tell(message: string): void {
  clearTimeout(timer);
  notice.value = message;
  timer = setTimeout(() => {
    notice.value = null;
  }, TOLD_MS);
}

/** Where something else is to be said in the same place. */
export function untell(): void {
  clearTimeout(timer);
  notice.value = null;
}
