import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  applyChanges,
  BLOCK_BYTES,
  CHANGE_BYTES,
  chooseFiles,
  findDataBlocks,
  packBlocks,
  planChanges,
} from './disk-image.ts';
import { measureCommand, parseTimes } from './measured-command.ts';
import { replaceSection } from './report.ts';
import type { Measurement } from './rounds.ts';
import { judgeAims, median, summarize } from './summary.ts';

function measurement(change: Partial<Measurement>): Measurement {
  return {
    round: 1,
    step: 'full',
    contender: 'Dozo',
    seconds: 1,
    cpuSeconds: 1,
    hostCpuSeconds: 1,
    memorySumBytes: 1e6,
    memoryLargestBytes: 1e6,
    wireBytes: 1e6,
    storedBytes: 1e6,
    stages: {},
    isEqual: null,
    ...change,
  };
}

describe('the disk of the bench', () => {
  it('takes the same files whatever the order of the listing, up to the size asked for', () => {
    const files = Array.from({ length: 200 }, (_, at) => ({ path: `/f/${String(at)}`, sizeBytes: 10 }));

    const chosen = chooseFiles(files, 500);

    assert.deepEqual(chooseFiles([...files].reverse(), 500), chosen);
    assert.equal(
      chosen.reduce((sum, file) => sum + file.sizeBytes, 0),
      500,
    );
  });

  it('lets no single file fill the disk', () => {
    const chosen = chooseFiles(
      [
        { path: '/huge', sizeBytes: 400 },
        { path: '/small', sizeBytes: 20 },
      ],
      500,
    );

    assert.deepEqual(
      chosen.map(({ path }) => path),
      ['/small'],
    );
  });

  it('changes one page in each of so many blocks that held data, and nothing else', () => {
    const folder = mkdtempSync(join(tmpdir(), 'bench-'));
    try {
      const image = join(folder, 'image');
      writeFileSync(image, Buffer.alloc(4 * BLOCK_BYTES, 7));
      truncateSync(image, 100 * BLOCK_BYTES);
      const before = readFileSync(image);
      const blocks = findDataBlocks(image);
      assert.deepEqual(blocks, [0, 1, 2, 3]);

      const changes = planChanges(blocks, 2, 'seed');
      applyChanges(image, changes);

      assert.deepEqual(planChanges(blocks, 2, 'seed'), changes);
      assert.equal(new Set(changes.map(({ offsetBytes }) => Math.floor(offsetBytes / BLOCK_BYTES))).size, 2);
      const after = readFileSync(image);
      for (const { offsetBytes, data } of changes) {
        assert.equal(data.length, CHANGE_BYTES);
        assert.ok(after.subarray(offsetBytes, offsetBytes + data.length).equals(data));
        data.copy(before, offsetBytes);
      }
      assert.ok(after.equals(before));
      packBlocks(image, blocks, join(folder, 'packed'));
      assert.ok(readFileSync(join(folder, 'packed')).equals(after.subarray(0, 4 * BLOCK_BYTES)));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('measuring a command', () => {
  it('counts processor time of all parts of a pipeline, and their memory', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'bench-'));
    try {
      const script = 'head -c 300000000 /dev/zero | sha256sum; node -e "setTimeout(() => 0, 500)"';

      const cost = await measureCommand(script, { scratch });

      assert.ok(cost.cpuSeconds > 0.05, `${String(cost.cpuSeconds)} s`);
      assert.ok(cost.seconds >= 0.5);
      assert.ok(cost.memorySumBytes > 10e6, `${String(cost.memorySumBytes)} bytes`);
      assert.match(cost.stdout, /^[0-9a-f]{64}/);
    } finally {
      rmSync(scratch, { recursive: true });
    }
  });

  it('fails when any part of a pipeline fails, with what it said', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'bench-'));
    try {
      await assert.rejects(measureCommand('sh -c "echo broken >&2; exit 3" | cat', { scratch }), /broken/);
    } finally {
      rmSync(scratch, { recursive: true });
    }
  });

  it('reads the output of the shell', () => {
    assert.equal(parseTimes('0m0.500s 0m0.250s\n1m1.000s 0m0.250s\n'), 62);
    assert.throws(() => parseTimes('nothing'));
  });
});

describe('the report', () => {
  it('takes medians', () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
  });

  it('compares within a round, so that a slow round does not favour anybody', () => {
    const rows = summarize(
      [
        measurement({ round: 1, seconds: 1 }),
        measurement({ round: 1, contender: 'restic', seconds: 2 }),
        measurement({ round: 2, seconds: 10 }),
        measurement({ round: 2, contender: 'restic', seconds: 20 }),
      ],
      'Dozo',
    );

    assert.equal(rows.find(({ contender }) => contender === 'restic')?.subjectIsTimesFaster, 2);
  });

  it('makes a row void when one of its restored disks differed', () => {
    const rows = summarize(
      [
        measurement({ step: 'restore', isEqual: true }),
        measurement({ step: 'restore', round: 2, isEqual: false }),
        measurement({ step: 'restore', contender: 'zstd floor', isEqual: true }),
      ],
      'Dozo',
    );

    assert.deepEqual(
      rows.map(({ isVoid }) => isVoid),
      [true, false],
    );
  });

  it('calls no aim met that was not measured', () => {
    assert.deepEqual(
      judgeAims([]).filter(({ isMet }) => isMet),
      [],
    );
  });

  it('measures an aim against the better of the peers', () => {
    const rows = summarize(
      [
        measurement({ seconds: 1 }),
        measurement({ contender: 'restic', seconds: 3 }),
        measurement({ contender: 'borg', seconds: 1.2 }),
      ],
      'Dozo',
    );

    const aim = judgeAims(rows).find(({ text }) => text.startsWith('full, times faster'));

    assert.equal(aim?.measured, '1.20');
    assert.equal(aim.isMet, false);
  });

  it('replaces only what lies between the marks of the document', () => {
    const document = [
      'before',
      '<!-- bench: begin (written by npm run bench -- --write-docs) -->',
      'old',
      '<!-- bench: end -->',
      'after',
    ].join('\n');

    const replaced = replaceSection(document, 'new');

    assert.match(replaced, /^before\n<!-- bench: begin.*-->\n\nnew\n\n<!-- bench: end -->\nafter$/);
    assert.equal(replaceSection(replaced, 'new'), replaced);
    assert.throws(() => replaceSection('no marks', 'new'));
  });
});
