import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openCatalogue, type Catalogue } from '../database/index.ts';
import type { Nas } from '../nas/index.ts';
import { createSealer } from '../queue/index.ts';
import { silentLogger, systemClock, type Clock } from '../runtime/index.ts';
import { startHttpServer, type HttpServer } from './http-server.ts';
import { createPeople } from './people.ts';
import type { HttpServices } from './route.ts';

const PASSWORD = 'a long enough password';
/** More than an account lets through at once. */
const GUESSES = 44;
/** Nothing is forgiven meanwhile, however slow the machine is. */
const clock: Clock = { ...systemClock, monotonicMs: () => 0 };

describe('behind the web server of a NAS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dozo-http-'));
  let catalogue: Catalogue;
  const servers: HttpServer[] = [];
  before(async () => {
    catalogue = await openCatalogue(join(folder, 'catalogue.sqlite'));
  });
  after(async () => {
    for (const server of servers) await server.close();
    await catalogue.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function start(vouchesForAddress: boolean, connectionsMax?: number): Promise<HttpServer> {
    const nas: Nas = {
      name: 'test',
      hasSignIn: false,
      vouchesForAddress,
      exampleFolder: '/nas/Dozo',
      notify: async () => true,
      identify: async () => null,
      listShares: async () => [],
      hasFirewall: async () => null,
    };
    const sealer = createSealer(Buffer.alloc(32, 7));
    const people = createPeople({ catalogue, nas, sealer, clock, logger: silentLogger });
    await people.accounts.ensureAdministrator(PASSWORD);
    const server = await startHttpServer({
      // What the login does not reach is not there.
      services: { ...people, nas } as unknown as HttpServices,
      logger: silentLogger,
      version: '0',
      bind: '127.0.0.1',
      port: 0,
      tls: null,
      uiFolder: null,
      isBehindNas: true,
      ...(connectionsMax === undefined ? {} : { connectionsMax }),
    });
    servers.push(server);
    return server;
  }

  /** Statuses of guesses at one account, each from another address, as its sender claims. */
  async function guess({ port }: HttpServer): Promise<Set<number>> {
    const statuses = new Set<number>();
    for (let number = 1; number <= GUESSES; number += 1) {
      const answer = await fetch(`http://127.0.0.1:${port}/api/v1/session`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-dozo-request': '1',
          'x-forwarded-for': `198.51.100.${number}`,
        },
        body: JSON.stringify({ user: 'admin', password: `guess ${number}` }),
      });
      await answer.arrayBuffer();
      statuses.add(answer.status);
    }
    return statuses;
  }

  it('reads little of what a stranger sends', async () => {
    const { port } = await start(true);
    const sent = await fetch(`http://127.0.0.1:${port}/api/v1/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-dozo-request': '1' },
      body: JSON.stringify({ user: 'admin', password: 'x'.repeat(40_000) }),
    });
    assert.equal(sent.status, 400);
    assert.match(((await sent.json()) as { message: string }).message, /entity too large/);
  });

  it('takes so many connections and no more, and another one when one has ended', async () => {
    const { port } = await start(true, 3);
    const open = async (): Promise<Socket> => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      return socket;
    };
    const silent = [await open(), await open(), await open()];
    const fourth = await open();
    fourth.resume();
    await once(fourth, 'close');
    silent[0]?.destroy();
    // Its end is seen a moment later.
    let answered = false;
    while (!answered) {
      answered = await fetch(`http://127.0.0.1:${port}/api/v1/health`).then(
        () => true,
        () => false,
      );
    }
    for (const socket of silent) socket.destroy();
  });

  it('slows guessing down where a browser may claim ever new addresses', async () => {
    assert.deepEqual(await guess(await start(false)), new Set([401, 429]));
  });

  it('gives every address an attempt where the NAS says whose it is', async () => {
    assert.deepEqual(await guess(await start(true)), new Set([401]));
  });
});
