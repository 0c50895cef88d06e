import type {
  History,
  JobListQuery,
  JobRow,
  JobScheduleView,
  MachineListQuery,
  MachineRow,
  Overview,
  Retention,
  RetentionSimulation,
  Schedule,
  Datastore,
  ErrorBody,
  ExportInput,
  HostInput,
  HostProbeInput,
  HostView,
  JobChange,
  JobInput,
  JobView,
  MachineView,
  NewToken,
  PointPage,
  PointView,
  ProbeResult,
  RepositoryView,
  RestoreInput,
  RunDetail,
  RunLog,
  RunPage,
  RunView,
  SessionView,
  Settings,
  SystemView,
  TokenView,
  UserView,
} from './types.ts';

/** An answer of the server that is no success, or none at all (`SERVER_UNREACHABLE`). */
export class ApiError extends Error {
  readonly body: ErrorBody;

  constructor(body: ErrorBody) {
    super(body.message);
    this.body = body;
  }
}

/** What to show of anything thrown. */
export function toErrorBody(error: unknown): ErrorBody {
  if (error instanceof ApiError) return error.body;
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error), details: {} };
}

let onLoginRequired: () => void = () => undefined;

/** The session may end at any request: what happens then is decided in one place. */
export function whenLoginRequired(handler: () => void): void {
  onLoginRequired = handler;
}

export function apiUrl(path: string): string {
  return new URL(`api/v1${path}`, document.baseURI).href;
}

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(apiUrl(path), {
      method,
      credentials: 'same-origin',
      headers: { 'X-Dozo-Request': '1', ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch (error) {
    throw new ApiError({ code: 'SERVER_UNREACHABLE', message: String(error), details: {} });
  }
  if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as T;
  const failure = readFailure(text, response);
  if (failure.code === 'LOGIN_REQUIRED') onLoginRequired();
  throw new ApiError(failure);
}

function readFailure(text: string, response: Response): ErrorBody {
  try {
    const body = JSON.parse(text) as ErrorBody;
    if (typeof body.code === 'string') return { ...body, details: body.details ?? {} };
  } catch {
    // A web server in between answered in its own words.
  }
  return { code: 'SERVER_UNREACHABLE', message: `${response.status} ${response.statusText}`, details: {} };
}

function query(values: Record<string, string | number | boolean | undefined>): string {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined && value !== '');
  return entries.length === 0 ? '' : `?${new URLSearchParams(entries.map(([key, value]) => [key, String(value)]))}`;
}

const id = encodeURIComponent;

/** Every function of the API that the window uses. All throw `ApiError`. */
export const api = {
  login: (user: string, password: string) => call<SessionView>('POST', '/session', { user, password }),
  logout: () => call<void>('DELETE', '/session'),
  session: () => call<SessionView>('GET', '/session'),
  changePassword: (oldPassword: string, newPassword: string) =>
    call<void>('POST', '/session/password', { oldPassword, newPassword }),
  tokens: () => call<TokenView[]>('GET', '/tokens'),
  makeToken: (input: { user: string; password: string; name: string; expiresInDays: number | null }) =>
    call<NewToken>('POST', '/tokens', input),
  revokeToken: (tokenId: string) => call<void>('DELETE', `/tokens/${id(tokenId)}`),

  hosts: () => call<HostView[]>('GET', '/hosts'),
  probeHost: (input: HostProbeInput) => call<ProbeResult>('POST', '/hosts/probe', input),
  addHost: (input: HostInput) => call<HostView>('POST', '/hosts', input),
  changeHost: (hostId: string, change: Partial<HostInput>) => call<HostView>('PATCH', `/hosts/${id(hostId)}`, change),
  removeHost: (hostId: string) => call<void>('DELETE', `/hosts/${id(hostId)}`),
  refreshHost: (hostId: string) => call<MachineView[]>('GET', `/hosts/${id(hostId)}/machines?refresh=true`),
  datastores: (hostId: string) => call<Datastore[]>('GET', `/hosts/${id(hostId)}/datastores`),
  networks: (hostId: string) => call<string[]>('GET', `/hosts/${id(hostId)}/networks`),

  overview: () => call<Overview>('GET', '/overview'),
  history: (days: number) =>
    call<History>('GET', `/history${query({ days, timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone })}`),

  machinePage: (filter: MachineListQuery) =>
    call<{ rows: MachineRow[]; total: number }>('GET', `/lists/machines${query({ ...filter })}`),
  machine: (machineId: string) => call<MachineView>('GET', `/machines/${id(machineId)}`),
  /** @param ids at most 100 */
  machinesById: (ids: readonly string[]) => call<MachineView[]>('GET', `/machines${query({ ids: ids.join(',') })}`),
  machinesOf: (hostId: string) => call<MachineView[]>('GET', `/machines${query({ hostId })}`),

  jobPage: (filter: JobListQuery) =>
    call<{ rows: JobRow[]; total: number }>('GET', `/lists/jobs${query({ ...filter })}`),
  job: (jobId: string) => call<JobView>('GET', `/jobs/${id(jobId)}`),
  jobSchedule: (jobId: string) => call<JobScheduleView>('GET', `/jobs/${id(jobId)}/schedule`),
  setSchedule: (jobId: string, schedule: Schedule) =>
    call<JobScheduleView>('PUT', `/jobs/${id(jobId)}/schedule`, schedule),
  removeSchedule: (jobId: string) => call<void>('DELETE', `/jobs/${id(jobId)}/schedule`),
  previewSchedule: (schedule: Schedule) => call<{ runsAtMs: number[] }>('POST', '/schedules/preview', { schedule }),
  simulateRetention: (retention: Retention, schedule: Schedule) =>
    call<RetentionSimulation>('POST', '/retention/simulate', { retention, schedule }),
  addJob: (input: JobInput) => call<JobView>('POST', '/jobs', input),
  changeJob: (jobId: string, change: JobChange) => call<JobView>('PUT', `/jobs/${id(jobId)}`, change),
  removeJob: (jobId: string) => call<void>('DELETE', `/jobs/${id(jobId)}`),
  delegates: (jobId: string) => call<{ users: string[] }>('GET', `/jobs/${id(jobId)}/delegates`),
  setDelegates: (jobId: string, users: string[]) =>
    call<{ users: string[] }>('PUT', `/jobs/${id(jobId)}/delegates`, { users }),
  users: () => call<UserView[]>('GET', '/users'),
  runJob: (jobId: string, input: { machineIds?: string[]; fullRead?: boolean } = {}) =>
    call<RunView>('POST', `/jobs/${id(jobId)}/run`, input),

  runs: (filter: {
    limit?: number;
    before?: string;
    kind?: string;
    state?: string;
    jobId?: string;
    machineId?: string;
    search?: string;
    fromMs?: number;
    toMs?: number;
    active?: boolean;
  }) => call<RunPage>('GET', `/runs${query(filter)}`),
  run: (runId: string) => call<RunDetail>('GET', `/runs/${id(runId)}`),
  runLog: (runId: string, after: number) =>
    call<RunLog>('GET', `/runs/${id(runId)}/log${query({ after, limit: 2000 })}`),
  cancelRun: (runId: string) => call<RunView>('POST', `/runs/${id(runId)}/cancel`, {}),

  points: (filter: { machineId?: string; repositoryId?: string; limit?: number; before?: string }) =>
    call<PointPage>('GET', `/points${query(filter)}`),
  point: (pointId: string) => call<PointView>('GET', `/points/${id(pointId)}`),
  diskUrl: (pointId: string, key: string) => apiUrl(`/points/${id(pointId)}/disks/${id(key)}/download`),
  restore: (input: RestoreInput) => call<RunView>('POST', '/restores', input),
  exportDisk: (input: ExportInput) => call<RunView>('POST', '/exports', input),

  repositories: () => call<RepositoryView[]>('GET', '/repositories'),
  createRepository: (input: { name: string; path: string }) => call<RepositoryView>('POST', '/repositories', input),
  adoptRepository: (input: { name: string; path: string }) =>
    call<RepositoryView>('POST', '/repositories/adopt', input),
  changeRepository: (repositoryId: string, change: { name?: string; path?: string }) =>
    call<RepositoryView>('PATCH', `/repositories/${id(repositoryId)}`, change),
  removeRepository: (repositoryId: string) => call<void>('DELETE', `/repositories/${id(repositoryId)}`),
  refreshRepository: (repositoryId: string) =>
    call<RepositoryView>('POST', `/repositories/${id(repositoryId)}/refresh`, {}),
  checkRepository: (repositoryId: string, depth: 'structure' | 'hashes') =>
    call<RunView>('POST', `/repositories/${id(repositoryId)}/check`, { depth }),

  settings: () => call<Settings>('GET', '/settings'),
  changeSettings: (change: Partial<Settings>) => call<Settings>('PATCH', '/settings', change),
  system: () => call<SystemView>('GET', '/system'),
};
