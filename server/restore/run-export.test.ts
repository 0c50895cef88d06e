import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';

import { MemoryRepository } from '../../test/fakes/memory-repository.ts';
import { KIB, MIB, silentLogger, systemClock } from '../runtime/index.ts';

import { runExport, type ExportTask } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'dozo-export-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

async function pointWith(content: Buffer) {
  const repository = new MemoryRepository();
  const session = await repository.startWrite({ sessionId: 's' });
  const writer = await session.openDisk({ key: 'scsi0:0', sizeBytes: content.length, base: null });
  await writer.write(0, content);
  await writer.finish();
  const { pointId } = await session.commit({
    machineId: 'm',
    machineName: 'web',
    createdAtMs: 0,
    state: 'complete',
    stateReasons: [],
    previousPointId: null,
    disks: [{ key: 'scsi0:0', changeToken: null, facts: null }],
    files: [],
    machine: null,
    evidence: null,
  });
  const send = (task: Partial<ExportTask>, signal = new AbortController().signal) =>
    runExport(
      { repository, clock: systemClock, logger: silentLogger },
      {
        runId: 'e1',
        repository: { path: '/nowhere' },
        pointId,
        diskKey: 'scsi0:0',
        format: 'raw',
        path: join(folder, 'disk'),
        ...task,
      },
      { progress: () => undefined, log: () => undefined, signal },
    );
  return { repository, send };
}

/** A disk with holes, an odd number of sectors, and data up to its end. */
function sparseDisk(): Buffer {
  const content = Buffer.alloc(70 * MIB + 37 * 512);
  randomBytes(3 * MIB).copy(content, 2 * MIB + 512);
  randomBytes(100 * KIB).copy(content, 40 * MIB + 11 * 512);
  randomBytes(5000).copy(content, content.length - 5000);
  return content;
}

const hasQemu = (() => {
  try {
    execFileSync('qemu-img', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

describe('an export', () => {
  test('raw: has the bytes of the disk, with holes where they are zero', async () => {
    const content = sparseDisk();
    const { send } = await pointWith(content);
    const path = join(folder, 'a.raw');

    const result = await send({ path });

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.ok(readFileSync(path).equals(content));
    assert.ok(statSync(path).blocks * 512 < 8 * MIB);
    assert.equal(result.verifiedBytes, result.writtenBytes);
  });

  test('vmdk: QEMU reads the same bytes and finds no fault', { skip: !hasQemu }, async () => {
    for (const content of [sparseDisk(), Buffer.alloc(512), Buffer.alloc(0), randomBytes(33 * MIB)]) {
      const { send } = await pointWith(content);
      const path = join(folder, `b-${String(content.length)}.vmdk`);
      const raw = join(folder, `b-${String(content.length)}.raw`);
      writeFileSync(raw, content);

      const result = await send({ path, format: 'vmdk' });

      assert.equal(result.state, 'success', JSON.stringify(result.error));
      if (content.length === 0) continue;
      execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', 'vmdk', raw, path]);
      execFileSync('qemu-img', ['check', '-f', 'vmdk', path]);
      const info = JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' })) as {
        'virtual-size': number;
      };
      assert.equal(info['virtual-size'], content.length);
    }
  });

  test('never writes over a file, and leaves nothing but the result', async () => {
    const { send } = await pointWith(randomBytes(MIB));
    const path = join(folder, 'c.raw');
    writeFileSync(path, 'mine');

    const refused = await send({ path });

    assert.deepEqual([refused.state, refused.error?.code], ['failed', 'CONFLICT']);
    assert.equal(readFileSync(path, 'utf8'), 'mine');
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.endsWith('.part')),
      [],
    );
  });

  test('takes the longest name that the file system does, and says so of a longer one', async () => {
    const content = randomBytes(MIB);
    const { send } = await pointWith(content);
    const path = join(folder, `${'e'.repeat(251)}.raw`);

    assert.equal((await send({ path })).state, 'success');
    assert.ok(readFileSync(path).equals(content));
    const refused = await send({ path: join(folder, `${'e'.repeat(252)}.raw`) });
    assert.equal(refused.error?.code, 'STORAGE_FAILED');
    assert.match(refused.error.message, /too long/);
  });

  test('ends on cancel with no file', async () => {
    const { repository, send } = await pointWith(randomBytes(MIB));
    const cancel = new AbortController();
    const { openPoint } = repository;
    repository.openPoint = (pointId) => {
      cancel.abort();
      return openPoint.call(repository, pointId);
    };

    const result = await send({ path: join(folder, 'd.raw') }, cancel.signal);

    assert.equal(result.state, 'cancelled');
    assert.ok(!existsSync(join(folder, 'd.raw')));
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.endsWith('.part')),
      [],
    );
  });

  test('names a missing folder and a disk that the version does not hold', async () => {
    const { send } = await pointWith(randomBytes(MIB));

    assert.equal((await send({ path: join(folder, 'no', 'e.raw') })).error?.code, 'STORAGE_MISSING');
    assert.equal((await send({ path: join(folder, 'f.vmdk'), diskKey: 'ide0:0' })).error?.code, 'NOT_FOUND');
  });
});
