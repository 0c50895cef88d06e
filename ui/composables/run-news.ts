import type { RunDetail, ServerEvent } from '../api/types.ts';

/** A run as an event leaves it; the same object where the event is not about it. */
export function withNews(run: RunDetail, event: ServerEvent): RunDetail {
  switch (event.type) {
    case 'run':
      return event.run.id === run.id ? { ...run, ...event.run } : run;
    case 'part': {
      if (event.runId !== run.id) return run;
      const { part } = event;
      const isKnown = run.parts.some(({ id }) => id === part.id);
      const parts = run.parts.map((old) => (old.id === part.id ? part : old));
      return { ...run, parts: isKnown ? parts : [...parts, part] };
    }
    case 'progress': {
      if (event.runId !== run.id) return run;
      const { partId, progress } = event;
      return { ...run, parts: run.parts.map((part) => (part.id === partId ? { ...part, progress } : part)) };
    }
    default:
      return run;
  }
}
