import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, rm, utimes, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, test } from 'node:test';
import { LocalShellConnection } from '../../../test/fakes/local-shell-connection.ts';
import { AppError } from '../../errors/index.ts';
import { randomHex, silentLogger, systemClock } from '../../runtime/index.ts';
import { holdingLock } from './host-lock.ts';
import { HostShell } from './host-shell.ts';

let name: string;
let folder: string;

beforeEach(() => {
  name = `dozo-test-${randomHex(8)}`;
  folder = `/tmp/.${name}.lock`;
});
afterEach(async () => {
  assert.equal(existsSync(`${folder}.breaking`), false);
  await rm(folder, { recursive: true, force: true });
});

/** A host's shell; `connections` has each connection that was made. */
function openShell(): { host: HostShell; connections: LocalShellConnection[] } {
  const connections = [new LocalShellConnection()];
  const connect = async (): Promise<LocalShellConnection> => {
    connections.push(new LocalShellConnection());
    return await Promise.resolve(connections.at(-1) as LocalShellConnection);
  };
  const connection = connections[0] as LocalShellConnection;
  return { host: new HostShell({ connection, connect, clock: systemClock, logger: silentLogger }), connections };
}

test('lets one work at a time and leaves no folder', async () => {
  let inside = 0;
  const works = Array.from({ length: 4 }, async (_, index) => {
    return await holdingLock(openShell().host, name, undefined, async (held) => {
      inside += 1;
      assert.equal(inside, 1);
      assert.ok(existsSync(folder));
      assert.equal((await held.exec('true' as never)).code, 0);
      inside -= 1;
      return index;
    });
  });

  assert.deepEqual(await Promise.all(works), [0, 1, 2, 3]);
  assert.equal(existsSync(folder), false);
});

test('is let go of when the work fails', async () => {
  const failure = new AppError('HOST_COMMAND_FAILED', 'no');

  await assert.rejects(
    holdingLock(openShell().host, name, undefined, async () => await Promise.reject(failure)),
    failure,
  );

  assert.equal(existsSync(folder), false);
});

test('goes with its connection; the work is done anew on the next one', async () => {
  const { host, connections } = openShell();
  const seen: string[] = [];

  await holdingLock(host, name, undefined, async (held) => {
    seen.push('begun');
    // The holder's script is killed with it here, so that its folder stays and only its process number tells.
    if (connections.length < 3) connections.at(-1)?.cut();
    await held.exec('true' as never, { isRepeatable: true });
    seen.push('done');
  });

  assert.deepEqual(seen, ['begun', 'begun', 'begun', 'done']);
  assert.equal(connections.length, 3);
  assert.equal(existsSync(folder), false);
});

test('a connection that is lost every time ends the work', async () => {
  const { host, connections } = openShell();
  const work = async (held: HostShell): Promise<void> => {
    connections.at(-1)?.cut();
    await held.exec('true' as never, { isRepeatable: true });
  };

  await assert.rejects(
    holdingLock(host, name, undefined, work),
    (error: AppError) => error.code === 'HOST_CONNECTION_LOST',
  );
});

test('a holder whose input ends without a word lets go at once', async () => {
  const first = openShell();
  const { promise: isHeld, resolve: tellHeld } = Promise.withResolvers<void>();
  const { promise: over, resolve: endFirst } = Promise.withResolvers<void>();
  const holding = holdingLock(first.host, name, undefined, async () => {
    tellHeld();
    await over;
  });
  await isHeld;
  const waiting = holdingLock(openShell().host, name, undefined, async () => await Promise.resolve('next'));

  // What the host's SSH service does when the client's process is gone.
  first.connections[0]?.endInputs();

  assert.equal(await waiting, 'next');
  endFirst();
  await holding;
  assert.equal(existsSync(folder), false);
});

for (const [what, holder, ageS] of [
  ['a process that is gone', '2147483647 former', 0],
  ['an unknown holder, long ago', null, 3600],
  ['a process that lives, long ago', `${String(process.pid)} former`, 3600],
] as const) {
  test(`takes over from ${what}`, async () => {
    await mkdir(folder);
    if (holder !== null) await writeFile(`${folder}/holder`, `${holder}\n`);
    const then = new Date(Date.now() - ageS * 1000);
    await utimes(folder, then, then);

    assert.equal(await holdingLock(openShell().host, name, undefined, async () => await Promise.resolve(1)), 1);

    assert.equal(existsSync(folder), false);
  });
}

test('waits for a holder that lives, until it is cancelled', async () => {
  await mkdir(folder);
  await writeFile(`${folder}/holder`, `${String(process.pid)} somebody\n`);
  const cancel = new AbortController();
  const { host, connections } = openShell();
  const waiting = holdingLock(host, name, cancel.signal, async () => await Promise.reject(new Error('not held')));
  while (connections[0]?.commands.length === 0) await new Promise((resolve) => setImmediate(resolve));

  cancel.abort();

  await assert.rejects(waiting, (error: AppError) => error.code === 'CANCELLED');
  assert.ok(existsSync(folder), 'a holder that lives lost its folder');
});
