import sqlite3 from 'sqlite3';
import type { ErrorCode } from '../contract/error-codes.ts';
import { AppError, isAppError } from '../errors/index.ts';

export type SqlValue = string | number | null;
export type Row = Record<string, SqlValue>;

/** Where statements go: the database itself, or a transaction on it. */
export interface SqlExecutor {
  all(sql: string, params?: readonly SqlValue[]): Promise<Row[]>;
  /** First row or null. */
  get(sql: string, params?: readonly SqlValue[]): Promise<Row | null>;
  /** Returns how many rows were changed. */
  run(sql: string, params?: readonly SqlValue[]): Promise<number>;
}

/** Of failures that lie in the database or its volume, not in what was asked of it. */
const TROUBLES = new Set<ErrorCode>(['STORAGE_FULL', 'STORAGE_READ_ONLY', 'CATALOGUE_DAMAGED', 'CATALOGUE_FAILED']);

/** @param trouble what keeps the database from its work; null: it has been written again */
export type OnTrouble = (trouble: AppError | null) => void;

/** How long another process (a backup of the file, the CLI of SQLite) may hold the database. */
const BUSY_TIMEOUT_MS = 10_000;

/**
 * A thin typed face over one sqlite3 connection. Statements are prepared once; one statement or one
 * transaction is in work at a time, so a transaction never contains a foreign statement.
 */
export class Sqlite implements SqlExecutor {
  readonly #connection: sqlite3.Database;
  readonly #statements = new Map<string, sqlite3.Statement>();
  #tail: Promise<unknown> = Promise.resolve();
  readonly #onTrouble: OnTrouble;
  #trouble: AppError | null = null;
  #isClosed = false;

  private constructor(connection: sqlite3.Database, onTrouble: OnTrouble) {
    this.#connection = connection;
    this.#onTrouble = onTrouble;
  }

  static async open(path: string, onTrouble: OnTrouble = () => undefined): Promise<Sqlite> {
    const connection = await new Promise<sqlite3.Database>((resolve, reject) => {
      const opened = new sqlite3.Database(path, (error) => {
        if (error === null) resolve(opened);
        else reject(wrapError(error, path));
      });
    });
    return new Sqlite(connection, onTrouble);
  }

  /** WAL with a sync on every commit: what was answered to a user or told to a host stays true. */
  async configure(): Promise<void> {
    await this.script(
      `PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;`,
    );
  }

  /** Runs several statements without parameters. */
  async script(sql: string): Promise<void> {
    await this.#exclusive(() => this.#exec(sql));
  }

  all(sql: string, params: readonly SqlValue[] = []): Promise<Row[]> {
    return this.#exclusive(() => this.#all(sql, params));
  }

  async get(sql: string, params: readonly SqlValue[] = []): Promise<Row | null> {
    return (await this.all(sql, params))[0] ?? null;
  }

  run(sql: string, params: readonly SqlValue[] = []): Promise<number> {
    return this.#exclusive(async () => {
      const changed = await this.#run(sql, params);
      if (changed > 0) this.#noteWritten();
      return changed;
    });
  }

  /**
   * Runs `body` in a transaction: committed when it resolves, rolled back when it rejects. Inside, only
   * the executor given may be used; calls on the database itself wait until the end.
   */
  transaction<T>(body: (executor: SqlExecutor) => Promise<T>): Promise<T> {
    return this.#exclusive(async () => {
      await this.#exec('BEGIN IMMEDIATE');
      try {
        const result = await body({
          all: (sql, params = []) => this.#all(sql, params),
          get: async (sql, params = []) => (await this.#all(sql, params))[0] ?? null,
          run: (sql, params = []) => this.#run(sql, params),
        });
        await this.#exec('COMMIT');
        this.#noteWritten();
        return result;
      } catch (error) {
        // SQLite itself rolls back on some errors (disk full); then there is nothing to roll back.
        await this.#exec('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    await this.#exclusive(async () => {
      this.#isClosed = true;
      for (const statement of this.#statements.values()) {
        await new Promise<void>((resolve) => void statement.finalize(() => resolve()));
      }
      await new Promise<void>((resolve, reject) => {
        this.#connection.close((error) => (error === null ? resolve() : reject(wrapError(error, 'close'))));
      });
    });
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(() => {
      if (this.#isClosed) throw new AppError('INTERNAL', 'The catalogue was closed.');
      return work();
    });
    this.#tail = result.catch((error: unknown) => this.#noteFailure(error));
    return result;
  }

  #noteFailure(error: unknown): void {
    if (!isAppError(error) || !TROUBLES.has(error.code)) return;
    // What is damaged stays so, whatever else can be written.
    if (this.#trouble?.code !== 'CATALOGUE_DAMAGED') this.#trouble = error;
    this.#onTrouble(this.#trouble);
  }

  #noteWritten(): void {
    if (this.#trouble === null || this.#trouble.code === 'CATALOGUE_DAMAGED') return;
    this.#trouble = null;
    this.#onTrouble(null);
  }

  #exec(sql: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#connection.exec(sql, (error) => (error === null ? resolve() : reject(wrapError(error, sql))));
    });
  }

  async #prepare(sql: string): Promise<sqlite3.Statement> {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = await new Promise<sqlite3.Statement>((resolve, reject) => {
      const prepared = this.#connection.prepare(sql, (error: Error | null) => {
        if (error === null) resolve(prepared);
        else reject(wrapError(error, sql));
      });
    });
    this.#statements.set(sql, statement);
    return statement;
  }

  async #all(sql: string, params: readonly SqlValue[]): Promise<Row[]> {
    const statement = await this.#prepare(sql);
    return new Promise((resolve, reject) => {
      statement.all(params, (error: Error | null, rows: unknown[]) => {
        if (error === null) resolve(rows as Row[]);
        else reject(wrapError(error, sql));
      });
    });
  }

  async #run(sql: string, params: readonly SqlValue[]): Promise<number> {
    const statement = await this.#prepare(sql);
    return new Promise((resolve, reject) => {
      statement.run(params, function (error: Error | null) {
        if (error === null) resolve(this.changes);
        else reject(wrapError(error, sql));
      });
    });
  }
}

function wrapError(error: Error, what: string): AppError {
  const code = (error as NodeJS.ErrnoException).code ?? 'SQLITE_ERROR';
  const statement = what.trim().split('\n')[0]?.slice(0, 80) ?? '';
  switch (code) {
    case 'SQLITE_CONSTRAINT':
      return new AppError('CONFLICT', `The catalogue refuses this: ${error.message}`, {
        details: { constraint: error.message },
        cause: error,
      });
    case 'SQLITE_FULL':
      return new AppError('STORAGE_FULL', 'The volume of the catalogue is full.', {
        hint: "Free space on the volume that holds Dozo's own data.",
        cause: error,
      });
    case 'SQLITE_READONLY':
      return new AppError('STORAGE_READ_ONLY', 'The catalogue cannot be written.', {
        hint: "Check the rights and the volume of Dozo's data folder.",
        cause: error,
      });
    case 'SQLITE_CORRUPT':
    case 'SQLITE_NOTADB':
      return new AppError('CATALOGUE_DAMAGED', `The catalogue is damaged: ${error.message}`, {
        hint: 'Move catalogue.sqlite away and start again; then adopt the repositories. No version is lost.',
        cause: error,
      });
    case 'SQLITE_IOERR':
    case 'SQLITE_CANTOPEN':
    case 'SQLITE_BUSY':
    case 'SQLITE_LOCKED':
      return new AppError('CATALOGUE_FAILED', `The catalogue could not be read or written: ${error.message}`, {
        hint: "Check the volume of Dozo's data folder, and whether another program holds catalogue.sqlite.",
        cause: error,
      });
    default:
      return new AppError('INTERNAL', `The catalogue failed at "${statement}": ${error.message}`, { cause: error });
  }
}
