import { onUnmounted, ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue';
import { api, toErrorBody } from '../api/client.ts';
import { onEvent } from '../api/events.ts';
import type { ErrorBody, RunDetail, RunLog, ServerEvent } from '../api/types.ts';

/** Lines kept for showing; a run that says more is exported, not read. */
const LINES_MAX = 20_000;

type Line = RunLog['lines'][number];

/** A run with its parts, its progress and (on wish) its log, live until the component goes. */
export function useRun(
  runId: () => string,
  options: { log: boolean },
): { run: ShallowRef<RunDetail | null>; lines: ShallowRef<Line[]>; error: Ref<ErrorBody | null> } {
  const run = shallowRef<RunDetail | null>(null);
  const lines = shallowRef<Line[]>([]);
  const error = ref<ErrorBody | null>(null);

  async function load(): Promise<void> {
    const id = runId();
    try {
      const detail = await api.run(id);
      if (id !== runId()) return;
      run.value = detail;
      if (options.log) await loadLog(id);
      error.value = null;
    } catch (failure) {
      error.value = toErrorBody(failure);
    }
  }

  async function loadLog(id: string): Promise<void> {
    const all: Line[] = [];
    for (let after = 0; all.length < LINES_MAX;) {
      const page = await api.runLog(id, after);
      if (id !== runId() || page.lines.length === 0) break;
      all.push(...page.lines);
      after = page.next;
    }
    lines.value = all;
  }

  function handle(event: ServerEvent): void {
    if (event.type === 'reset') {
      void load();
      return;
    }
    const known = run.value;
    if (known === null) return;
    if (event.type === 'run' && event.run.id === known.id) run.value = { ...known, ...event.run };
    if (!('runId' in event) || event.runId !== known.id) return;
    if (event.type === 'part') {
      const { part } = event;
      const isKnown = known.parts.some(({ id }) => id === part.id);
      const parts = known.parts.map((old) => (old.id === part.id ? part : old));
      run.value = { ...known, parts: isKnown ? parts : [...parts, part] };
    } else if (event.type === 'progress') {
      const { partId, progress } = event;
      run.value = { ...known, parts: known.parts.map((part) => (part.id === partId ? { ...part, progress } : part)) };
    } else if (event.type === 'log' && options.log) {
      lines.value = [...lines.value, { ...event.line, partId: event.partId }].slice(-LINES_MAX);
    }
  }

  watch(
    runId,
    () => {
      run.value = null;
      lines.value = [];
      void load();
    },
    { immediate: true },
  );
  onUnmounted(onEvent(handle));
  return { run, lines, error };
}
