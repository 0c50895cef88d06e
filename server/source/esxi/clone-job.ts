import { descriptorSizeBytes, parseVmdkDescriptor } from '../../disk/index.ts';
import { AppError, isAppError } from '../../errors/index.ts';
import type { Clock } from '../../runtime/index.ts';
import { shell } from '../../ssh/index.ts';
import type { HostShell } from './host-shell.ts';
import { classifyHostText, lastWords, parseProgress } from './vmkfstools.ts';

const POLL_MS = 1_000;
/** A clone that shows no progress for so long is taken for dead; a slow array may pause for minutes. */
const STALL_MS = 30 * 60_000;
/** vmkfstools refuses a second clone of the same chain for a moment; other refusals do not pass. */
const LOCK_RETRIES = 5;
const LOCK_RETRY_MS = 5_000;

/** Runs on the host by itself: survives our connection, tells its status in a file. */
const RUN_CLONE =
  'vmkfstools -i "$1" -d "$4" "$2" >"$3.log" 2>&1 </dev/null & echo $! >"$3.pid"; wait $!; ' +
  'echo $? >"$3.rc.tmp"; mv "$3.rc.tmp" "$3.rc"';

/**
 * A copy of a disk's frozen chain, made by the host itself: one flat file, holes left out. The
 * process, its log and its status live in files beside the copy, so that a lost connection costs
 * nothing and a later run finds and ends what an earlier one left.
 */
export interface CloneRequest {
  /** Descriptor of the frozen tip, as a path of the shell. */
  source: string;
  /** Descriptor to make; its data goes to `<name>-flat.vmdk` beside it. The folder exists. */
  target: string;
  sizeBytes: number;
  /** `thin` unless told; `rdm:DEVICE` or `rdmp:DEVICE` writes to a device, and the descriptor is a pointer to it. */
  format?: string;
  signal: AbortSignal;
  onProgress?(percent: number): void;
}

/**
 * Clones and waits for the end. What was begun is removed when it fails or is cancelled.
 * @returns path of the flat file; of the pointer, for a device
 * @throws DISK_CLONE_FAILED, DISK_CLONE_INTERRUPTED, DISK_READ_REFUSED (locked), DATASTORE_FULL, CANCELLED
 */
export async function cloneDisk(host: HostShell, clock: Clock, request: CloneRequest): Promise<string> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await cloneOnce(host, clock, request);
    } catch (error) {
      await endClone(host, jobOf(request.target));
      await removeDisk(host, request.target);
      const isLocked = isAppError(error) && error.code === 'DISK_READ_REFUSED';
      if (!isLocked || attempt >= LOCK_RETRIES) throw error;
      await clock.sleep(LOCK_RETRY_MS, request.signal);
    }
  }
}

async function cloneOnce(host: HostShell, clock: Clock, request: CloneRequest): Promise<string> {
  const { source, target, signal, format = 'thin' } = request;
  const job = jobOf(target);
  signal.throwIfAborted();
  await host.run(shell`rm -f -- ${job}.rc ${job}.pid ${job}.log`, 'remove the traces of an earlier clone');
  const watch = new ProcessWatch(host, request);
  // Not repeated when the connection is lost: the state in the files tells whether it was started.
  await host
    .exec(
      shell`nohup sh -c ${RUN_CLONE} dozo-clone ${source} ${target} ${job} ${format} >/dev/null 2>&1 </dev/null &`,
      {
        signal,
      },
    )
    .catch((error: unknown) => {
      if (!isAppError(error) || error.retry !== 'transient') throw error;
    });
  let last = { percent: -1, atMs: clock.monotonicMs() };
  let looksLost = 0;
  for (;;) {
    await clock.sleep(POLL_MS, signal);
    const state = await readJob(host, job, watch, signal);
    looksLost = state.status === 'lost' ? looksLost + 1 : 0;
    // Between two files that are written one after the other it only seems so: a second look tells.
    if (looksLost === 1) continue;
    if (state.percent !== last.percent) {
      last = { percent: state.percent, atMs: clock.monotonicMs() };
      request.onProgress?.(Math.max(0, state.percent));
    }
    if (state.status === 'lost') throw cloneInterrupted(source, state);
    if (state.status !== null) {
      if (state.status !== 0) throw cloneFailed(source, state.words, state.status);
      break;
    }
    if (clock.monotonicMs() - last.atMs > STALL_MS) throw cloneFailed(source, 'no progress', null);
  }
  // A "successful" clone of a pass-through disk can be a tiny stub: only the size proves it.
  const descriptor = parseVmdkDescriptor(await host.readFile(target, signal));
  const sizeBytes = descriptorSizeBytes(descriptor);
  if (sizeBytes !== request.sizeBytes) throw wrongSize(request, sizeBytes);
  if (format !== 'thin') return target;
  const flat = `${jobOf(target)}-flat.vmdk`;
  const fileBytes = Number((await host.run(shell`stat -c %s -- ${flat}`, 'measure a clone', { signal })).trim());
  if (fileBytes !== request.sizeBytes) throw wrongSize(request, fileBytes);
  return flat;
}

function wrongSize({ source, sizeBytes }: CloneRequest, bytes: number): AppError {
  return cloneFailed(source, `size ${String(bytes)} instead of ${String(sizeBytes)}`, 0);
}

interface JobState {
  /** Null while it runs; `lost` when its process is gone and there is no status. */
  status: number | 'lost' | null;
  percent: number;
  words: string;
}

async function readJob(host: HostShell, job: string, watch: ProcessWatch, signal: AbortSignal): Promise<JobState> {
  const command = shell`tail -c 400 -- ${job}.log; echo; echo @; cat -- ${job}.rc 2>/dev/null; echo @; kill -0 $(cat -- ${job}.pid) 2>/dev/null && echo alive; true`;
  const text = await host.run(command, 'look after a clone', { signal }).catch((error: unknown) => {
    if (isAppError(error) && error.code === 'NOT_FOUND') return '@\n@\n';
    throw error;
  });
  const [log = '', status = '', alive = ''] = text.split(/^@$/m);
  const statusText = status.trim();
  if (/^\d+$/.test(statusText)) return { status: Number(statusText), percent: 100, words: lastWords(log) };
  const percent = parseProgress(log) ?? 0;
  // Ended without a status: the host was restarted, or somebody killed the shell around it.
  const isAlive = await watch.isOurs(alive.includes('alive'), signal);
  const isLost = !isAlive && (log.trim() !== '' || watch.wasBegun);
  return { status: isLost ? 'lost' : null, percent, words: lastWords(log) };
}

/**
 * Tells the clone's process from another one that was given its number after a restart of the host. Nobody restarts
 * without losing our connection, so the process is looked for by name only after that.
 */
class ProcessWatch {
  readonly #host: HostShell;
  readonly #job: string;
  readonly #lineLength: number;
  #connections: number;
  #wasAlive = false;

  /** To be made before the clone is begun. */
  constructor(host: HostShell, { source, target, format = 'thin' }: CloneRequest) {
    this.#host = host;
    this.#job = jobOf(target);
    this.#lineLength = `vmkfstools -i ${source} -d ${format} ${target}`.length;
    this.#connections = host.connections;
  }

  /** It was seen, or there was a loss of the connection since, after which nothing can be about to begin. */
  get wasBegun(): boolean {
    return this.#wasAlive || this.#host.connections !== this.#connections;
  }

  /** @param isAlive whether there is a process of the number that the clone had */
  async isOurs(isAlive: boolean, signal: AbortSignal): Promise<boolean> {
    if (!isAlive) return false;
    const { connections } = this.#host;
    if (connections !== this.#connections) {
      const look = await findProcess(this.#host, this.#job, { lineLength: this.#lineLength, signal });
      if (look === 'gone') return false;
      this.#connections = connections;
    }
    this.#wasAlive = true;
    return true;
  }
}

/** Shows the processes, and itself among them: behind so many characters of its own command line stands a mark. */
const LIST_PROCESSES = 'ps -c 2>/dev/null || ps; true';
const MARK = 'dozo-looks';

/**
 * Whether the process that clones is among the host's. The random name of the hold in a command line proves that it is
 * ours. A datastore has two paths, by name and by UUID, so the end of the path must do.
 * @param options.lineLength how far a list must show command lines before the lack of ours says anything
 */
async function findProcess(
  host: HostShell,
  job: string,
  options: { lineLength?: number; signal?: AbortSignal } = {},
): Promise<'there' | 'gone' | 'unknown'> {
  const { lineLength = 0, signal } = options;
  const command = shell`sh -c ${LIST_PROCESSES} ${'-'.repeat(lineLength)} ${MARK}`;
  const { stdout } = await host.exec(command, { isRepeatable: true, ...(signal && { signal }) });
  const processes = stdout.toString('utf8');
  if (processes.includes(`${job.split('/').slice(-2).join('/')}.vmdk`)) return 'there';
  return processes.includes(MARK) ? 'gone' : 'unknown';
}

/** Ends the clone's process if it is ours: its number may be another process's after a restart of the host. */
async function endClone(host: HostShell, job: string): Promise<boolean> {
  const pid = (await host.readFileIfThere(`${job}.pid`))?.toString('utf8').trim() ?? '';
  if (!/^\d+$/.test(pid)) return false;
  // The second at the end: locks outlive their process for a moment, and a snapshot whose disk is still
  // held would not be merged.
  if ((await findProcess(host, job)) !== 'there') return false;
  await host.exec(
    shell`kill ${pid}; n=0; while kill -0 ${pid} 2>/dev/null && [ $n -lt 10 ]; do sleep 1; n=$((n+1)); done; kill -9 ${pid} 2>/dev/null; sleep 1`,
  );
  return true;
}

/** A datastore has two paths, of which the one by its name is a link. */
const LIST_HOLD_FOLDERS =
  'for v in /vmfs/volumes/*; do [ ! -h "$v" ] && [ -d "$v/$1" ] && printf "%s\\n" "$v/$1"; done; true';

/** A hold's folders, on whatever datastore of the host. */
export async function findHoldFolders(host: HostShell, hold: string): Promise<string[]> {
  const text = await host.run(shell`sh -c ${LIST_HOLD_FOLDERS} dozo ${`.${hold}`}`, 'look for temporary folders');
  return text.split('\n').filter((line) => line !== '');
}

/** Ends every clone in a hold's folder. @returns whether one ran */
export async function endClones(host: HostShell, folder: string): Promise<boolean> {
  let ended = false;
  for (const name of await host.listFolder(folder)) {
    if (name.endsWith('.pid')) ended = (await endClone(host, `${folder}/${name.slice(0, -'.pid'.length)}`)) || ended;
  }
  return ended;
}

/**
 * Ends every clone in a hold's folder and removes the folder. Idempotent.
 * @returns whether there was one
 * @throws HOST_COMMAND_FAILED
 */
export async function removeCloneFolder(host: HostShell, folder: string): Promise<boolean> {
  if (!(await host.exists(folder))) return false;
  await endClones(host, folder);
  // Not at once: locks outlive their process for a moment, and what watched the clone writes its status.
  const command = shell`n=0; until rm -rf -- ${folder}; do n=$((n+1)); [ $n -lt 5 ] || exit 1; sleep 1; done`;
  await host.run(command, 'remove a temporary folder');
  return true;
}

/** Path of the job's files, without their endings. */
export function jobOf(target: string): string {
  return target.slice(0, -'.vmdk'.length);
}

/** Removes a disk of ours; a partial one has no valid descriptor and goes as files. */
export async function removeDisk(host: HostShell, target: string): Promise<void> {
  const stem = jobOf(target);
  await host.exec(
    shell`vmkfstools -U ${target} >/dev/null 2>&1; rm -f -- ${target} ${stem}-flat.vmdk ${stem}-rdm.vmdk ${stem}-rdmp.vmdk ${stem}.log ${stem}.pid ${stem}.rc ${stem}.rc.tmp`,
    { isRepeatable: true },
  );
}

function cloneInterrupted(source: string, { percent, words }: JobState): AppError {
  return new AppError('DISK_CLONE_INTERRUPTED', `The host's copy of ${source} was cut off at ${String(percent)} %.`, {
    hint: 'The host was restarted meanwhile, or somebody ended the copy there; it is begun anew.',
    details: { source, percent, words },
  });
}

function cloneFailed(source: string, words: string, status: number | null): AppError {
  const meaning = classifyHostText(words);
  const details = { source, words, status };
  if (meaning === 'locked') {
    return new AppError('DISK_READ_REFUSED', `The host may not open ${source} for a copy.`, {
      hint: 'Another task may be reading the same disk; the next run tries again.',
      details,
    });
  }
  if (meaning === 'full') {
    return new AppError('DATASTORE_FULL', `There is no space for the temporary copy of ${source}.`, {
      hint: 'Free space on the datastore, or set up an NFS staging folder, which needs none.',
      details,
    });
  }
  return new AppError('DISK_CLONE_FAILED', `The host could not copy ${source}.`, {
    hint: 'See the words of the host in the details, and vmkernel.log on the host.',
    details,
  });
}
