import { nextTick, watch, type Ref } from 'vue';

/** The list draws what it is scrolled to at the next frames. */
const FRAMES = 8;

/**
 * Keeps in its place what somebody reads in a scrolling list, and who uses the keyboard where they are, while rows
 * come and go above. Rows are marked with
 * `data-row` and their id.
 * @param isFree whether the list may move after all, as when nobody has begun with it
 */
export function useSteadyScroll<T extends { id: string }>(
  rows: Ref<T[]>,
  parts: {
    box: () => HTMLElement | null;
    /** Brings a row near that is not drawn now. */
    scrollTo: (index: number) => void;
    isFree: (box: HTMLElement) => boolean;
  },
): void {
  watch(
    rows,
    // Before the new rows are drawn.
    async (now) => {
      const box = parts.box();
      const anchor = box === null || parts.isFree(box) ? null : topRow(box, new Set(now.map(({ id }) => id)));
      if (box === null || anchor === null) return;
      const focused = focusedIn(box);
      await nextTick();
      if (rowIn(box, anchor.id) === null) parts.scrollTo(now.findIndex(({ id }) => id === anchor.id));
      for (let frame = 0; frame < FRAMES && box.isConnected; frame += 1) {
        const row = rowIn(box, anchor.id);
        const by = row === null ? 0 : offsetIn(box, row) - anchor.offset;
        if (Math.abs(by) >= 1) box.scrollTop += by;
        if (focused !== null) focusAgain(box, focused);
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
    },
    { flush: 'pre' },
  );
}

interface Focused {
  id: string;
  /** Which of what can be focused in the row. */
  at: number;
}

const FOCUSABLE = 'a, button, [tabindex]';

function focusedIn(box: HTMLElement): Focused | null {
  const { activeElement } = document;
  const row = activeElement?.closest<HTMLElement>('[data-row]');
  if (activeElement === null || row === null || row === undefined || !box.contains(row)) return null;
  return { id: row.dataset['row'] ?? '', at: [...row.querySelectorAll(FOCUSABLE)].indexOf(activeElement) };
}

/** A row that is drawn anew is another element, and what had the focus in it gives it to the list. */
function focusAgain(box: HTMLElement, { id, at }: Focused): void {
  const { activeElement, body } = document;
  const isLost = activeElement === body || (activeElement !== null && box.contains(activeElement));
  const wanted = rowIn(box, id)?.querySelectorAll<HTMLElement>(FOCUSABLE)[at];
  if (isLost && wanted !== undefined && wanted !== activeElement) wanted.focus({ preventScroll: true });
}

function rowIn(box: HTMLElement, id: string): HTMLElement | null {
  return box.querySelector(`[data-row="${CSS.escape(id)}"]`);
}

/** The first row in sight that stays. */
function topRow(box: HTMLElement, staying: ReadonlySet<string>): { id: string; offset: number } | null {
  for (const row of box.querySelectorAll<HTMLElement>('[data-row]')) {
    const offset = offsetIn(box, row);
    const id = row.dataset['row'] ?? '';
    if (offset + row.offsetHeight > 0 && offset < box.clientHeight && staying.has(id)) return { id, offset };
  }
  return null;
}

function offsetIn(box: HTMLElement, row: HTMLElement): number {
  return row.getBoundingClientRect().top - box.getBoundingClientRect().top;
}
