import type { Command } from 'commander';
import type { Terminal } from './ask.ts';
import { callApi, type Connection } from './connection.ts';
import { loadConnection } from './settings-file.ts';
import { formatTable } from './table.ts';

export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
/** Finished, but not as it should be: with warnings, or incomplete. */
export const EXIT_WARNINGS = 3;

/** Options of every command, wherever they stand. */
export interface GlobalOptions {
  json?: boolean;
  server?: string;
  fingerprint?: string;
}

/** What a command gives: one document for programs, text for people. */
export interface Output {
  document: unknown;
  text: string;
  exitStatus?: number;
}

export interface Invocation<Options> {
  /** Positional arguments, in order. */
  args: string[];
  options: Options & GlobalOptions;
  connection: Connection;
  api: Api;
}

/** The API, one method a verb. */
export interface Api {
  get<T>(path: string, query?: Record<string, string | number | boolean | undefined>): Promise<T>;
  post<T>(path: string, body: unknown): Promise<T>;
  put<T>(path: string, body: unknown): Promise<T>;
  patch<T>(path: string, body: unknown): Promise<T>;
  delete<T>(path: string): Promise<T>;
}

/** One call of the program: its streams, its environment, and how it will end. */
export class CommandContext {
  readonly terminal: Terminal;
  readonly environment: Record<string, string | undefined>;
  exitStatus = EXIT_DONE;
  isJson = false;

  constructor(terminal: Terminal, environment: Record<string, string | undefined>) {
    this.terminal = terminal;
    this.environment = environment;
  }

  /** Adds a command below a group. `usage` as commander takes it: `show <host>`. */
  leaf(group: Command, usage: string, description: string): Command {
    return addGlobalOptions(group.command(usage)).description(description);
  }

  /** Ties a handler to a command. Null: the handler has written everything itself. */
  handle<Options>(command: Command, handler: (call: Invocation<Options>) => Promise<Output | null>): void {
    command.action(async () => {
      const options = command.optsWithGlobals<Options & GlobalOptions>();
      this.isJson = options.json === true;
      const connection = await loadConnection(options, this.environment);
      const args = command.processedArgs.flat().filter((arg) => typeof arg === 'string');
      this.print(await handler({ args, options, connection, api: createApi(connection) }));
    });
  }

  print(output: Output | null): void {
    if (output === null) return;
    this.terminal.output.write(this.isJson ? `${JSON.stringify(output.document)}\n` : output.text);
    this.exitStatus = output.exitStatus ?? EXIT_DONE;
  }
}

export function addGlobalOptions(command: Command): Command {
  return command
    .option('--json', 'print one JSON document, or one line an event')
    .option('--server <address>', 'https://NAS:5510; else DOZO_SERVER, else what `dozo login` kept')
    .option('--fingerprint <sha256>', "of the server's certificate; else DOZO_FINGERPRINT");
}

export function createApi(connection: Connection): Api {
  const call = async <T>(method: string, path: string, body?: unknown, query?: Record<string, string>): Promise<T> =>
    (await callApi(connection, {
      method,
      path,
      ...(body === undefined ? {} : { body }),
      ...(query === undefined ? {} : { query }),
    })) as T;
  return {
    get: (path, query) => call('GET', path, undefined, query as Record<string, string>),
    post: (path, body) => call('POST', path, body),
    put: (path, body) => call('PUT', path, body),
    patch: (path, body) => call('PATCH', path, body),
    delete: (path) => call('DELETE', path),
  };
}

/** A list: rows for people, the same things whole for programs. */
export function listOutput<T>(
  items: readonly T[],
  headings: readonly string[],
  toRow: (item: T) => readonly string[],
): Output {
  return { document: items, text: items.length === 0 ? 'None.\n' : formatTable(headings, items.map(toRow)) };
}

/** One thing: its fields one below the other. */
export function showOutput(document: object, fields: readonly (readonly [string, string])[]): Output {
  return { document, text: formatTable(['', ''], fields).split('\n').slice(1).join('\n') };
}

export function doneOutput(document: unknown, sentence: string): Output {
  return { document, text: `${sentence}\n` };
}
