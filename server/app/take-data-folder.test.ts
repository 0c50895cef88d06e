import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { silentLogger, systemClock, type Logger } from '../runtime/index.ts';
import { takeDataFolder } from './take-data-folder.ts';

const folder = mkdtempSync(join(tmpdir(), 'dozo-folder-'));
const lock = join(folder, 'server.lock');
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

/** A process that holds the lock until it is told to end. */
async function holdLock(environment: Record<string, string>): Promise<ChildProcess> {
  const module = JSON.stringify(join(import.meta.dirname, '../database/index.ts'));
  const code = `import { lockFolder } from ${module};
    await lockFolder(${JSON.stringify(lock)});
    process.stdout.write('locked');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

/** A logger that tells when somebody is waited for, and who that is. */
function listener(): { logger: Logger; waiting: Promise<number | null> } {
  const { promise: waiting, resolve } = Promise.withResolvers<number | null>();
  const warn = (facts: { pid: number | null }): void => resolve(facts.pid);
  return { logger: { ...silentLogger, warn } as unknown as Logger, waiting };
}

describe('taking the data folder', { timeout: 180_000 }, () => {
  it('waits for a server that is ending, says for whom, and leaves it alone', async () => {
    const former = await holdLock({});
    const { logger, waiting } = listener();

    const taking = takeDataFolder(lock, { clock: systemClock, logger, orphanEndsWithinMs: 0 });
    assert.equal(await waiting, former.pid);
    former.kill('SIGTERM');

    await (
      await taking
    )();
    assert.equal(former.signalCode ?? 'SIGTERM', 'SIGTERM', 'it ended by itself');
  });

  it('refuses while one goes on running, and names its process', async () => {
    const other = await holdLock({});
    const taking = takeDataFolder(lock, {
      ...{ clock: systemClock, logger: silentLogger },
      ...{ formerEndsWithinMs: 0, orphanEndsWithinMs: 0 },
    });
    await assert.rejects(taking, (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'SERVER_ALREADY_RUNNING');
      assert.equal(error.details['pid'], other.pid);
      return true;
    });
    assert.equal(other.exitCode ?? other.signalCode, null);
    const ended = once(other, 'exit');
    other.kill('SIGKILL');
    await ended;
  });

  it('ends a worker of a killed server that does not let go, and no worker of another folder', async () => {
    const stranger = await holdLock({ DOZO_SERVER_LOCK: '/elsewhere/server.lock' });
    await assert.rejects(
      takeDataFolder(lock, {
        ...{ clock: systemClock, logger: silentLogger },
        ...{ formerEndsWithinMs: 1500, orphanEndsWithinMs: 0 },
      }),
      { code: 'SERVER_ALREADY_RUNNING' },
    );
    assert.equal(stranger.exitCode ?? stranger.signalCode, null);
    const gone = once(stranger, 'exit');
    stranger.kill('SIGKILL');
    await gone;

    const orphan = await holdLock({ DOZO_SERVER_LOCK: lock });
    const ended = once(orphan, 'exit');
    // Not even a signal that asks would reach it.
    orphan.kill('SIGSTOP');
    const release = await takeDataFolder(lock, { clock: systemClock, logger: silentLogger, orphanEndsWithinMs: 0 });
    assert.equal((await ended)[1], 'SIGKILL');
    await release();
  });
});
