import { execFile } from 'node:child_process';
import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { scriptsSchema, type Scripts } from '../contract/api/hook.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { RunRecord } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import { found, type OrchestrationContext } from './context.ts';
import { RunLog } from './run-log.ts';

/** What a script may say into the log of a run. */
const OUTPUT_BYTES_MAX = 256 * 1024;
const SAID_CHARACTERS_MAX = 2_000;
/** Bits of a file's mode: anybody may execute, everybody may write. */
const EXECUTE_BITS = 0o111;
const WRITE_BY_ALL = 0o002;

/** How far the script before a run is. */
export type Before = 'ready' | 'at-work' | { error: ErrorBody };

/**
 * Programs of the administrator around runs of a job. Only files of one folder are run, which nobody can write to by
 * the API; what they are told is in their environment, so that no name of a machine is ever part of a command.
 */
export class JobScripts {
  readonly #context: OrchestrationContext;
  readonly #folder: string | null;
  readonly #log: RunLog;
  /** Of runs that wait; forgotten at their end. A server that was killed begins again with the script. */
  readonly #before = new Map<string, Before>();
  readonly #stopping = new AbortController();

  /** @param folder null: scripts are off */
  constructor(context: OrchestrationContext, folder: string | null) {
    this.#context = context;
    this.#folder = folder;
    this.#log = new RunLog(context);
  }

  get areAllowed(): boolean {
    return this.#folder !== null;
  }

  async load(jobId: string): Promise<Scripts> {
    return scriptsSchema.parse((await this.#context.catalogue.settings.load(keyOf(jobId))) ?? {});
  }

  /** @throws NOT_FOUND (job); CONFLICT when scripts are off; INPUT_INVALID when a file cannot be run */
  async save(jobId: string, scripts: Scripts): Promise<void> {
    const { catalogue, events } = this.#context;
    found(await catalogue.jobs.load(jobId), 'job', jobId);
    for (const name of [scripts.before, scripts.after]) if (name !== null) await this.#find(name);
    await catalogue.settings.save(keyOf(jobId), scripts);
    events.emit({ type: 'changed', what: 'job', id: jobId });
  }

  /** Names of files that can be run. */
  async list(): Promise<string[]> {
    if (this.#folder === null) return [];
    const names = await readdir(this.#folder).catch(() => []);
    const usable = await Promise.all(
      names.map((name) =>
        this.#find(name).then(
          () => true,
          () => false,
        ),
      ),
    );
    return names.filter((_name, index) => usable[index]).sort();
  }

  /** Starts the script before a run when it is first asked for it; `onEnd` is called when it has ended. */
  async before(run: RunRecord, onEnd: () => void): Promise<Before> {
    const known = this.#before.get(run.id);
    if (known !== undefined) return known;
    const scripts = run.kind === 'backup' && run.jobId !== null ? await this.load(run.jobId) : null;
    if (scripts?.before === null || scripts === null) return 'ready';
    this.#before.set(run.id, 'at-work');
    void this.#run(run, 'before', scripts.before, scripts.timeoutMinutes).then((error) => {
      // Not when the run was cancelled meanwhile.
      if (this.#before.has(run.id)) this.#before.set(run.id, error === null ? 'ready' : { error });
      onEnd();
    });
    return 'at-work';
  }

  /** After the end of a run; its outcome is a line of the log. */
  async after(run: RunRecord): Promise<void> {
    this.#before.delete(run.id);
    const scripts = run.kind === 'backup' && run.jobId !== null ? await this.load(run.jobId) : null;
    if (scripts === null || scripts.after === null) return;
    await this.#run(run, 'after', scripts.after, scripts.timeoutMinutes);
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** Never rejects. */
  async #run(
    run: RunRecord,
    event: 'before' | 'after',
    name: string,
    timeoutMinutes: number,
  ): Promise<ErrorBody | null> {
    let error: AppError | null = null;
    let output = '';
    try {
      const path = await this.#find(name);
      output = await this.#execute(path, timeoutMinutes * 60_000, {
        // Nothing of the server's own environment, which may hold secrets.
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        LANG: 'C.UTF-8',
        DOZO_EVENT: event,
        DOZO_RUN_ID: run.id,
        DOZO_JOB_ID: run.jobId ?? '',
        DOZO_JOB_NAME: run.title,
        DOZO_STATE: run.state,
      });
    } catch (cause) {
      error = toAppError(cause);
    }
    const said = output.trim().slice(0, SAID_CHARACTERS_MAX);
    await this.#log
      .write(run.id, null, {
        level: error === null ? 'info' : event === 'before' ? 'error' : 'warning',
        code: error === null ? 'SCRIPT_DONE' : 'SCRIPT_FAILED',
        text: error?.message ?? `The script ${name} (${event}) is done.${said === '' ? '' : ` It said: ${said}`}`,
        details: { script: name, event },
      })
      .catch((reason: unknown) =>
        this.#context.logger.warn({ code: toAppError(reason).code }, 'a line was not logged'),
      );
    return error?.toBody() ?? null;
  }

  /** The file behind a name. @throws CONFLICT, INPUT_INVALID */
  async #find(name: string): Promise<string> {
    if (this.#folder === null) {
      throw new AppError('CONFLICT', 'Scripts are switched off.', {
        hint: 'Set DOZO_SCRIPTS_DIR to a folder that only administrators of the NAS can write to.',
      });
    }
    const folder = await realpath(this.#folder).catch(() => this.#folder ?? '');
    const path = join(folder, name);
    const facts = await stat(path).catch(() => null);
    const isInside = (await realpath(path).catch(() => '')) === path;
    if (facts === null || !facts.isFile() || !isInside) throw unusable(name, 'it is no file of the folder of scripts');
    if ((facts.mode & EXECUTE_BITS) === 0) throw unusable(name, 'it cannot be executed');
    if ((facts.mode & WRITE_BY_ALL) !== 0) throw unusable(name, 'everybody may write to it');
    return path;
  }

  /** @returns what it said @throws HOOK_FAILED */
  #execute(path: string, timeoutMs: number, environment: Record<string, string>): Promise<string> {
    return new Promise((resolve, reject) => {
      const options = {
        cwd: this.#folder ?? '/',
        env: environment,
        timeout: timeoutMs,
        killSignal: 'SIGKILL' as const,
        maxBuffer: OUTPUT_BYTES_MAX,
        signal: this.#stopping.signal,
      };
      const child = execFile(path, [], options, (error, output, errors) => {
        const said = toLine(`${output}\n${errors}`);
        if (error === null) {
          resolve(said);
          return;
        }
        const status =
          error.killed === true ? 'it took too long' : `it ended with ${String(error.code ?? error.signal)}`;
        const name = path.slice(path.lastIndexOf('/') + 1);
        const message = `The script ${name} (${environment['DOZO_EVENT'] ?? ''}) failed: ${status}.`;
        reject(
          new AppError('HOOK_FAILED', said === '' ? message : `${message} It said: ${said}`, {
            hint: 'Correct the script, or take it out of the task.',
            details: { script: name },
            cause: error,
          }),
        );
      });
      child.stdin?.end();
    });
  }
}

function unusable(name: string, reason: string): AppError {
  return new AppError('INPUT_INVALID', `The script "${name}" cannot be run: ${reason}.`, {
    hint: 'Put it into the folder of scripts as an executable file that only administrators can write to.',
    details: { script: name },
  });
}

function toLine(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
    .trim()
    .slice(0, SAID_CHARACTERS_MAX);
}

function keyOf(jobId: string): string {
  return `scripts ${jobId}`;
}
