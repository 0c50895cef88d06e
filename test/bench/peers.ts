import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchDisk, BenchHost } from './bench-host.ts';
import { STEPS, folderBytes, type Contender, type Step, type StepFacts } from './contender.ts';
import { execute } from './execute.ts';

interface PeerPlan {
  name: string;
  about: string;
  env: Record<string, string>;
  versionCommand: string[];
  initCommand: string[];
  /** Reads the disk from standard input. */
  backup(step: Step): string;
  /** Writes the disk to standard output. */
  restore: string;
}

/** A backup program fed by `ssh dd`, with a repository on the same disk as Dozo's. */
class Peer implements Contender {
  readonly name: string;
  readonly about: string;
  readonly steps = STEPS;
  readonly env: Record<string, string>;
  readonly #plan: PeerPlan;
  readonly #host: BenchHost;
  readonly #disk: BenchDisk;
  readonly #folder: string;

  constructor(plan: PeerPlan, host: BenchHost, disk: BenchDisk, folder: string) {
    this.#plan = plan;
    this.name = plan.name;
    this.about = plan.about;
    this.env = plan.env;
    this.#host = host;
    this.#disk = disk;
    this.#folder = folder;
  }

  async version(): Promise<string> {
    const [program = '', ...args] = this.#plan.versionCommand;
    return (await execute(program, args, this.env)).trim();
  }

  async begin(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
    mkdirSync(this.#folder, { recursive: true });
    const [program = '', ...args] = this.#plan.initCommand;
    await execute(program, args, this.env);
  }

  async prepare(): Promise<void> {}

  script(step: Step): string {
    const { ssh, localFolder } = this.#host;
    if (step === 'restore') {
      const target = `${this.#host.folder}/${this.#restoredName}`;
      return `${this.#plan.restore} | ${ssh} dd of=${target} bs=1M\nsync -f ${localFolder}`;
    }
    const read = `${ssh} dd if=${this.#disk.image.remote} bs=1M`;
    return `${read} | ${this.#plan.backup(step)}\nsync -f ${this.#folder}`;
  }

  get #restoredName(): string {
    return `restored-${this.name}.raw`;
  }

  judge(): StepFacts {
    return { wireBytes: this.#disk.sizeBytes, stages: {} };
  }

  storedBytes(): number {
    return folderBytes(join(this.#folder, 'repository'));
  }

  async restored(): Promise<{ path: string; original: string }> {
    return { path: join(this.#host.localFolder, this.#restoredName), original: this.#disk.image.local };
  }

  async discard(): Promise<void> {
    rmSync(join(this.#host.localFolder, this.#restoredName), { force: true });
  }
}

/** @param folder for repository and cache, emptied every round */
export function resticPeer(host: BenchHost, disk: BenchDisk, folder: string): Contender {
  const env = {
    RESTIC_REPOSITORY: join(folder, 'repository'),
    RESTIC_PASSWORD: 'bench',
    RESTIC_CACHE_DIR: join(folder, 'cache'),
  };
  const plan: PeerPlan = {
    name: 'restic',
    about:
      '`ssh dd | restic backup --stdin`, repository version 2 with its default compression ' +
      '(it always encrypts); restore: `restic dump | ssh dd of=`.',
    env,
    versionCommand: ['restic', 'version'],
    initCommand: ['restic', 'init', '--quiet', '--repository-version', '2'],
    backup: () => 'restic backup --quiet --stdin --stdin-filename disk.raw',
    restore: 'restic dump --quiet latest disk.raw',
  };
  return new Peer(plan, host, disk, folder);
}

/** @param folder for repository and cache, emptied every round */
export function borgPeer(host: BenchHost, disk: BenchDisk, folder: string): Contender {
  const env = {
    BORG_REPO: join(folder, 'repository'),
    BORG_BASE_DIR: join(folder, 'base'),
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  };
  const plan: PeerPlan = {
    name: 'borg',
    about: '`ssh dd | borg create -C zstd,1 -`, without encryption; restore: `borg extract --stdout | ssh dd of=`.',
    env,
    versionCommand: ['borg', '--version'],
    initCommand: ['borg', 'init', '--encryption=none'],
    backup: (step) => `borg create -C zstd,1 --stdin-name disk.raw ::${step} -`,
    restore: 'borg extract --stdout ::unchanged disk.raw',
  };
  return new Peer(plan, host, disk, folder);
}
