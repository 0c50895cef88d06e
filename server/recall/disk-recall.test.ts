import assert from 'node:assert/strict';
import fs, {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import type { PointDisk } from '../repository/index.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import type { DiskRecall } from './disk-recall.ts';
import { RecallFolder } from './recall-folder.ts';
import { RECORD_TAGS, type TagSubject } from './tag-file.ts';

const DISK = { repositoryId: 'r', machineId: 'm', diskKey: 'd0' };
const STORED = {} as PointDisk;
/** More records than are held at a time. */
const CHUNKS = 90 * RECORD_TAGS;
const DAY_MS = 24 * 3600 * 1000;

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dozo-recall-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function subjectOf(version: number): TagSubject {
  const rootHash = String(version).padStart(64, '0');
  return { ...DISK, pointId: `point-${String(version)}`, rootHash, sizeBytes: 1000, chunkSizeBytes: 10 };
}

function open(former: number | null, in_ = folder): DiskRecall {
  const subject = former === null ? null : { subject: subjectOf(former), disk: STORED };
  const recall = new RecallFolder({ folder: in_, clock: systemClock, logger: silentLogger }).open(DISK, subject);
  assert.ok(recall !== null);
  return recall;
}

function contentOf(chunk: number, version = 0): Buffer {
  return Buffer.from(`chunk ${String(chunk)} of ${String(version)}`);
}

/** A version of which every third chunk has a tag, the records visited in an order that evicts them. */
async function writeVersion(version: number, former: number | null, chunks = CHUNKS): Promise<void> {
  const recall = open(former);
  for (let slot = 0; slot < RECORD_TAGS; slot += 85) {
    for (let chunk = slot; chunk < chunks; chunk += RECORD_TAGS) recall.keep(chunk, recall.tagOf(contentOf(chunk)));
  }
  await recall.publish(subjectOf(version));
}

/** Chunks that the version has as `writeVersion` made them. */
function countMatches(recall: DiskRecall, version = 0, chunks = CHUNKS): number {
  let count = 0;
  for (let chunk = 0; chunk < chunks; chunk += 1) {
    if (recall.matches(chunk, recall.tagOf(contentOf(chunk, version)))) count += 1;
  }
  return count;
}

describe('tags of a disk', () => {
  it('recognise what they were kept for, at its place alone', async () => {
    await writeVersion(1, null);

    const recall = open(1);

    assert.equal(recall.former, STORED);
    assert.equal(countMatches(recall), 4 * 90);
    assert.equal(countMatches(recall, 1), 0);
    assert.equal(recall.matches(85, recall.tagOf(contentOf(0))), false);
    assert.equal(recall.matches(1, Buffer.alloc(16)), false, 'no tag is no match');
    recall.close();
  });

  it('go on under the same key, and under a new one where nothing may be relied on', async () => {
    await writeVersion(1, null);
    const next = open(1);
    const tag = next.tagOf(contentOf(5));
    next.keep(5, tag);
    await next.publish(subjectOf(2));

    const again = open(2);
    assert.ok(again.matches(5, tag));
    assert.equal(countMatches(again), 1, 'the former tags are those of another version');
    again.close();
    const anew = open(null);
    assert.notDeepEqual(anew.tagOf(contentOf(5)), tag);
    assert.equal(anew.former, null);
    anew.close();
  });

  it('forget what was overwritten with zeros, one by one and in a range', async () => {
    const first = open(null);
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) first.keep(chunk, first.tagOf(contentOf(chunk)));
    first.keep(7, null);
    first.forget(10, 3 * RECORD_TAGS + 2);
    first.forget(0, 0);
    first.forget(CHUNKS - 1, CHUNKS + 500 * RECORD_TAGS);
    await first.publish(subjectOf(1));

    const recall = open(1);
    const known = (chunk: number): boolean => recall.matches(chunk, recall.tagOf(contentOf(chunk)));
    assert.deepEqual([6, 7, 8, 9, 10, 600, 3 * RECORD_TAGS + 1].map(known), [
      true,
      false,
      true,
      true,
      false,
      false,
      false,
    ]);
    assert.deepEqual([3 * RECORD_TAGS + 2, CHUNKS - 2, CHUNKS - 1].map(known), [true, true, false]);
    assert.equal(countMatches(recall), CHUNKS - 2 - (3 * RECORD_TAGS + 2 - 10));
    recall.close();
  });

  it('are those of the version they were published with, of no other', async () => {
    await writeVersion(1, null);

    for (const [name, value] of Object.entries(subjectOf(1))) {
      const other = { ...subjectOf(1), [name]: typeof value === 'number' ? value + 1 : `${value}x` };
      const recalls = new RecallFolder({ folder, clock: systemClock, logger: silentLogger });
      const recall = recalls.open(DISK, { subject: other, disk: STORED });
      assert.equal(recall?.former, null, name);
      recall.close();
    }
  });

  it('stay as they were when the next version comes to nothing', async () => {
    await writeVersion(1, null);
    const cut = open(1);
    cut.keep(0, cut.tagOf(Buffer.from('other')));
    cut.close();
    cut.close();

    const recall = open(1);
    assert.equal(countMatches(recall), 4 * 90);
    recall.close();
    assert.equal(readdirSync(folder).length, 1);
  });

  it('match what they were kept for or nothing, whatever bit of the file changes and wherever it is cut', async () => {
    const chunks = 3 * RECORD_TAGS;
    await writeVersion(1, null, chunks);
    const path = join(folder, readdirSync(folder)[0] ?? '');
    const whole = readFileSync(path);
    for (let turn = 0; turn < 60; turn += 1) {
      const bytes = Buffer.from(whole);
      const at = turn < 20 ? turn * 7 : Math.floor((turn * whole.length) / 60);
      bytes[at] = (bytes[at] as number) ^ (1 << (turn % 8));
      writeFileSync(path, turn % 3 === 0 ? bytes.subarray(0, at) : bytes);

      const recall = open(1);
      const found = countMatches(recall, 0, chunks);
      assert.ok(found < 12, `byte ${String(at)} is covered by a sum`);
      if (turn % 3 !== 0 && at >= 200) assert.ok(found >= 8, 'a damaged record costs its own tags alone');
      assert.equal(countMatches(recall, 1, chunks), 0);
      recall.close();
    }
  });

  it('of two runs at the same time are those of the one that ended last, each with its own version', async () => {
    await writeVersion(1, null);
    const [one, two] = [open(1), open(1)];
    one.keep(1, one.tagOf(contentOf(1)));
    two.keep(2, two.tagOf(contentOf(2)));
    await one.publish(subjectOf(2));
    await two.publish(subjectOf(3));

    const [lost, last] = [open(2), open(3)];
    assert.equal(lost.former, null);
    assert.ok(last.matches(2, last.tagOf(contentOf(2))));
    assert.ok(!last.matches(1, last.tagOf(contentOf(1))));
    lost.close();
    last.close();
  });

  it('are left out where the folder or the file cannot be used', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const recalls = new RecallFolder({ folder: join(file, 'below'), clock: systemClock, logger: silentLogger });

    assert.equal(recalls.open(DISK, null), null);

    const gone = join(folder, 'gone');
    const recall = open(null, gone);
    rmSync(gone, { recursive: true });
    recall.keep(0, recall.tagOf(contentOf(0)));
    await recall.publish(subjectOf(1));
    assert.throws(() => readdirSync(gone));
  });

  it('take no name before they are on the disk', async () => {
    await writeVersion(1, null);
    const named: boolean[] = [];
    const sync = mock.method(fs, 'fsync', (_file: number, done: (error: Error | null) => void) => {
      const [name = ''] = readdirSync(folder).filter((one) => one.endsWith('.tags'));
      named.push(readFileSync(join(folder, name)).equals(former));
      done(named.length === 1 ? new Error('EIO') : null);
    });
    syncBuiltinESMExports();
    const former = readFileSync(join(folder, readdirSync(folder)[0] ?? ''));
    try {
      await writeVersion(2, 1);
      assert.equal(readdirSync(folder).length, 1, 'what could not be synced is gone');
      await writeVersion(3, 1);
    } finally {
      sync.mock.restore();
      syncBuiltinESMExports();
    }

    assert.deepEqual(named, [true, true]);
    const recalls = [1, 2, 3].map((version) => open(version));
    assert.deepEqual(
      recalls.map(({ former: disk }) => disk !== null),
      [false, false, true],
    );
    for (const recall of recalls) recall.close();
  });

  it('can be read by nobody else', async () => {
    const inner = join(folder, 'inner');
    chmodSync(folder, 0o755);
    const recall = open(null, inner);
    await recall.publish(subjectOf(1));

    assert.equal(statSync(inner).mode & 0o777, 0o700);
    assert.equal(statSync(join(inner, readdirSync(inner)[0] ?? '')).mode & 0o777, 0o600);
  });

  it('of runs that were killed and of disks that are gone are removed in time', async () => {
    const old = (name: string, days: number): void => {
      writeFileSync(join(folder, name), '');
      const atSeconds = (systemClock.nowMs() - days * DAY_MS) / 1000;
      utimesSync(join(folder, name), atSeconds, atSeconds);
    };
    old('a.tags.1.new', 8);
    old('b.tags.1.new', 6);
    old('c.tags', 181);
    old('d.tags', 179);

    open(null).close();

    assert.deepEqual(readdirSync(folder).sort(), ['b.tags.1.new', 'd.tags']);
  });
});
