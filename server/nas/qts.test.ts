import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { once } from 'node:events';
import { generate } from 'selfsigned';
import { isAppError } from '../errors/index.ts';
import { silentLogger } from '../runtime/index.ts';
import { createQts } from './qts.ts';

/** Like QTS's login page: sessions and remembered logins; some answers are CDATA, some plain. */
const answer: RequestListener = (request, response) => {
  const url = new URL(request.url ?? '', 'http://x');
  const { sid, qtoken, user } = Object.fromEntries(url.searchParams);
  const write = (...fields: string[]): void => {
    response.end(`<?xml version="1.0"?><QDocRoot version="1.0">${fields.join('\n')}</QDocRoot>`);
  };
  if (url.pathname !== '/cgi-bin/authLogin.cgi') response.writeHead(404).end();
  else if (sid === 'admin1') {
    write(
      '<authPassed><![CDATA[1]]></authPassed>',
      '<isAdmin><![CDATA[1]]></isAdmin>',
      '<username><![CDATA[alice]]></username>',
    );
  } else if (sid === 'plain1') write('<authPassed>1</authPassed><isAdmin>0</isAdmin><username>bob</username>');
  else if (sid === 'unnamed1') write('<authPassed>1</authPassed><isAdmin>1</isAdmin>');
  else if (sid === 'unsure1') write('<authPassed>1</authPassed><username>eve</username>');
  else if (sid === 'hostile1') write('<authPassed>1</authPassed><isAdmin>1</isAdmin><username>a&lt;b</username>');
  else if (qtoken === 'remembered1' && user === 'alice') write('<authPassed>1</authPassed><isAdmin> 1 </isAdmin>');
  else if (sid === 'endless1') response.write('x'.repeat(400_000));
  else write('<authPassed><![CDATA[0]]></authPassed><errorValue>-1</errorValue>');
};

describe('QTS', () => {
  let root: string;
  const servers: Server[] = [];
  const place = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    chmodSync(join(root, path), 0o755);
  };
  const listen = async (server: Server): Promise<number> => {
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  };
  const setPorts = (plain: number, tls: number): void =>
    place(
      'etc/config/uLinux.conf',
      `[System]\nVersion = 5.2.6\nWeb Access Port = ${plain}\n[Stunnel]\nEnable = 1\nPort = ${tls}\n`,
    );
  let plainPort = 0;
  before(async () => {
    root = mkdtempSync(join(tmpdir(), 'dozo-qts-'));
    plainPort = await listen(createServer(answer));
    setPorts(plainPort, 1);
  });
  after(() => {
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    rmSync(root, { recursive: true, force: true });
  });
  const identify = (cookies: string): Promise<string | null> =>
    createQts(silentLogger, root).identify({ cookies, csrfToken: '', address: '127.0.0.1', host: 'nas:8080' });

  it('knows an administrator by session, or by a remembered login', async () => {
    assert.equal(await identify('NAS_USER=eve; NAS_SID=admin1'), 'alice', 'not by the name that the browser claims');
    assert.equal(await identify('NAS_USER=alice; NAS_SID=gone1; qtoken=remembered1'), 'alice');
    assert.equal(await identify('NAS_USER=eve; NAS_SID=unnamed1'), 'administrator');
  });

  it('knows nobody else', async () => {
    for (const cookies of [
      '',
      'NAS_SID=',
      'NAS_USER=alice',
      'NAS_SID=plain1; NAS_USER=alice; qtoken=remembered1',
      'NAS_SID=unsure1',
      'NAS_SID=hostile1',
      'NAS_USER=bob; qtoken=remembered1',
      'NAS_USER=%E0%A4%A; qtoken=remembered1',
      'NAS_SID=x&sid=admin1',
      'NAS_SID=../../admin1',
    ]) {
      assert.equal(await identify(cookies), null, cookies);
    }
  });

  it('asks by TLS where the NAS forces it, and goes to no other place', async () => {
    const { private: key, cert } = await generate([{ name: 'commonName', value: 'nas' }]);
    const tlsPort = await listen(createTlsServer({ key, cert }, answer) as unknown as Server);
    const forced = await listen(
      createServer((request, response) => {
        response.writeHead(302, { Location: `https://192.0.2.1/${request.url ?? ''}` }).end();
      }),
    );
    setPorts(forced, tlsPort);
    assert.equal(await identify('NAS_SID=admin1'), 'alice');
    setPorts(plainPort, 1);
  });

  it('is not believed when it cannot be asked', async () => {
    const isUnreachable = (error: unknown): boolean => isAppError(error) && error.code === 'NAS_UNREACHABLE';
    await assert.rejects(identify('NAS_SID=endless1'), isUnreachable);
    const closed = createServer();
    const port = await listen(closed);
    closed.close();
    await once(closed, 'close');
    setPorts(port, port);
    await assert.rejects(identify('NAS_SID=admin1'), isUnreachable);
    setPorts(plainPort, 1);
  });

  it('lists shared folders, and knows whether QuFirewall is at work', async () => {
    place(
      'etc/config/smb.conf',
      '[global]\nworkgroup = X\n[Public]\npath = /share/CACHEDEV1_DATA/Public\n[homes]\npath = %H\n[VM Backup]\n  path=/share/CE_CACHEDEV2_DATA/VM Backup\n',
    );
    const qts = createQts(silentLogger, root);
    assert.deepEqual(await qts.listShares(), [
      { name: 'Public', path: '/share/CACHEDEV1_DATA/Public' },
      { name: 'VM Backup', path: '/share/CE_CACHEDEV2_DATA/VM Backup' },
    ]);
    assert.equal(await qts.hasFirewall(), null);
    place('usr/sbin/iptables', '#!/bin/sh\n[ "$*" = "-S QUFIREWALL" ] || exit 2\nexit 1\n');
    assert.equal(await qts.hasFirewall(), false);
    place('usr/sbin/iptables', '#!/bin/sh\n[ "$*" = "-S QUFIREWALL" ] || exit 2\necho -N QUFIREWALL\n');
    assert.equal(await qts.hasFirewall(), true);
  });
});
