import type { Nas } from '../nas/index.ts';
import type { EventHub } from '../orchestration/index.ts';

const REMEMBERED_MAX = 500;

/**
 * Tells the NAS about runs that did not end well, once each: their end may be an event more than once.
 * @returns the way to stop
 */
export function announceRuns(events: EventHub, nas: Nas): () => void {
  const told = new Set<string>();
  const { unsubscribe } = events.subscribe(null, ({ event }) => {
    if (event.type !== 'run' || event.run.finishedAtMs === null) return;
    const { id, title, kind, state, error } = event.run;
    const outcome = OUTCOMES[state];
    if (outcome === undefined || told.has(id)) return;
    told.add(id);
    for (const oldest of told) {
      if (told.size <= REMEMBERED_MAX) break;
      told.delete(oldest);
    }
    const reason = error === null ? '' : `: ${error.message}`;
    void nas.notify(state === 'warning' ? 'warning' : 'error', `The ${kind} "${title}" ${outcome}${reason}`);
  });
  return unsubscribe;
}

/** What is worth a notice; the rest went as wanted. */
const OUTCOMES: Partial<Record<string, string>> = {
  failed: 'failed',
  incomplete: 'is incomplete',
  warning: 'ended with warnings',
};
