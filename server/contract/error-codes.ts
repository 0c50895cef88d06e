/**
 * Every error that Dozo can show. One row a code:
 * - `http`: the status of an API answer that carries it;
 * - `retry`: what a repetition is worth. `transient`: likely to pass by itself; `permanent`: a person
 *   must do something first; `never`: repeating does harm (a locked account, for one).
 *
 * `docs/errors.md` holds meaning, cause and remedy of each; a test compares the two.
 */
export const ERROR_CODES = {
  // The program itself
  INTERNAL: { http: 500, retry: 'permanent' },
  INVARIANT_BROKEN: { http: 500, retry: 'permanent' },
  CANCELLED: { http: 409, retry: 'permanent' },
  INPUT_INVALID: { http: 400, retry: 'permanent' },
  NOT_FOUND: { http: 404, retry: 'permanent' },
  CONFLICT: { http: 409, retry: 'permanent' },
  LOGIN_REQUIRED: { http: 401, retry: 'permanent' },
  LOGIN_REFUSED: { http: 401, retry: 'never' },
  LOGIN_CODE_REQUIRED: { http: 401, retry: 'permanent' },
  LOGIN_CODE_REFUSED: { http: 401, retry: 'never' },
  LOGIN_RATE_LIMITED: { http: 429, retry: 'transient' },
  TOO_MANY_AT_ONCE: { http: 429, retry: 'transient' },
  NAS_SESSION_REFUSED: { http: 401, retry: 'permanent' },
  NAS_UNREACHABLE: { http: 503, retry: 'transient' },
  TOKEN_IN_URL: { http: 400, retry: 'never' },
  FORBIDDEN: { http: 403, retry: 'permanent' },
  QUEUE_UNAVAILABLE: { http: 503, retry: 'transient' },
  WORKER_LOST: { http: 503, retry: 'transient' },
  SECRET_UNREADABLE: { http: 500, retry: 'permanent' },
  RUN_ALREADY_ACTIVE: { http: 409, retry: 'transient' },
  RUN_STOPPED_BY_WINDOW: { http: 409, retry: 'permanent' },
  SCHEDULE_CIRCLE: { http: 409, retry: 'permanent' },
  SELECTION_EMPTY: { http: 409, retry: 'permanent' },
  SERVER_UNREACHABLE: { http: 503, retry: 'transient' },
  SERVER_CERTIFICATE_CHANGED: { http: 502, retry: 'never' },
  SERVER_ALREADY_RUNNING: { http: 409, retry: 'permanent' },
  CATALOGUE_DAMAGED: { http: 500, retry: 'permanent' },
  CATALOGUE_FAILED: { http: 500, retry: 'transient' },
  CATALOGUE_NEWER: { http: 409, retry: 'permanent' },

  // Reaching a host
  HOST_UNREACHABLE: { http: 502, retry: 'transient' },
  HOST_NAME_UNKNOWN: { http: 502, retry: 'permanent' },
  HOST_PORT_REFUSED: { http: 502, retry: 'transient' },
  HOST_NOT_ESXI: { http: 502, retry: 'permanent' },
  HOST_SSH_OFF: { http: 502, retry: 'permanent' },
  HOST_SSH_DROPPED: { http: 502, retry: 'transient' },
  HOST_LOGIN_REFUSED: { http: 502, retry: 'never' },
  HOST_KEY_CHANGED: { http: 502, retry: 'never' },
  HOST_CERTIFICATE_CHANGED: { http: 502, retry: 'never' },
  HOST_PASSWORD_NEEDED: { http: 400, retry: 'permanent' },
  HOST_NOT_ADMINISTRATOR: { http: 502, retry: 'permanent' },
  HOST_LICENSE_REFUSES: { http: 502, retry: 'permanent' },
  HOST_LOCKDOWN: { http: 502, retry: 'permanent' },
  HOST_CONNECTION_LOST: { http: 502, retry: 'transient' },
  HOST_STALLED: { http: 502, retry: 'transient' },
  HOST_COMMAND_FAILED: { http: 502, retry: 'permanent' },
  HOST_ANSWER_UNREADABLE: { http: 502, retry: 'permanent' },
  SOAP_FAULT: { http: 502, retry: 'permanent' },

  // Machines and their snapshots
  MACHINE_NOT_FOUND: { http: 404, retry: 'permanent' },
  MACHINE_STATE_CHANGED: { http: 409, retry: 'transient' },
  MACHINE_NOT_PROTECTABLE: { http: 409, retry: 'permanent' },
  SNAPSHOT_FAILED: { http: 502, retry: 'transient' },
  SNAPSHOT_NOT_TAKEN: { http: 502, retry: 'transient' },
  SNAPSHOT_LEFTOVER: { http: 409, retry: 'permanent' },
  SNAPSHOT_QUIESCE_REFUSED: { http: 502, retry: 'permanent' },
  SNAPSHOT_REMOVE_FAILED: { http: 502, retry: 'transient' },
  SNAPSHOT_CONSOLIDATION_NEEDED: { http: 502, retry: 'transient' },
  DATASTORE_FULL: { http: 507, retry: 'permanent' },
  DATASTORE_NOT_FOUND: { http: 404, retry: 'permanent' },

  // Reading and writing disks
  DISK_NO_ROUTE: { http: 502, retry: 'permanent' },
  DISK_READ_REFUSED: { http: 502, retry: 'permanent' },
  DISK_READ_SHORT: { http: 502, retry: 'transient' },
  DISK_RANGE_IGNORED: { http: 502, retry: 'permanent' },
  DISK_CLONE_FAILED: { http: 502, retry: 'transient' },
  DISK_CLONE_INTERRUPTED: { http: 502, retry: 'transient' },
  DISK_DESCRIPTOR_INVALID: { http: 502, retry: 'permanent' },
  DISK_WRITE_FAILED: { http: 502, retry: 'transient' },
  DISK_VERIFY_FAILED: { http: 502, retry: 'permanent' },
  CHANGE_MAP_INVALID: { http: 502, retry: 'permanent' },

  // File systems of guests
  FILESYSTEM_DAMAGED: { http: 422, retry: 'permanent' },
  FILESYSTEM_UNSUPPORTED: { http: 422, retry: 'permanent' },
  FILESYSTEM_PATH_NOT_FOUND: { http: 404, retry: 'permanent' },
  FOLDER_TOO_LARGE: { http: 422, retry: 'permanent' },

  // The repository
  STORAGE_FAILED: { http: 500, retry: 'transient' },
  STORAGE_FULL: { http: 507, retry: 'permanent' },
  STORAGE_READ_ONLY: { http: 507, retry: 'permanent' },
  STORAGE_WRITE_ONCE: { http: 507, retry: 'permanent' },
  STORAGE_MISSING: { http: 500, retry: 'permanent' },
  STORAGE_EXISTS: { http: 409, retry: 'permanent' },
  REPOSITORY_NOT_FOUND: { http: 404, retry: 'permanent' },
  REPOSITORY_EXISTS: { http: 409, retry: 'permanent' },
  REPOSITORY_EXCHANGED: { http: 409, retry: 'permanent' },
  REPOSITORY_FORMAT_UNKNOWN: { http: 409, retry: 'permanent' },
  REPOSITORY_KEY_NEEDED: { http: 409, retry: 'permanent' },
  REPOSITORY_KEY_WRONG: { http: 409, retry: 'never' },
  REPOSITORY_PACK_DAMAGED: { http: 500, retry: 'permanent' },
  REPOSITORY_CHUNK_DAMAGED: { http: 500, retry: 'permanent' },
  REPOSITORY_CHUNK_MISSING: { http: 500, retry: 'permanent' },
  REPOSITORY_INDEX_DAMAGED: { http: 500, retry: 'permanent' },
  REPOSITORY_MANIFEST_DAMAGED: { http: 500, retry: 'permanent' },
  POINT_NOT_FOUND: { http: 404, retry: 'permanent' },
  REPOSITORY_EVIDENCE_MISSING: { http: 409, retry: 'permanent' },
  REPOSITORY_CLOCK_BACK: { http: 409, retry: 'permanent' },
  REPOSITORY_COLLECTED: { http: 409, retry: 'transient' },
  POINT_LOCKED: { http: 409, retry: 'permanent' },
  POINT_INCOMPLETE: { http: 409, retry: 'permanent' },

  // Bringing back
  RESTORE_NAME_TAKEN: { http: 409, retry: 'permanent' },
  RESTORE_MACHINE_RUNNING: { http: 409, retry: 'permanent' },
  RESTORE_REGISTER_FAILED: { http: 502, retry: 'permanent' },
  RESTORE_POWER_ON_FAILED: { http: 502, retry: 'permanent' },

  // Telling people
  NOTIFICATION_UNREACHABLE: { http: 502, retry: 'transient' },
  NOTIFICATION_CERTIFICATE: { http: 502, retry: 'never' },
  NOTIFICATION_TLS_MISSING: { http: 502, retry: 'permanent' },
  NOTIFICATION_LOGIN_REFUSED: { http: 502, retry: 'never' },
  NOTIFICATION_DEFERRED: { http: 502, retry: 'transient' },
  NOTIFICATION_REFUSED: { http: 502, retry: 'permanent' },
  NOTIFICATION_NOT_SET_UP: { http: 409, retry: 'permanent' },
  HOOK_FAILED: { http: 500, retry: 'permanent' },
} as const satisfies Record<string, { http: number; retry: Retry }>;

export type Retry = 'transient' | 'permanent' | 'never';
export type ErrorCode = keyof typeof ERROR_CODES;

/** Plain form of an error for the queue, the API and the catalogue. Never holds a secret. */
export interface ErrorBody {
  code: ErrorCode;
  /** What happened, to what: one English sentence. */
  message: string;
  /** What to do next: one English sentence, absent where there is nothing to do. */
  hint?: string;
  /** Names and numbers of the sentence, for translated texts. */
  details: Record<string, string | number | boolean | null>;
}
