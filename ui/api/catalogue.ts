import { ref, shallowRef, type ShallowRef } from 'vue';
import { api, toErrorBody } from './client.ts';
import { closeEvents, onEvent, openEvents } from './events.ts';
import type { ErrorBody, HostView, Overview, RepositoryView, RunView, ServerEvent, SessionView } from './types.ts';

/** Runs that the overview looks back on; older ones are paged from the server. */
const RUNS_KEPT = 100;
/** Changes come in swarms (a host with all its machines): one load for all of them. */
const GATHER_MS = 300;

/**
 * What every screen needs, kept fresh by the server's events. One for the whole window. Machines, tasks and
 * versions may be many: they are paged by `use-page.ts`.
 */
export const hosts = shallowRef<HostView[]>([]);
export const repositories = shallowRef<RepositoryView[]>([]);
/** Newest first. */
export const runs = shallowRef<RunView[]>([]);
/** Those at work, oldest last. */
export const activeRuns = shallowRef<RunView[]>([]);
export const overview = shallowRef<Overview | null>(null);
export const isLoaded = ref(false);
export const loadError = ref<ErrorBody | null>(null);

type Part = 'hosts' | 'overview' | 'repositories' | 'runs';

const LOADERS: Record<Part, () => Promise<void>> = {
  hosts: into(hosts, api.hosts),
  overview: async () => {
    overview.value = await api.overview();
  },
  repositories: into(repositories, async () => (isStorageSeen ? api.repositories() : [])),
  runs: async () => {
    areRunsAwaited = true;
    try {
      const [newest, active] = await Promise.all([
        api.runs({ limit: RUNS_KEPT }),
        api.runs({ limit: RUNS_KEPT, active: true }),
      ]);
      runs.value = newest.runs;
      activeRuns.value = active.runs;
    } finally {
      areRunsAwaited = false;
    }
  },
};
/** Who may only restore what they were given is not shown where it lies. */
let isStorageSeen = true;
const ALL = Object.keys(LOADERS) as Part[];

const STALE_BY_CHANGE: Record<string, Part[]> = {
  host: ['hosts', 'overview'],
  machine: ['overview', 'hosts'],
  repository: ['repositories'],
  job: ['overview'],
  point: ['overview', 'repositories'],
};

const stale = new Set<Part>();
/** A list of runs that was asked for before a run began or ended does not know of it. */
let areRunsAwaited = false;
let timer: ReturnType<typeof setTimeout> | undefined;
let stopListening: (() => void) | null = null;

export async function openCatalogue({ permissions }: Pick<SessionView, 'permissions'>): Promise<void> {
  isStorageSeen = permissions.includes('view');
  stopListening ??= onEvent(handle);
  openEvents();
  await reload(ALL);
}

export function closeCatalogue(): void {
  closeEvents();
  stopListening?.();
  stopListening = null;
  isLoaded.value = false;
  for (const list of [hosts, repositories, runs, activeRuns]) list.value = [];
  overview.value = null;
}

/** Loads these parts now; what fails is told in `loadError`, not thrown. */
export async function reload(parts: readonly Part[] = ALL): Promise<void> {
  for (const part of parts) stale.delete(part);
  try {
    await Promise.all(parts.map((part) => LOADERS[part]()));
    isLoaded.value = true;
    loadError.value = null;
  } catch (error) {
    loadError.value = toErrorBody(error);
  }
}

function handle(event: ServerEvent): void {
  if (event.type === 'reset') schedule(ALL);
  else if (event.type === 'changed') schedule(STALE_BY_CHANGE[event.what] ?? []);
  else if (event.type === 'run') {
    runs.value = withRun(runs.value, event.run).slice(0, RUNS_KEPT);
    const isAtWork = event.run.state === 'waiting' || event.run.state === 'running';
    activeRuns.value = isAtWork
      ? withRun(activeRuns.value, event.run)
      : activeRuns.value.filter(({ id }) => id !== event.run.id);
    if (areRunsAwaited) schedule(['runs']);
    schedule(['overview', ...(event.run.kind === 'check' ? (['repositories'] as const) : [])]);
  }
}

function withRun(list: readonly RunView[], run: RunView): RunView[] {
  return [run, ...list.filter(({ id }) => id !== run.id)].sort((a, b) => b.createdAtMs - a.createdAtMs);
}

function schedule(parts: readonly Part[]): void {
  for (const part of parts) stale.add(part);
  if (stale.size === 0) return;
  timer ??= setTimeout(() => {
    timer = undefined;
    void reload([...stale]);
  }, GATHER_MS);
}

function into<T>(list: ShallowRef<T[]>, load: () => Promise<T[]>): () => Promise<void> {
  return async () => {
    list.value = await load();
  };
}
