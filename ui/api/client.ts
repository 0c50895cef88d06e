import type {
  ConfigurationDocument,
  FolderView,
  GhettoImportInput,
  GhettoImportReport,
  GuestFolderPage,
  GuestVolumeView,
  ImportReport,
  JobHooksView,
  NewTrigger,
  Scripts,
  Selection,
  SelectionPreview,
  NasView,
  AuditPage,
  AuditVerdict,
  DeliveryPage,
  NotificationSettingsChange,
  NotificationSettingsView,
  NotificationTest,
  OpenSessionView,
  PointsChanged,
  RecipientInput,
  RecipientView,
  RepositoryCreated,
  RepositoryKeyAdded,
  RepositoryKeyDrill,
  RepositoryKeyView,
  RepositoryMaintenanceView,
  RepositorySpace,
  RepositoryUsage,
  Role,
  SecondFactorSecret,
  SettingsChange,
  History,
  JobListQuery,
  JobRemoved,
  JobRow,
  JobScheduleView,
  MachineListQuery,
  MachineRow,
  Overview,
  Retention,
  RetentionPreview,
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

let renewLogin: () => Promise<boolean> = () => Promise.resolve(false);
let renewing: Promise<boolean> | null = null;

/** Where there is a way to log in again without anybody: it is tried before the login is asked for. */
export function renewLoginBy(renew: () => Promise<boolean>): void {
  renewLogin = renew;
}

/** However many requests notice at the same time that the session has ended. */
function renewOnce(): Promise<boolean> {
  renewing ??= renewLogin().finally(() => {
    renewing = null;
  });
  return renewing;
}

interface CallOptions {
  headers?: Record<string, string>;
  /** After the login was renewed. */
  isRepeated?: boolean;
}

/** The answer of a success. */
async function ask(method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(apiUrl(path), {
      method,
      credentials: 'same-origin',
      headers: {
        'X-Dozo-Request': '1',
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...options.headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    throw unreachable(error);
  }
  if (response.ok) return response;
  const failure = readFailure(await readText(response), response);
  if (failure.code === 'LOGIN_REQUIRED') {
    if (options.isRepeated !== true && (await renewOnce())) {
      return ask(method, path, body, { ...options, isRepeated: true });
    }
    onLoginRequired();
  }
  throw new ApiError(failure);
}

async function call<T>(method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<T> {
  const text = await readText(await ask(method, path, body, options));
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

/**
 * Asks whether a file would come: what a link to it would fail with in silence is thrown.
 * @param url of `apiUrl`
 */
async function tryDownload(url: string): Promise<void> {
  const path = url.slice(apiUrl('').length);
  const { ok } = await fetch(url, { method: 'HEAD', credentials: 'same-origin' }).catch(() => ({ ok: false }));
  if (ok) return;
  // Only an answer with a body says why not.
  const response = await ask('GET', path);
  await response.body?.cancel();
}

async function readText(response: Response): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw unreachable(error);
  }
}

function unreachable(error: unknown): ApiError {
  return new ApiError({ code: 'SERVER_UNREACHABLE', message: String(error), details: {} });
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
  login: (user: string, password: string, code?: string) =>
    call<SessionView>('POST', '/session', { user, password, ...(code === undefined ? {} : { code }) }),
  /** @param synoToken of DSM; empty on another NAS */
  loginByNas: (synoToken: string) =>
    call<SessionView>('POST', '/session/nas', undefined, {
      headers: synoToken === '' ? {} : { 'X-Syno-Token': synoToken },
    }),
  logout: () => call<void>('DELETE', '/session'),
  session: () => call<SessionView>('GET', '/session'),
  changePassword: (input: { oldPassword: string; newPassword: string; code?: string }) =>
    call<void>('POST', '/session/password', input),
  beginSecondFactor: (password: string) => call<SecondFactorSecret>('POST', '/session/second-factor', { password }),
  confirmSecondFactor: (code: string) =>
    call<{ recoveryCodes: string[] }>('POST', '/session/second-factor/confirm', { code }),
  endSecondFactor: (password: string, code: string) =>
    call<void>('POST', '/session/second-factor/end', { password, code }),
  sessions: () => call<OpenSessionView[]>('GET', '/sessions'),
  endSession: (sessionId: string) => call<void>('DELETE', `/sessions/${id(sessionId)}`),
  tokens: () => call<TokenView[]>('GET', '/tokens'),
  makeToken: (input: {
    user: string;
    password: string;
    name: string;
    expiresInDays: number | null;
    scope: TokenView['scope'];
    code?: string;
  }) => call<NewToken>('POST', '/tokens', input),
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
  previewSchedule: (schedule: Schedule, jobId: string | null) =>
    call<{ runsAtMs: number[] }>('POST', '/schedules/preview', { schedule, ...(jobId === null ? {} : { jobId }) }),
  simulateRetention: (retention: Retention, schedule: Schedule) =>
    call<RetentionSimulation>('POST', '/retention/simulate', { retention, schedule }),
  previewRetention: (retention: Retention, of: { repositoryId: string; machineIds?: string[] }) =>
    call<RetentionPreview>('POST', '/retention/preview', { retention, ...of }),
  addJob: (input: JobInput) => call<JobView>('POST', '/jobs', input),
  changeJob: (jobId: string, change: JobChange) => call<JobView>('PUT', `/jobs/${id(jobId)}`, change),
  removeJob: (jobId: string, versions: 'keep' | 'trash') =>
    call<JobRemoved>('DELETE', `/jobs/${id(jobId)}${query({ versions })}`),
  previewSelection: (selection: Selection) => call<SelectionPreview>('POST', '/selections/preview', { selection }),
  hooks: (jobId: string) => call<JobHooksView>('GET', `/jobs/${id(jobId)}/hooks`),
  setScripts: (jobId: string, scripts: Scripts) => call<JobHooksView>('PUT', `/jobs/${id(jobId)}/scripts`, scripts),
  renewTrigger: (jobId: string) => call<NewTrigger>('POST', `/jobs/${id(jobId)}/trigger`, {}),
  removeTrigger: (jobId: string) => call<void>('DELETE', `/jobs/${id(jobId)}/trigger`),
  delegates: (jobId: string) => call<{ users: string[] }>('GET', `/jobs/${id(jobId)}/delegates`),
  setDelegates: (jobId: string, users: string[]) =>
    call<{ users: string[] }>('PUT', `/jobs/${id(jobId)}/delegates`, { users }),
  users: () => call<UserView[]>('GET', '/users'),
  addUser: (input: { name: string; role: Role; password: string }) => call<UserView>('POST', '/users', input),
  changeUser: (name: string, change: { role?: Role; disabled?: boolean; password?: string; endSecondFactor?: true }) =>
    call<UserView>('PATCH', `/users/${id(name)}`, change),
  removeUser: (name: string) => call<void>('DELETE', `/users/${id(name)}`),
  endUserSessions: (name: string) => call<void>('DELETE', `/users/${id(name)}/sessions`),
  audit: (filter: { limit?: number; before?: string; actor?: string; action?: string }) =>
    call<AuditPage>('GET', `/audit${query(filter)}`),
  verifyAudit: () => call<AuditVerdict>('GET', '/audit/verify'),
  auditExportUrl: () => apiUrl('/audit/export'),

  notificationSettings: () => call<NotificationSettingsView>('GET', '/notifications/settings'),
  changeNotificationSettings: (change: NotificationSettingsChange) =>
    call<NotificationSettingsView>('PATCH', '/notifications/settings', change),
  testMailServer: (input: {
    mailServer?: NonNullable<NotificationSettingsChange['mailServer']>;
    to: string;
    language: 'en' | 'de' | 'ja';
  }) => call<NotificationTest>('POST', '/notifications/settings/test', input),
  recipients: () => call<RecipientView[]>('GET', '/notifications/recipients'),
  addRecipient: (input: RecipientInput) => call<RecipientView>('POST', '/notifications/recipients', input),
  changeRecipient: (recipientId: string, input: RecipientInput) =>
    call<RecipientView>('PUT', `/notifications/recipients/${id(recipientId)}`, input),
  removeRecipient: (recipientId: string) => call<void>('DELETE', `/notifications/recipients/${id(recipientId)}`),
  testRecipient: (recipientId: string) =>
    call<NotificationTest>('POST', `/notifications/recipients/${id(recipientId)}/test`, {}),
  deliveries: (filter: { state?: string; limit?: number }) =>
    call<DeliveryPage>('GET', `/notifications/deliveries${query(filter)}`),
  retryDelivery: (deliveryId: string) => call<void>('POST', `/notifications/deliveries/${id(deliveryId)}/retry`, {}),
  reportUrl: (month: string, language: string) =>
    apiUrl(
      `/reports/${id(month)}/page${query({ language, timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone })}`,
    ),
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

  points: (filter: { machineId?: string; repositoryId?: string; trash?: boolean; limit?: number; before?: string }) =>
    call<PointPage>('GET', `/points${query(filter)}`),
  point: (pointId: string) => call<PointView>('GET', `/points/${id(pointId)}`),
  deletePoints: (pointIds: readonly string[], repositoryId: string) =>
    call<PointsChanged>('POST', '/points/delete', { pointIds, repositoryId }),
  undeletePoints: (pointIds: readonly string[], repositoryId: string) =>
    call<PointsChanged>('POST', '/points/undelete', { pointIds, repositoryId }),
  lockPoints: (pointIds: readonly string[], repositoryId: string, untilMs: number) =>
    call<PointsChanged>('POST', '/points/lock', { pointIds, repositoryId, untilMs }),
  diskUrl: (pointId: string, key: string) => apiUrl(`/points/${id(pointId)}/disks/${id(key)}/download`),
  guestVolumes: (pointId: string, key: string) =>
    call<{ volumes: GuestVolumeView[] }>('GET', `/points/${id(pointId)}/disks/${id(key)}/volumes`),
  /** @param from entries to pass over */
  guestFolder: (
    { pointId, key, volume }: { pointId: string; key: string; volume: number },
    page: { path: string; from: number; limit: number },
  ) => call<GuestFolderPage>('GET', `/points/${id(pointId)}/disks/${id(key)}/volumes/${volume}/files${query(page)}`),
  guestFileUrl: ({ pointId, key, volume }: { pointId: string; key: string; volume: number }, path: string) =>
    apiUrl(`/points/${id(pointId)}/disks/${id(key)}/volumes/${volume}/file${query({ path })}`),
  guestArchiveUrl: (
    { pointId, key, volume }: { pointId: string; key: string; volume: number },
    what: { path: string; names?: string; language: 'en' | 'de' | 'ja' },
  ) => apiUrl(`/points/${id(pointId)}/disks/${id(key)}/volumes/${volume}/archive${query(what)}`),
  tryDownload,
  restore: (input: RestoreInput) => call<RunView>('POST', '/restores', input),
  exportDisk: (input: ExportInput) => call<RunView>('POST', '/exports', input),

  repositories: () => call<RepositoryView[]>('GET', '/repositories'),
  createRepository: (input: { name: string; path: string; passphrase?: string }) =>
    call<RepositoryCreated>('POST', '/repositories', input),
  adoptRepository: (input: { name: string; path: string; key?: string }) =>
    call<RepositoryView>('POST', '/repositories/adopt', input),
  changeRepository: (repositoryId: string, change: { name?: string; path?: string; retention?: Retention | null }) =>
    call<RepositoryView>('PATCH', `/repositories/${id(repositoryId)}`, change),
  removeRepository: (repositoryId: string) => call<void>('DELETE', `/repositories/${id(repositoryId)}`),
  refreshRepository: (repositoryId: string) =>
    call<RepositoryView>('POST', `/repositories/${id(repositoryId)}/refresh`, {}),
  repositorySpace: (repositoryId: string) => call<RepositorySpace>('GET', `/repositories/${id(repositoryId)}/space`),
  repositoryUsage: (repositoryId: string, limit: number) =>
    call<RepositoryUsage>('GET', `/repositories/${id(repositoryId)}/usage${query({ limit })}`),
  maintenance: (repositoryId: string) =>
    call<RepositoryMaintenanceView>('GET', `/repositories/${id(repositoryId)}/maintenance`),
  maintain: (repositoryId: string) => call<RunView>('POST', `/repositories/${id(repositoryId)}/maintenance`, {}),
  keys: (repositoryId: string) => call<RepositoryKeyView[]>('GET', `/repositories/${id(repositoryId)}/keys`),
  addKey: (
    repositoryId: string,
    input: { kind: 'recovery'; label: string } | { kind: 'passphrase'; label: string; passphrase: string },
  ) => call<RepositoryKeyAdded>('POST', `/repositories/${id(repositoryId)}/keys`, input),
  removeKey: (repositoryId: string, slotId: string) =>
    call<void>('DELETE', `/repositories/${id(repositoryId)}/keys/${id(slotId)}`),
  drillKey: (repositoryId: string, key: string) =>
    call<RepositoryKeyDrill>('POST', `/repositories/${id(repositoryId)}/keys/drill`, { key }),
  /** @param pointIds all versions when absent */
  copyPoints: (repositoryId: string, input: { targetId: string; pointIds?: string[] }) =>
    call<RunView>('POST', `/repositories/${id(repositoryId)}/copies`, input),
  checkRepository: (repositoryId: string, depth: 'structure' | 'hashes') =>
    call<RunView>('POST', `/repositories/${id(repositoryId)}/check`, { depth }),

  nas: () => call<NasView>('GET', '/nas'),
  judgeFolder: (path: string) => call<FolderView>('POST', '/nas/folder', { path }),
  exportConfiguration: (passphrase: string | null) =>
    call<ConfigurationDocument>('POST', '/configuration/export', { passphrase }),
  importConfiguration: (input: { document: ConfigurationDocument; passphrase: string | null; dryRun: boolean }) =>
    call<ImportReport>('POST', '/configuration/import', input),
  importGhetto: (input: GhettoImportInput) =>
    call<GhettoImportReport>('POST', '/configuration/import/ghettovcb', input),

  settings: () => call<Settings>('GET', '/settings'),
  changeSettings: (change: SettingsChange) => call<Settings>('PATCH', '/settings', change),
  system: () => call<SystemView>('GET', '/system'),
};
