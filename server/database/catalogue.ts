import { chmod } from 'node:fs/promises';
import { AuditLog } from './audit-log.ts';
import { Holds } from './holds.ts';
import { Hosts } from './hosts.ts';
import { Jobs } from './jobs.ts';
import { Listings } from './listings.ts';
import { LogLines } from './log-lines.ts';
import { Machines } from './machines.ts';
import { migrate } from './migrations.ts';
import { Outbox } from './outbox.ts';
import { Points } from './points.ts';
import { Recipients } from './recipients.ts';
import { Repositories } from './repositories.ts';
import { RepositorySizes } from './repository-sizes.ts';
import { RunParts } from './run-parts.ts';
import { Runs } from './runs.ts';
import { Schedules } from './schedules.ts';
import { Sessions } from './sessions.ts';
import { SettingsTable } from './settings.ts';
import { Sqlite, type OnTrouble, type SqlExecutor } from './sqlite.ts';
import { Users } from './users.ts';

/** All tables, on the database itself or inside a transaction. */
export interface Tables {
  readonly users: Users;
  readonly sessions: Sessions;
  readonly hosts: Hosts;
  readonly machines: Machines;
  readonly repositories: Repositories;
  readonly jobs: Jobs;
  readonly schedules: Schedules;
  readonly runs: Runs;
  readonly parts: RunParts;
  readonly holds: Holds;
  readonly log: LogLines;
  readonly settings: SettingsTable;
  readonly points: Points;
  readonly listings: Listings;
  readonly recipients: Recipients;
  readonly outbox: Outbox;
  readonly repositorySizes: RepositorySizes;
  readonly audit: AuditLog;
}

/** The truth about intent: what is configured, what ran, what may still be on a host. */
export interface Catalogue extends Tables {
  /**
   * Runs `body` on tables of one transaction: all of it happens, durably, or nothing. Inside, only the
   * tables given may be used.
   */
  transaction<T>(body: (tables: Tables) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/**
 * Opens (or creates) the catalogue and brings it to the newest form.
 * @param path of the database file
 * @param options.onTrouble told of each statement that failed since the database or its volume is in trouble, and of
 *   null once it was written again
 * @throws CATALOGUE_DAMAGED, CATALOGUE_FAILED, CATALOGUE_NEWER, STORAGE_FULL
 */
export async function openCatalogue(path: string, options: { onTrouble?: OnTrouble } = {}): Promise<Catalogue> {
  const database = await Sqlite.open(path, options.onTrouble);
  try {
    await database.configure();
    await migrate(database);
    await chmod(path, 0o600);
  } catch (error) {
    await database.close();
    throw error;
  }
  return {
    ...createTables(database),
    transaction: (body) => database.transaction((executor) => body(createTables(executor))),
    close: () => database.close(),
  };
}

function createTables(executor: SqlExecutor): Tables {
  return {
    users: new Users(executor),
    sessions: new Sessions(executor),
    hosts: new Hosts(executor),
    machines: new Machines(executor),
    repositories: new Repositories(executor),
    jobs: new Jobs(executor),
    schedules: new Schedules(executor),
    runs: new Runs(executor),
    parts: new RunParts(executor),
    holds: new Holds(executor),
    log: new LogLines(executor),
    settings: new SettingsTable(executor),
    points: new Points(executor),
    listings: new Listings(executor),
    recipients: new Recipients(executor),
    outbox: new Outbox(executor),
    repositorySizes: new RepositorySizes(executor),
    audit: new AuditLog(executor),
  };
}
