import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createRepository, openRepository, type KeptRepository } from '../../server/repository/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { readByStream } from '../fakes/small-repository.ts';
import { RandomSource } from './random-source.ts';
import { versionContent } from './repository-writer.ts';

/**
 * Two processes at one repository: one writes versions, one deletes and collects. The collector is killed with
 * SIGKILL, half of the times by itself before an operation that chance names, half of the times by a clock; the writer
 * is killed now and then. After every kill each version that nobody deleted is there, byte for byte.
 *
 * Long: DOZO_COLLECTOR_KILLS=400 with DOZO_SEED.
 */
const KILLS = Number(process.env['DOZO_COLLECTOR_KILLS'] ?? 5);
const SEED = Number(process.env['DOZO_SEED'] ?? 1);
/** A turn of the collector has some hundred operations on the storage. */
const OPERATIONS = 400;
const DELAY_MS_MAX = 3_000;

/** A child that tells what it does in lines. */
class Teller {
  readonly #child: ChildProcess;
  readonly #ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  #output = '';
  #errors = '';
  #wake: () => void = () => undefined;

  constructor(script: string, args: readonly string[]) {
    this.#child = spawn(process.execPath, [path.join(import.meta.dirname, script), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stdout?.on('data', (data: Buffer) => {
      this.#output += data.toString();
      this.#wake();
    });
    this.#child.stderr?.on('data', (data: Buffer) => (this.#errors += data.toString()));
    this.#ended = new Promise((resolve) =>
      this.#child.on('close', (code, signal) => {
        resolve({ code, signal });
        this.#wake();
      }),
    );
  }

  /** Numbers that it told after `word`, in order; of whole lines only. */
  told(word: string): number[] {
    const lines = this.#output.slice(0, this.#output.lastIndexOf('\n') + 1).split('\n');
    return lines
      .filter((line) => (word === '' ? /^\d+$/.test(line) : line.startsWith(`${word} `)))
      .map((line) => Number(line.slice(word.length)));
  }

  /** Until it has told so much, or has ended. */
  async until(isSo: (teller: Teller) => boolean): Promise<void> {
    while (!isSo(this) && this.#child.exitCode === null && this.#child.signalCode === null) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        // It may have told it before there was anybody to wake.
        if (isSo(this) || this.#child.exitCode !== null || this.#child.signalCode !== null) resolve();
      });
    }
  }

  get isOpen(): boolean {
    return this.#output.includes('open\n');
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** @returns whether it was killed; any other end but a good one fails */
  async end(): Promise<boolean> {
    const { code, signal } = await this.#ended;
    assert.ok(signal === 'SIGKILL' || code === 0, `it ended with ${code ?? signal ?? ''}: ${this.#errors}`);
    return signal === 'SIGKILL';
  }
}

class Scene {
  readonly folder: string;
  readonly committed = new Set<number>();
  readonly deleted = new Set<number>();
  readonly #random = new RandomSource(SEED);
  #writer: Teller | null = null;
  tally = { kills: 0, writerKills: 0, removedPacks: 0 };

  constructor(folder: string) {
    this.folder = folder;
  }

  async open(): Promise<KeptRepository> {
    return openRepository({ storage: await openLocalStorage({ folder: this.folder }), threads: 0 });
  }

  async startWriter(): Promise<void> {
    const repository = await this.open();
    for (const { manifest } of [...(await repository.listPoints()), ...(await repository.listTrash())]) {
      this.committed.add((manifest?.evidence as { version: number }).version);
    }
    await repository.close();
    const next = Math.max(-1, ...this.committed) + 1;
    this.#writer = new Teller('repository-writer.ts', [this.folder, String(next)]);
    // Some to delete, so that every collector has work.
    await this.#writer.until((writer) => writer.told('').length >= 2);
    this.#noteCommitted();
  }

  async killWriter(): Promise<void> {
    this.#writer?.kill();
    assert.equal(await this.#writer?.end(), true, 'the writer writes until it is killed');
    this.#noteCommitted();
    this.#writer = null;
    this.tally.writerKills += 1;
  }

  async killCollector(): Promise<void> {
    const bySelf = this.#random.chance(0.5);
    const before = bySelf ? 1 + this.#random.below(OPERATIONS) : 0;
    const collector = new Teller('repository-collector.ts', [this.folder, String(before)]);
    await collector.until(({ isOpen }) => isOpen);
    if (!bySelf) {
      await Promise.race([
        delay(this.#random.below(DELAY_MS_MAX), undefined, { ref: false }),
        collector.until(() => false),
      ]);
      collector.kill();
    }
    if (await collector.end()) this.tally.kills += 1;
    for (const version of collector.told('deletes')) this.deleted.add(version);
    for (const packs of collector.told('removed')) this.tally.removedPacks += packs;
  }

  async assertVersions(): Promise<void> {
    this.#noteCommitted();
    const committed = [...this.committed];
    const repository = await this.open();
    const found = new Set<number>();
    for (const { pointId, manifest, damage } of await repository.listPoints()) {
      assert.equal(damage, null);
      const { version } = manifest?.evidence as { version: number };
      assert.ok(!found.has(version), `version ${version} was committed twice`);
      found.add(version);
      const disk = await (await repository.openPoint(pointId)).openDisk('d0');
      assert.ok((await readByStream(disk)).equals(versionContent(version)), `version ${version}`);
    }
    for (const version of committed)
      assert.ok(found.has(version) || this.deleted.has(version), `version ${version} is lost, and nobody deleted it`);
    await repository.close();
  }

  #noteCommitted(): void {
    for (const version of this.#writer?.told('') ?? []) this.committed.add(version);
  }

  stop(): void {
    this.#writer?.kill();
  }
}

describe('a collector killed with SIGKILL beside a writer', () => {
  it('loses nothing, and the next one goes on', { timeout: 7_200_000 }, async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'dozo-collector-'));
    const scene = new Scene(folder);
    try {
      await (await createRepository({ storage: await openLocalStorage({ folder }), threads: 0 })).close();
      await scene.startWriter();
      for (let attempt = 0; scene.tally.kills < KILLS && attempt < 10 * KILLS; attempt += 1) {
        await scene.killCollector();
        await scene.assertVersions();
        // A long run is looked at from time to time.
        if (KILLS > 20) process.stderr.write(`${JSON.stringify({ attempt, ...scene.tally })}\n`);
        if (attempt % 3 !== 2) continue;
        await scene.killWriter();
        await scene.assertVersions();
        await scene.startWriter();
      }
      await scene.killWriter();

      // Nobody is at work: one that is not disturbed brings all to its end.
      const repository = await scene.open();
      const report = await repository.collect({ patienceMs: 0, sessionSilenceMs: 0 });
      assert.equal(report.state, 'done');
      scene.tally.removedPacks += report.removedPacks;
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
      assert.deepEqual(await repository.listTrash(), []);
      await repository.close();
      await scene.assertVersions();
      t.diagnostic(JSON.stringify({ seed: SEED, committed: scene.committed.size, ...scene.tally }));
      assert.equal(scene.tally.kills, KILLS);
      assert.ok(scene.tally.removedPacks > 0, 'room came free meanwhile');
    } finally {
      scene.stop();
      await rm(folder, { recursive: true, maxRetries: 20, retryDelay: 200 });
    }
  });
});
