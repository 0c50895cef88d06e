import { onUnmounted, ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue';
import { api, toErrorBody } from '../api/client.ts';
import { onEvent } from '../api/events.ts';
import type { ErrorBody, RunDetail, RunLog, ServerEvent } from '../api/types.ts';
import { withNews } from './run-news.ts';

/** Lines kept for showing; a run that says more is exported, not read. */
const LINES_MAX = 20_000;
/** So many lines may be told while the log is asked for: one of them that is in the answer too is no second line. */
const LATEST = 500;

type Line = RunLog['lines'][number];

function withLine(lines: Line[], line: Line): Line[] {
  const isKnown = lines
    .slice(-LATEST)
    .some(
      ({ atMs, code, text, partId }) =>
        atMs === line.atMs && code === line.code && text === line.text && partId === line.partId,
    );
  return isKnown ? lines : [...lines, line].slice(-LINES_MAX);
}

/** A run with its parts, its progress and (on wish) its log, live until the component goes. */
export function useRun(
  runId: () => string,
  options: { log: boolean },
): { run: ShallowRef<RunDetail | null>; lines: ShallowRef<Line[]>; error: Ref<ErrorBody | null> } {
  const run = shallowRef<RunDetail | null>(null);
  const lines = shallowRef<Line[]>([]);
  const error = ref<ErrorBody | null>(null);

  /** Told since the run was last asked for: the answer may be older. Null: nothing is asked. */
  let missed: ServerEvent[] | null = null;

  async function load(): Promise<void> {
    const id = runId();
    const news: ServerEvent[] = [];
    missed = news;
    try {
      const detail = await api.run(id);
      if (id !== runId() || missed !== news) return;
      run.value = news.reduce(withNews, detail);
      missed = null;
      if (options.log) await loadLog(id);
      error.value = null;
    } catch (failure) {
      error.value = toErrorBody(failure);
    } finally {
      if (missed === news) missed = null;
    }
  }

  /** Lines told since the log was last asked for. */
  let told: Line[] = [];

  async function loadLog(id: string): Promise<void> {
    const all: Line[] = [];
    const news: Line[] = [];
    told = news;
    for (let after = 0; all.length < LINES_MAX;) {
      const page = await api.runLog(id, after);
      if (id !== runId() || page.lines.length === 0) break;
      all.push(...page.lines);
      after = page.next;
    }
    if (told === news && id === runId()) lines.value = news.reduce(withLine, all);
  }

  function handle(event: ServerEvent): void {
    if (event.type === 'reset') {
      void load();
      return;
    }
    missed?.push(event);
    if (run.value !== null) run.value = withNews(run.value, event);
    if (event.type === 'log' && event.runId === runId() && run.value !== null && options.log) {
      const line = { ...event.line, partId: event.partId };
      told.push(line);
      lines.value = withLine(lines.value, line);
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
