import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { ErrorCode } from '../contract/error-codes.ts';
import { openCatalogue, type Catalogue } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import { HostWatch, type Knock } from './host-watch.ts';
import type { HostService } from './hosts.ts';

const ID = '0'.repeat(15) + '1';
let folder: string;
let catalogue: Catalogue;
let nowMs: number;
/** How often the host was asked by a login. */
let asked: number;
/** What a login fails with; null: it succeeds. */
let failure: ErrorCode | null;
let isUp: boolean;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-host-watch-'));
  catalogue = await openCatalogue(join(folder, 'catalogue.db'));
  [nowMs, asked, failure, isUp] = [0, 0, null, true];
});

afterEach(async () => {
  await catalogue.close();
  await rm(folder, { recursive: true });
});

async function addHost(httpsPort = 443): Promise<void> {
  await catalogue.hosts.save({
    id: ID,
    name: 'host',
    host: '127.0.0.1',
    sshPort: 22,
    httpsPort,
    user: 'root',
    auth: 'password',
    secret: 'sealed',
    sshHostKey: null,
    tlsCertificate: null,
    facts: null,
    error: null,
    checkedAtMs: null,
    createdAtMs: 0,
  });
}

function watch(knock?: Knock): HostWatch {
  const context = {
    catalogue,
    queue: { isUp: () => isUp },
    clock: { ...systemClock, monotonicMs: () => nowMs },
    logger: silentLogger,
  } as unknown as OrchestrationContext;
  const hosts: Pick<HostService, 'refresh'> = {
    refresh: async (id) => {
      asked += 1;
      const error = failure === null ? null : new AppError(failure, 'a test', { hint: 'none' });
      await catalogue.hosts.saveContact(id, { facts: null, error: error?.toBody() ?? null, atMs: 0 });
      if (error !== null) throw error;
      return { facts: {}, machines: [] } as unknown as Awaited<ReturnType<HostService['refresh']>>;
    },
  };
  return new HostWatch(context, { hosts, ...(knock === undefined ? {} : { knock }) });
}

async function errorOfHost(): Promise<string | null> {
  return (await catalogue.hosts.load(ID))?.error?.code ?? null;
}

test('a host that goes is told without any run, and so is one that is back', async () => {
  await addHost();
  let isThere = true;
  const watched = watch(() => Promise.resolve(isThere));
  await watched.look();
  assert.equal(asked, 0, 'nobody logs in to a host that is as it was');

  isThere = false;
  failure = 'HOST_UNREACHABLE';
  await watched.look();
  assert.equal(await errorOfHost(), 'HOST_UNREACHABLE');
  await watched.look();
  assert.equal(asked, 1, 'what is known is not asked for again');

  isThere = true;
  failure = null;
  await watched.look();
  assert.equal(await errorOfHost(), null);
  assert.equal(asked, 2);
});

test('where knock and login go on to disagree, a login is seldom', async () => {
  await addHost();
  const watched = watch(() => Promise.resolve(false));
  // Workers reach what the server does not.
  for (const minutes of [0, 5, 55, 60, 65]) {
    nowMs = minutes * 60_000;
    await watched.look();
  }
  assert.equal(await errorOfHost(), null, 'the login is believed');
  assert.equal(asked, 2);
});

test('a refused password is not tried again, and nobody is asked while the queue is down', async () => {
  await addHost();
  const error = new AppError('HOST_LOGIN_REFUSED', 'a test', { hint: 'none' });
  await catalogue.hosts.saveContact(ID, { facts: null, error: error.toBody(), atMs: 0 });
  for (const isThere of [true, false, true]) await watch(() => Promise.resolve(isThere)).look();
  assert.equal(asked, 0);

  await catalogue.hosts.saveContact(ID, { facts: null, error: null, atMs: 0 });
  isUp = false;
  await watch(() => Promise.resolve(false)).look();
  assert.equal(asked, 0);
  assert.equal(await errorOfHost(), null);
});

test('a knock tells a port that listens from one that does not', async () => {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  await addHost((server.address() as { port: number }).port);
  const watched = watch();
  await watched.look();
  assert.equal(asked, 0);

  await new Promise<unknown>((resolve) => server.close(resolve));
  failure = 'HOST_PORT_REFUSED';
  await watched.look();
  assert.equal(asked, 1);
  assert.equal(await errorOfHost(), 'HOST_PORT_REFUSED');
});

test('it ends without waiting for its turn', async () => {
  await addHost();
  const watched = watch();
  watched.start();
  await watched.stop();
});
