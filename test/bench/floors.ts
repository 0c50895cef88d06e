import { existsSync, lstatSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchDisk, BenchHost } from './bench-host.ts';
import type { Contender, Step, StepFacts } from './contender.ts';
import { execute } from './execute.ts';

/** What the floors send: the whole disk, as tools do that know nothing of it, or what is not zero. */
export type FloorContent = 'disk' | 'data';

/** What the wire gives: the bytes are read on the host, cross it, and are dropped. */
export class WireFloor implements Contender {
  readonly name: string;
  readonly about: string;
  readonly steps: readonly Step[] = ['full'];
  readonly env = {};
  readonly #host: BenchHost;
  readonly #disk: BenchDisk;
  readonly #content: FloorContent;

  constructor(host: BenchHost, disk: BenchDisk, content: FloorContent) {
    this.#host = host;
    this.#disk = disk;
    this.#content = content;
    this.name = content === 'disk' ? 'wire floor' : 'wire floor, data';
    this.about = `\`ssh dd | cat > /dev/null\` of ${describeContent(content)}.`;
  }

  async version(): Promise<string> {
    return (await execute('sh', ['-c', 'ssh -V 2>&1'])).trim();
  }

  async begin(): Promise<void> {}

  async prepare(): Promise<void> {}

  script(): string {
    const { remote } = this.#content === 'disk' ? this.#disk.image : this.#disk.data;
    return `${this.#host.ssh} dd if=${remote} bs=1M | cat > /dev/null`;
  }

  judge(): StepFacts {
    return { wireBytes: contentBytes(this.#disk, this.#content), stages: {} };
  }

  storedBytes(): number {
    return 0;
  }

  async restored(): Promise<never> {
    throw new Error('nothing was stored');
  }

  async discard(): Promise<void> {}
}

/** The least that any compressing store must do: one stream, one file, no hash, no index. */
export class CompressFloor implements Contender {
  readonly name: string;
  readonly about: string;
  readonly steps: readonly Step[] = ['full', 'restore'];
  readonly env = {};
  readonly #host: BenchHost;
  readonly #disk: BenchDisk;
  readonly #content: FloorContent;
  readonly #archive: string;
  readonly #folder: string;
  readonly #restoredName: string;

  constructor(host: BenchHost, disk: BenchDisk, content: FloorContent, folder: string) {
    this.#host = host;
    this.#disk = disk;
    this.#content = content;
    this.#folder = folder;
    this.#archive = join(folder, `floor-${content}.zst`);
    this.#restoredName = `restored-floor-${content}.raw`;
    this.name = content === 'disk' ? 'zstd floor' : 'zstd floor, data';
    this.about =
      `\`ssh dd | zstd -1 -T0 > file\` of ${describeContent(content)}; ` +
      'restore: `zstd -d < file | ssh dd of=`, of the same.';
  }

  async version(): Promise<string> {
    return (await execute('zstd', ['--version'])).trim();
  }

  async begin(): Promise<void> {
    rmSync(this.#archive, { force: true });
  }

  /** The disk has changed since the full step. */
  async prepare(step: Step): Promise<void> {
    if (step !== 'restore') return;
    await execute('zstd', ['-1', '-T0', '-q', '-f', this.#source().local, '-o', this.#archive]);
  }

  script(step: Step): string {
    if (step === 'restore') {
      const target = `${this.#host.folder}/${this.#restoredName}`;
      return [
        `zstd -d -q < ${this.#archive} | ${this.#host.ssh} dd of=${target} bs=1M`,
        `sync -f ${this.#host.localFolder}`,
      ].join('\n');
    }
    return [
      `${this.#host.ssh} dd if=${this.#source().remote} bs=1M | zstd -1 -T0 -q > ${this.#archive}`,
      `sync -f ${this.#folder}`,
    ].join('\n');
  }

  #source(): { remote: string; local: string } {
    return this.#content === 'disk' ? this.#disk.image : this.#disk.data;
  }

  judge(): StepFacts {
    return { wireBytes: contentBytes(this.#disk, this.#content), stages: {} };
  }

  storedBytes(): number {
    return existsSync(this.#archive) ? lstatSync(this.#archive).size : 0;
  }

  async restored(): Promise<{ path: string; original: string }> {
    return { path: join(this.#host.localFolder, this.#restoredName), original: this.#source().local };
  }

  async discard(): Promise<void> {
    rmSync(join(this.#host.localFolder, this.#restoredName), { force: true });
  }
}

function describeContent(content: FloorContent): string {
  return content === 'disk' ? 'the whole disk' : 'only those of its 64 KiB blocks that are not zero';
}

function contentBytes(disk: BenchDisk, content: FloorContent): number {
  return content === 'disk' ? disk.sizeBytes : disk.data.sizeBytes;
}
