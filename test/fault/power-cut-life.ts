import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { isAppError } from '../../server/errors/index.ts';
import { createRepository, openRepository, type Repository } from '../../server/repository/index.ts';
import type { Clock } from '../../server/runtime/index.ts';
import { openLocalStorage, type Storage } from '../../server/storage/index.ts';
import { CHUNK, readByStream, request } from '../fakes/small-repository.ts';
import type { PowerCutFileSystem } from './power-cut-file-system.ts';
import { RandomSource } from './random-source.ts';

/**
 * The life of one repository on a NAS of bad luck: it is switched on, machines are backed up into it, and after a
 * random number of operations of the file system the power fails, again and again. After every failure all that
 * was committed must be there, byte for byte.
 */

const CHUNKS = 9;
const TAIL_BYTES = 321;
/** Contents of chunks: zeros, text, noise; few, so that they meet again in other places and machines. */
const POOL: readonly Buffer[] = Array.from({ length: 24 }, (_, index) => chunkOf(index));
/** Operations in which one power-on backs up a few versions. */
const OPERATIONS = 700;
/** What a run may fail with when the storage fails: named, and none of the repository's own invariants. */
const HONEST =
  /^(STORAGE_|REPOSITORY_CHUNK_|REPOSITORY_PACK_|REPOSITORY_INDEX_|REPOSITORY_MANIFEST_|REPOSITORY_NOT_FOUND|REPOSITORY_COLLECTED|NOT_FOUND|POINT_NOT_FOUND|CANCELLED)/;

export interface LifeTally {
  cuts: number;
  errors: number;
  lies: number;
  commits: number;
  resumed: number;
}

interface Version {
  machine: string;
  /** Indexes into the pool. */
  chunks: number[];
}

interface Committed {
  pointId: string;
  rootHash: string;
  version: Version;
}

export class PowerCutLife {
  readonly #random: RandomSource;
  readonly #files: PowerCutFileSystem;
  readonly #tally: LifeTally;
  readonly #committed = new Map<string, Committed>();
  /** What was being committed when the power failed: there or not, but never half. */
  readonly #uncertain: Version[] = [];
  readonly #pending = new Map<string, { sessionId: string; version: Version }>();
  /** exFAT and some mounts have no hard links: names are given by rename. */
  readonly #hasLinks: boolean;
  #nowMs = 1_000_000;
  #sessions = 0;

  constructor(files: PowerCutFileSystem, random: RandomSource, tally: LifeTally) {
    this.#files = files;
    this.#random = random;
    this.#tally = tally;
    this.#hasLinks = random.chance(0.85);
  }

  async live(cuts: number): Promise<void> {
    const repository = await createRepository({ ...(await this.#parts()), chunkSizeBytes: CHUNK });
    await repository.close();
    for (let cut = 0; cut < cuts; cut += 1) {
      await this.#untilPowerFails();
      this.#files.powerOn();
      await this.#assertAllThere(this.#random.chance(0.2));
    }
    await this.#assertAllThere(true);
  }

  async #parts(): Promise<{ storage: Storage; clock: Clock; threads: number }> {
    // Sometimes a day has gone by, and what lies in `tmp` is old.
    const aheadMs = this.#random.chance(0.3) ? 2 * 86_400_000 : 0;
    const clock: Clock = {
      nowMs: () => {
        this.#nowMs += 7;
        return this.#nowMs + aheadMs;
      },
      monotonicMs: () => this.#nowMs,
      sleep: async () => undefined,
    };
    return { storage: await openLocalStorage({ folder: this.#files.root, clock }), clock, threads: 0 };
  }

  async #untilPowerFails(): Promise<void> {
    this.#planFaults();
    try {
      const repository = await openRepository(await this.#parts());
      try {
        const machines = this.#random.chance(0.4) ? ['a', 'b'] : [this.#random.pick(['a', 'b'])];
        const ends = await Promise.allSettled(machines.map((machine) => this.#backUpForEver(repository, machine)));
        for (const end of ends) if (end.status === 'rejected') this.#assertHonest(end.reason);
      } finally {
        await repository.close();
      }
    } catch (error) {
      this.#assertHonest(error);
    }
    this.#files.powerOn();
    // Not every end is a cut: a process may die and leave what is cached.
    if (this.#random.chance(0.9)) this.#files.cutPower();
    this.#tally.cuts += 1;
  }

  /** When the power fails, and what goes wrong before. */
  #planFaults(): void {
    const cutAt = 1 + this.#random.below(OPERATIONS);
    const kind = this.#random.next();
    const errno = this.#random.pick(['EIO', 'ENOSPC', 'EROFS', 'EDQUOT', 'ESTALE', 'EACCES', 'EMFILE']);
    const faultAt = this.#random.below(cutAt);
    const faultFor = this.#random.pick([1, 1, 2, 1000]);
    if (kind < 0.3) this.#tally.errors += 1;
    this.#files.plan = (operation, count) => {
      if (count >= cutAt) return 'cut';
      if (operation === 'link' && !this.#hasLinks) return 'EOPNOTSUPP';
      if (kind >= 0.3 || count < faultAt || count >= faultAt + faultFor) return null;
      // A full or read-only volume still reads.
      const isWrite = ['open', 'mkdir', 'link', 'rename', 'write', 'sync'].includes(operation);
      return isWrite || errno === 'EIO' || errno === 'ESTALE' ? errno : null;
    };
    if (kind < 0.9) return;
    const lyingFrom = this.#random.below(12);
    let listings = 0;
    this.#files.lie = (_folder, names) => {
      listings += 1;
      if (listings < lyingFrom || names.length === 0 || !this.#random.chance(0.5)) return new Set();
      this.#tally.lies += 1;
      return new Set([this.#random.pick(names)]);
    };
  }

  async #backUpForEver(repository: Repository, machine: string): Promise<never> {
    for (;;) await this.#backUp(repository, machine);
  }

  async #backUp(repository: Repository, machine: string): Promise<void> {
    const former = [...this.#committed.values()].findLast((one) => one.version.machine === machine) ?? null;
    let pending = this.#pending.get(machine);
    if (pending === undefined || this.#random.chance(0.2)) {
      this.#sessions += 1;
      const sessionId = this.#random.chance(0.5) ? (pending?.sessionId ?? `s${this.#sessions}`) : `s${this.#sessions}`;
      pending = { sessionId, version: this.#nextVersion(machine, former?.version ?? null) };
      this.#pending.set(machine, pending);
    }
    const { sessionId, version } = pending;
    const base = former === null ? null : await (await repository.openPoint(former.pointId)).openDisk('d0');
    const session = await repository.startWrite({ sessionId });
    try {
      const writer = await session.openDisk({ key: 'd0', sizeBytes: sizeOf(version), base });
      const facts = session.checkpointFacts as { chunks: number[]; delivered: number } | null;
      // What was delivered under the same snapshot need not be sent again.
      const isSame = writer.resumed && facts !== null && facts.chunks.join() === version.chunks.join();
      if (isSame) this.#tally.resumed += 1;
      const content = contentOf(version);
      const changed = isSame ? facts.delivered : 0;
      for (let at = changed * CHUNK; at < content.length;) {
        const end = Math.min(content.length, at + this.#random.pick([CHUNK, CHUNK, 2 * CHUNK, CHUNK / 2 + 100]));
        await writer.write(at, Buffer.from(content.subarray(at, end)));
        at = end;
        if (this.#random.chance(0.2))
          await session.checkpoint({ chunks: version.chunks, delivered: Math.floor(at / CHUNK) });
      }
      await writer.finish();
      this.#uncertain.push(version);
      const { pointId, rootHash } = await session.commit(
        request({
          machineId: machine,
          machineName: machine,
          createdAtMs: this.#nowMs,
          previousPointId: former?.pointId ?? null,
          evidence: { chunks: version.chunks },
        }),
      );
      this.#committed.set(pointId, { pointId, rootHash, version });
      this.#pending.delete(machine);
      this.#tally.commits += 1;
    } catch (error) {
      await session.abort();
      throw error;
    }
  }

  #nextVersion(machine: string, former: Version | null): Version {
    const chunks =
      former === null ? Array.from({ length: CHUNKS }, () => this.#random.below(POOL.length)) : [...former.chunks];
    for (let changes = this.#random.below(4); changes > 0; changes -= 1)
      chunks[this.#random.below(chunks.length)] = this.#random.below(POOL.length);
    return { machine, chunks };
  }

  /** Everything that was committed is there and right, and what is there beside it was meant to be. */
  async #assertAllThere(thoroughly: boolean): Promise<void> {
    const repository = await openRepository(await this.#parts());
    const listed = new Set<string>();
    for (const { pointId, manifest, damage } of await repository.listPoints()) {
      assert.equal(damage, null, `version ${pointId} is damaged`);
      assert.ok(manifest !== null);
      listed.add(pointId);
      const known = this.#committed.get(pointId);
      if (known !== undefined) {
        assert.equal(manifest.rootHash, known.rootHash);
        if (!thoroughly && this.#random.chance(0.7)) continue;
      }
      const { chunks } = manifest.evidence as { chunks: number[] };
      const version = { machine: manifest.machineId, chunks };
      const expected = known?.version ?? this.#uncertain.find((one) => sameVersion(one, version));
      assert.ok(expected !== undefined, `version ${pointId} was never committed`);
      const disk = await (await repository.openPoint(pointId)).openDisk('d0');
      assert.ok((await readByStream(disk)).equals(contentOf(expected)), `version ${pointId} has other bytes`);
      if (known === undefined)
        this.#committed.set(pointId, { pointId, rootHash: manifest.rootHash, version: expected });
    }
    for (const pointId of this.#committed.keys())
      assert.ok(listed.has(pointId), `committed version ${pointId} is lost`);
    const { damages } = await repository.check({ depth: thoroughly ? 'hashes' : 'structure' });
    assert.deepEqual(damages, []);
    await repository.close();
  }

  #assertHonest(error: unknown): void {
    if (isAppError(error) && HONEST.test(error.code)) return;
    throw error;
  }
}

/** What the file system holds, as one hash: two runs of a seed must end alike. */
export function fingerprint(files: PowerCutFileSystem): string {
  const hash = createHash('sha256');
  for (const [name, content] of [...files.files()].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(name).update(content);
  return hash.digest('hex');
}

function sameVersion(a: Version, b: Version): boolean {
  return a.machine === b.machine && a.chunks.join() === b.chunks.join();
}

function sizeOf({ chunks }: Version): number {
  return chunks.length * CHUNK + TAIL_BYTES;
}

function contentOf(version: Version): Buffer {
  const content = Buffer.alloc(sizeOf(version));
  for (const [index, chunk] of version.chunks.entries()) (POOL[chunk] as Buffer).copy(content, index * CHUNK);
  return content;
}

function chunkOf(index: number): Buffer {
  if (index === 0) return Buffer.alloc(CHUNK);
  if (index % 3 === 1) return Buffer.alloc(CHUNK, `text ${index}\n`);
  const random = new RandomSource(index);
  // Noise is slow to make, so it is short and the rest is text.
  const chunk = Buffer.alloc(CHUNK, `more ${index}\n`);
  random.bytes(3_000).copy(chunk);
  return chunk;
}
