import { ref, shallowRef, type ShallowRef } from 'vue';
import { api, toErrorBody } from './client.ts';
import { closeEvents, onEvent, openEvents } from './events.ts';
import type { ErrorBody, HostView, JobView, MachineView, RepositoryView, RunView, ServerEvent } from './types.ts';

/** Runs that the overview and the lists look back on; older ones are paged from the server. */
const RUNS_KEPT = 500;
/** Changes come in swarms (a host with all its machines): one load for all of them. */
const GATHER_MS = 150;

/** What the server knows, kept fresh by its events. One for the whole window. */
export const hosts = shallowRef<HostView[]>([]);
export const machines = shallowRef<MachineView[]>([]);
export const jobs = shallowRef<JobView[]>([]);
export const repositories = shallowRef<RepositoryView[]>([]);
/** Newest first. */
export const runs = shallowRef<RunView[]>([]);
export const isLoaded = ref(false);
export const loadError = ref<ErrorBody | null>(null);

type Part = 'hosts' | 'machines' | 'jobs' | 'repositories' | 'runs';

const LOADERS: Record<Part, () => Promise<void>> = {
  hosts: into(hosts, api.hosts),
  machines: into(machines, api.machines),
  jobs: into(jobs, api.jobs),
  repositories: into(repositories, api.repositories),
  runs: into(runs, async () => (await api.runs({ limit: RUNS_KEPT })).runs),
};
const ALL = Object.keys(LOADERS) as Part[];

const STALE_BY_CHANGE: Record<string, Part[]> = {
  host: ['hosts', 'machines'],
  machine: ['machines', 'hosts'],
  repository: ['repositories'],
  job: ['jobs', 'machines'],
  point: ['machines', 'repositories'],
};

const stale = new Set<Part>();
let timer: ReturnType<typeof setTimeout> | undefined;
let stopListening: (() => void) | null = null;

export async function openCatalogue(): Promise<void> {
  stopListening ??= onEvent(handle);
  openEvents();
  await reload(ALL);
}

export function closeCatalogue(): void {
  closeEvents();
  stopListening?.();
  stopListening = null;
  isLoaded.value = false;
  for (const list of [hosts, machines, jobs, repositories, runs]) list.value = [];
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
    const rest = runs.value.filter((run) => run.id !== event.run.id);
    runs.value = [event.run, ...rest].sort((a, b) => b.createdAtMs - a.createdAtMs).slice(0, RUNS_KEPT);
    schedule(['jobs', 'machines', ...(event.run.kind === 'check' ? (['repositories'] as const) : [])]);
  }
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
