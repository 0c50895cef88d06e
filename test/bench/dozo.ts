import { globSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleServer } from '../../scripts/build/bundle-server.ts';
import { SMALL_PROCESS } from '../../server/app/small-process.ts';
import { randomHex } from '../../server/runtime/index.ts';
import type { BenchDisk, BenchHost } from './bench-host.ts';
import { STEPS, folderBytes, type Contender, type Step, type StepFacts } from './contender.ts';
import type { DozoTask, DozoOutcome } from './dozo-protocol.ts';
import { execute } from './execute.ts';
import { SUBJECT } from './summary.ts';

/** The folder of the project, in which the bundler works. */
const PROJECT = join(import.meta.dirname, '../..');

/** The product's own way from a host to a repository, in a process of its own as its worker is. */
export class DozoContender implements Contender {
  readonly name = SUBJECT;
  readonly about =
    'connect, freeze the running machine, ask for changes, read over SSH, hash, deduplicate, compress, commit, thaw; ' +
    'restore: a new machine beside, every written byte read back and hashed on the host, then registered.';
  readonly steps = STEPS;
  /** As the product starts its workers. */
  readonly env = SMALL_PROCESS.environment;
  readonly #host: BenchHost;
  readonly #folder: string;
  readonly #original: string;
  readonly #profileFolder: string | null;
  readonly #task: string;
  #pointId: string | null = null;
  #restoredName: string | null = null;
  #round = 0;

  /** @param options.profileFolder CPU profiles of each step are written there */
  static async create(
    host: BenchHost,
    disk: BenchDisk,
    folder: string,
    options: { profileFolder: string | null },
  ): Promise<DozoContender> {
    // Bundled as the product is when it ships: translating sources at every start is no part of a backup.
    const bundle = join(folder, 'bundle');
    process.chdir(PROJECT);
    await bundleServer(['test/bench/dozo-task.ts', ...globSync('server/**/*-thread.ts')], bundle);
    return new DozoContender(host, disk, join(folder, 'store'), join(bundle, 'dozo-task.js'), options);
  }

  private constructor(
    host: BenchHost,
    disk: BenchDisk,
    folder: string,
    task: string,
    options: { profileFolder: string | null },
  ) {
    this.#host = host;
    this.#original = disk.image.local;
    this.#folder = folder;
    this.#task = task;
    this.#profileFolder = options.profileFolder;
  }

  async version(): Promise<string> {
    return `Node ${(await execute('node', ['--version'])).trim()}`;
  }

  async begin(): Promise<void> {
    this.#round += 1;
    this.#pointId = null;
    rmSync(this.#folder, { recursive: true, force: true });
    mkdirSync(this.#repository, { recursive: true });
    await execute('node', [this.#task, this.#writeTask({ kind: 'create', repository: this.#repository })]);
  }

  get #repository(): string {
    return join(this.#folder, 'repository');
  }

  async prepare(): Promise<void> {}

  script(step: Step): string {
    const profile =
      this.#profileFolder === null
        ? ''
        : `--cpu-prof --cpu-prof-dir=${join(this.#profileFolder, `${String(this.#round)}-${step}`)} `;
    const target = step === 'restore' ? this.#host.localFolder : this.#repository;
    return `node ${SMALL_PROCESS.execArgv.join(' ')} ${profile}${this.#task} ${this.#writeTask(this.#planTask(step))}\nsync -f ${target}`;
  }

  #planTask(step: Step): DozoTask {
    const common = { repository: this.#repository, address: this.#host.address, hold: `dozo-${randomHex(8)}` };
    if (step !== 'restore') {
      return { kind: 'backup', ...common, machineId: 'bench', identity: this.#host.machine };
    }
    if (this.#pointId === null) throw new Error('there is no version to restore');
    this.#restoredName = `restored-${String(this.#round)}`;
    const { datastore } = this.#host;
    return { kind: 'restore', ...common, pointId: this.#pointId, name: this.#restoredName, datastore };
  }

  #writeTask(task: DozoTask): string {
    const path = join(this.#folder, 'task.json');
    writeFileSync(path, JSON.stringify(task), { mode: 0o600 });
    return path;
  }

  judge(step: Step, stdout: string): StepFacts {
    const outcome = JSON.parse(stdout) as DozoOutcome;
    const wanted: Record<Step, string | null> = {
      full: 'allocated',
      changed: 'changed',
      unchanged: 'changed',
      restore: null,
    };
    const kind = wanted[step];
    if (outcome.state !== 'success') throw new Error(`${step} ended as ${outcome.state}: ${stdout}`);
    // Anything else would be a number about another thing than the table says.
    if (kind !== null && outcome.readKind !== kind) throw new Error(`${step} did not read what is ${kind}: ${stdout}`);
    if (outcome.pointId !== null) this.#pointId = outcome.pointId;
    return { wireBytes: outcome.wireBytes, stages: outcome.stages };
  }

  storedBytes(): number {
    return folderBytes(this.#repository);
  }

  async restored(): Promise<{ path: string; original: string }> {
    if (this.#restoredName === null) throw new Error('nothing was restored');
    return { path: await this.#host.diskOf(this.#restoredName), original: this.#original };
  }

  async discard(): Promise<void> {
    if (this.#restoredName !== null) await this.#host.destroy(this.#restoredName);
  }
}
