import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { openLocalStorage } from '../../server/storage/index.ts';
import { createRepository, openRepository } from '../../server/repository/index.ts';
import { versionContent } from './repository-writer.ts';
import { readByStream } from '../fakes/small-repository.ts';

const KILLS = Number(process.env['DOZO_TEST_KILLS'] ?? 8);

describe('a process killed with SIGKILL while it writes', () => {
  it('loses no committed version, and the next one goes on', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'dozo-kill-'));
    try {
      const storage = await openLocalStorage({ folder });
      await (await createRepository({ storage, threads: 0 })).close();
      const committed = new Set<number>();
      for (let kill = 0; kill < KILLS; kill += 1) {
        // The committed numbers are known only as far as the child could print them.
        for (const version of await writeAndKill(
          folder,
          await nextVersion(folder),
          kill === KILLS - 1 ? 'after a commit' : (kill * 397) % 1300,
        )) {
          committed.add(version);
        }
        await assertVersions(folder, committed);
      }
      assert.ok(committed.size > 0, 'at least one version was committed between the kills');
    } finally {
      await rm(folder, { recursive: true });
      await rm(`${folder}-recall`, { recursive: true, force: true });
    }
  });
});

async function nextVersion(folder: string): Promise<number> {
  const repository = await openRepository({ storage: await openLocalStorage({ folder }), threads: 0 });
  const { length } = await repository.listPoints();
  await repository.close();
  return length;
}

async function writeAndKill(folder: string, first: number, when: number | 'after a commit'): Promise<number[]> {
  const script = path.join(import.meta.dirname, 'repository-writer.ts');
  const child = spawn(process.execPath, [script, folder, String(first)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.on('close', (_, signal) => resolve(signal)));
  // The time of the kill counts from the first write on, however long the start takes.
  await once(child.stdout, 'data');
  if (typeof when === 'number') await delay(when);
  else while (!/^\d+$/m.test(output)) await once(child.stdout, 'data');
  child.kill('SIGKILL');
  assert.equal(await ended, 'SIGKILL', errors);
  return output
    .split('\n')
    .filter((line) => /^\d+$/.test(line))
    .map(Number);
}

async function assertVersions(folder: string, committed: ReadonlySet<number>): Promise<void> {
  const repository = await openRepository({ storage: await openLocalStorage({ folder }), threads: 0 });
  const found = new Set<number>();
  for (const { pointId, manifest, damage } of await repository.listPoints()) {
    assert.equal(damage, null);
    const { version } = manifest?.evidence as { version: number };
    assert.ok(!found.has(version), `version ${version} was committed twice`);
    found.add(version);
    const disk = await (await repository.openPoint(pointId)).openDisk('d0');
    assert.ok((await readByStream(disk)).equals(versionContent(version)), `version ${version}`);
  }
  for (const version of committed) assert.ok(found.has(version), `committed version ${version} is lost`);
  assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
  await repository.close();
}
