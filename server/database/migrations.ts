import { AppError } from '../errors/index.ts';
import type { Sqlite } from './sqlite.ts';

/**
 * The catalogue's history. A migration that was ever released is never edited: changes are appended.
 * Times are milliseconds since 1970, JSON is text, identifiers are 16 lower-case hex digits.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    -- SHA-256 of the secret in the cookie or the token: the secret itself is nowhere on disk.
    secret_hash TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('cookie', 'token')),
    name TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER,
    expires_at_ms INTEGER
  ) STRICT;
  CREATE INDEX sessions_by_user ON sessions(user_name, kind);

  CREATE TABLE hosts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    ssh_port INTEGER NOT NULL,
    https_port INTEGER NOT NULL,
    user TEXT NOT NULL,
    auth TEXT NOT NULL CHECK (auth IN ('password', 'key')),
    -- Password or key, sealed.
    secret TEXT NOT NULL,
    ssh_host_key TEXT,
    tls_certificate TEXT,
    facts TEXT,
    error TEXT,
    checked_at_ms INTEGER,
    created_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    host_id TEXT REFERENCES hosts(id) ON DELETE SET NULL,
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    summary TEXT,
    present INTEGER NOT NULL,
    seen_at_ms INTEGER
  ) STRICT;
  CREATE INDEX machines_by_host ON machines(host_id);

  CREATE TABLE repositories (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL UNIQUE,
    format_id TEXT UNIQUE,
    chunk_size_bytes INTEGER,
    stats TEXT,
    error TEXT,
    seen_at_ms INTEGER,
    created_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    repository_id TEXT NOT NULL REFERENCES repositories(id),
    options TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX jobs_by_repository ON jobs(repository_id);

  CREATE TABLE job_machines (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    machine_id TEXT NOT NULL REFERENCES machines(id),
    position INTEGER NOT NULL,
    PRIMARY KEY (job_id, machine_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX job_machines_by_machine ON job_machines(machine_id);

  CREATE TABLE runs (
    -- Grows with time: pages are cut by it.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('backup', 'restore', 'export', 'check')),
    job_id TEXT REFERENCES jobs(id) ON DELETE SET NULL,
    repository_id TEXT REFERENCES repositories(id) ON DELETE SET NULL,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER,
    finished_at_ms INTEGER,
    error TEXT
  ) STRICT;
  -- One run of a job at a time, whoever starts it.
  CREATE UNIQUE INDEX runs_one_active ON runs(job_id) WHERE state IN ('waiting', 'running') AND job_id IS NOT NULL;
  CREATE INDEX runs_by_job ON runs(job_id, number);
  CREATE INDEX runs_by_state ON runs(state, number);

  CREATE TABLE run_parts (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    machine_id TEXT,
    host_id TEXT,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    -- What the worker is told: null until it is handed to the queue.
    task TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    enqueued_at_ms INTEGER,
    started_at_ms INTEGER,
    finished_at_ms INTEGER,
    progress TEXT,
    result TEXT,
    error TEXT
  ) STRICT;
  CREATE INDEX run_parts_by_run ON run_parts(run_id, position);
  CREATE INDEX run_parts_by_machine ON run_parts(machine_id);
  CREATE INDEX run_parts_active ON run_parts(state) WHERE state IN ('waiting', 'running');

  -- The journal: written before a worker may touch a host, struck out when nothing of ours is left there.
  CREATE TABLE holds (
    name TEXT PRIMARY KEY,
    host_id TEXT NOT NULL REFERENCES hosts(id),
    part_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    machine_id TEXT,
    created_at_ms INTEGER NOT NULL,
    released_at_ms INTEGER,
    error TEXT
  ) STRICT;
  CREATE INDEX holds_open ON holds(host_id) WHERE released_at_ms IS NULL;
  CREATE INDEX holds_by_part ON holds(part_id);

  CREATE TABLE log_lines (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    part_id TEXT,
    -- Who wrote it and the how-manieth line of theirs it is: the same line may arrive twice.
    source TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    level TEXT NOT NULL,
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    details TEXT,
    UNIQUE (run_id, source, sequence)
  ) STRICT;
  CREATE INDEX log_lines_by_run ON log_lines(run_id, number);

  CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- What the repositories hold, as last seen. Can be rebuilt from them at any time.
  CREATE TABLE points (
    id TEXT NOT NULL,
    repository_id TEXT NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    machine_id TEXT NOT NULL,
    machine_name TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_reasons TEXT NOT NULL,
    consistency TEXT,
    size_bytes INTEGER NOT NULL,
    root_hash TEXT,
    previous_point_id TEXT,
    disks TEXT NOT NULL,
    PRIMARY KEY (repository_id, id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX points_by_id ON points(id);
  CREATE INDEX points_by_machine ON points(machine_id, created_at_ms);
  CREATE INDEX points_by_time ON points(created_at_ms, id);
  `,
  `
  -- When a job runs by itself, and how far that has been dealt with.
  CREATE TABLE job_schedules (
    job_id TEXT PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE,
    schedule TEXT NOT NULL,
    done_until_ms INTEGER NOT NULL,
    missed_at_ms INTEGER
  ) STRICT;

  -- Who started a run: a person or program, the schedule, the schedule too late, a repetition.
  ALTER TABLE runs ADD COLUMN started_by TEXT NOT NULL DEFAULT 'request';
  ALTER TABLE runs ADD COLUMN due_at_ms INTEGER;
  ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
  `,
  `
  -- What a token may do: everything, or look at the state of things only.
  ALTER TABLE sessions ADD COLUMN scope TEXT NOT NULL DEFAULT 'full' CHECK (scope IN ('full', 'monitor'));
  `,
  `
  -- People: roles, second factor, what was delegated to whom, and what they did.
  ALTER TABLE users ADD COLUMN source TEXT NOT NULL DEFAULT 'local';
  ALTER TABLE users ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
  -- Secret of the one-time codes, sealed; pending until the first code was entered.
  ALTER TABLE users ADD COLUMN totp_secret TEXT;
  ALTER TABLE users ADD COLUMN totp_pending TEXT;
  -- The time step of the newest code that was used: no code is good twice.
  ALTER TABLE users ADD COLUMN totp_step INTEGER;

  CREATE TABLE recovery_codes (
    user_name TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
    code_hash TEXT NOT NULL,
    PRIMARY KEY (user_name, code_hash)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE delegations (
    user_name TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    PRIMARY KEY (user_name, job_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE sessions_new (
    id TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('cookie', 'token')),
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    address TEXT,
    created_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER,
    expires_at_ms INTEGER,
    -- However often it is used.
    ends_at_ms INTEGER
  ) STRICT;
  INSERT INTO sessions_new (id, secret_hash, user_name, kind, name, scope, created_at_ms, used_at_ms, expires_at_ms)
    SELECT id, secret_hash, user_name, kind, name, scope, created_at_ms, used_at_ms, expires_at_ms FROM sessions;
  DROP TABLE sessions;
  ALTER TABLE sessions_new RENAME TO sessions;
  CREATE INDEX sessions_by_user ON sessions(user_name, kind);

  -- Each entry holds the hash of the one before: an edit breaks the chain.
  CREATE TABLE audit_log (
    number INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    actor TEXT,
    by TEXT,
    address TEXT,
    action TEXT NOT NULL,
    target TEXT,
    outcome TEXT NOT NULL,
    details TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL
  ) STRICT;
  CREATE INDEX audit_log_by_time ON audit_log(at_ms);
  `,
  `
  -- Who is told what, what is still to be told, and how far that has come.
  CREATE TABLE recipients (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL,
    -- Address and key of a webhook, sealed.
    secrets TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE notices (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What it is about: the same is not told twice.
    key TEXT NOT NULL UNIQUE,
    notice TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    notice_number INTEGER NOT NULL REFERENCES notices(number) ON DELETE CASCADE,
    recipient_id TEXT NOT NULL REFERENCES recipients(id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'failed')),
    attempts INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    next_attempt_at_ms INTEGER,
    tried_at_ms INTEGER,
    sent_at_ms INTEGER,
    error TEXT,
    UNIQUE (notice_number, recipient_id, address)
  ) STRICT;
  CREATE INDEX deliveries_waiting ON deliveries(next_attempt_at_ms) WHERE state = 'waiting';
  CREATE INDEX deliveries_by_recipient ON deliveries(recipient_id, number);

  CREATE TABLE notice_marks (
    key TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- Whether the end of a run was told; what ended before there was anybody to tell is.
  ALTER TABLE runs ADD COLUMN noticed INTEGER NOT NULL DEFAULT 0;
  UPDATE runs SET noticed = 1 WHERE finished_at_ms IS NOT NULL;
  CREATE INDEX runs_to_notice ON runs(number) WHERE noticed = 0 AND finished_at_ms IS NOT NULL;

  -- Size of each repository day by day, for reports.
  CREATE TABLE repository_sizes (
    repository_id TEXT NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    day_ms INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    nominal_bytes INTEGER NOT NULL,
    points INTEGER NOT NULL,
    PRIMARY KEY (repository_id, day_ms)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Versions that are locked or in the trash.
  ALTER TABLE points ADD COLUMN locked_until_ms INTEGER;
  ALTER TABLE points ADD COLUMN trash TEXT;

  -- Kinds of runs are checked where they are made. This is how SQLite's manual removes a constraint:
  -- "Making Other Kinds Of Table Schema Changes", lang_altertable.html.
  PRAGMA writable_schema = ON;
  UPDATE sqlite_schema SET sql = replace(sql, ' CHECK (kind IN (''backup'', ''restore'', ''export'', ''check''))', '')
    WHERE type = 'table' AND name = 'runs';
  PRAGMA writable_schema = RESET;
  `,
  `
  -- Machines by what they are like; null: one by one.
  ALTER TABLE jobs ADD COLUMN selection TEXT;
  -- Number of the newest run of the followed job that was dealt with.
  ALTER TABLE job_schedules ADD COLUMN done_until_run INTEGER NOT NULL DEFAULT 0;
  -- Who wanted a run to end before it was done: 'request' or 'window'.
  ALTER TABLE runs ADD COLUMN stopped_by TEXT;
  UPDATE runs SET stopped_by = 'request' WHERE cancel_requested = 1;
  `,
  `
  -- Which versions stay of machines that are only copied into a repository; null: all.
  ALTER TABLE repositories ADD COLUMN retention TEXT;
  `,
  `
  -- What a machine has is counted without what is in the trash.
  CREATE INDEX points_shown_by_machine ON points(machine_id, created_at_ms) WHERE trash IS NULL;
  `,
];

/**
 * Brings the database to the newest form, each step in a transaction of its own.
 * @param migrations for tests; the real ones by default
 * @throws CATALOGUE_NEWER when a newer Dozo has written it
 */
export async function migrate(database: Sqlite, migrations: readonly string[] = MIGRATIONS): Promise<void> {
  const current = Number((await database.get('PRAGMA user_version'))?.['user_version'] ?? 0);
  if (current > migrations.length) {
    throw new AppError(
      'CATALOGUE_NEWER',
      `The catalogue has version ${current}, this Dozo knows ${migrations.length}.`,
      {
        hint: 'Install the newer version of Dozo again.',
        details: { version: current, known: migrations.length },
      },
    );
  }
  for (let version = current; version < migrations.length; version += 1) {
    // user_version is part of the transaction: a crash leaves the step done or not done.
    await database.script(
      `BEGIN IMMEDIATE; ${migrations[version] ?? ''}; PRAGMA user_version = ${version + 1}; COMMIT;`,
    );
  }
}
