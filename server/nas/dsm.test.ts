import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { silentLogger } from '../runtime/index.ts';
import { createDsm } from './dsm.ts';

/** Like DSM's: one session a cookie, bound to an address, with a token; looks at the last `id` only. */
const AUTHENTICATE = `#!/bin/sh
echo "$HTTP_COOKIE|$REMOTE_ADDR|$HTTP_X_SYNO_TOKEN|$#|$QUERY_STRING" >> "$(dirname "$0")/asked"
case \${HTTP_COOKIE##*id=} in
  hangs-for-ever) exec sleep 60 ;;
  admin-session-1) user=alice ;;
  plain-session-1) user=bob ;;
  strange-session) user='--help' ;;
  domain-session) user='OFFICE\\\\carol' ;;
  *) exit 0 ;;
esac
[ "$REMOTE_ADDR" = 192.0.2.7 ] && [ "$HTTP_X_SYNO_TOKEN" = token-1 ] || exit 0
printf '%s\\n' "$user"
`;
const ID = `#!/bin/sh
[ "$1" = -nG ] || exit 1
case $2 in
  alice) echo "users administrators http" ;;
  bob) echo "users administrators2" ;;
  *) echo "id: no such user" >&2; exit 1 ;;
esac
`;

describe('DSM', () => {
  let root: string;
  const place = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    chmodSync(join(root, path), 0o755);
  };
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'dozo-dsm-'));
    place('usr/syno/synoman/webman/modules/authenticate.cgi', AUTHENTICATE);
    place('usr/bin/id', ID);
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  const identify = (cookies: string, change: { csrfToken?: string; address?: string } = {}): Promise<string | null> =>
    createDsm(silentLogger, root).identify({
      cookies,
      csrfToken: 'token-1',
      address: '192.0.2.7',
      host: 'nas:5001',
      ...change,
    });
  const asked = (): string[] =>
    readFileSync(join(root, 'usr/syno/synoman/webman/modules/asked'), 'utf8').trimEnd().split('\n');

  it('knows an administrator by cookie, address and token', async () => {
    assert.equal(await identify('stay=1; id=admin-session-1; other=2'), 'alice');
    assert.equal(asked().at(-1), 'id=admin-session-1|192.0.2.7|token-1|0|');
  });

  it('knows nobody else', async () => {
    for (const [cookies, change] of [
      ['', {}],
      ['id=', {}],
      ['id=plain-session-1', {}],
      ['id=no-such-session', {}],
      ['id=strange-session', {}],
      ['id=domain-session', {}],
      ['_SSID=admin-session-1', {}],
      ['xid=admin-session-1', {}],
      ['id=admin-session-1', { csrfToken: '' }],
      ['id=admin-session-1', { csrfToken: 'token-1\nHTTP_COOKIE=x' }],
      ['id=admin-session-1', { address: '192.0.2.8' }],
      ['id=admin-session-1$(touch /tmp/x)', {}],
    ] as const) {
      assert.equal(await identify(cookies, change), null, `${cookies} ${JSON.stringify(change)}`);
    }
  });

  it('tries several cookies of one name alone, the last one first, and not without end', async () => {
    assert.equal(await identify('id=admin-session-1; id=stale-session-9'), 'alice');
    assert.deepEqual(
      asked()
        .slice(-2)
        .map((line) => line.split('|')[0]),
      ['id=stale-session-9', 'id=admin-session-1'],
    );
    const count = asked().length;
    await identify(Array.from({ length: 200 }, (_, number) => `id=stale-session-${number}`).join('; '));
    assert.ok(asked().length - count <= 8);
  });

  it('is not believed when it cannot be asked', async () => {
    const empty = createDsm(silentLogger, join(root, 'nothing'));
    const request = { cookies: 'id=admin-session-1', csrfToken: '', address: '192.0.2.7', host: 'nas' };
    await assert.rejects(empty.identify(request), (error) => isAppError(error) && error.code === 'NAS_UNREACHABLE');
    rmSync(join(root, 'usr/bin/id'));
    assert.equal(await identify('id=admin-session-1'), null);
    place('usr/bin/id', ID);
  });

  it('lists the own share and those it may write to, none of the system', async () => {
    for (const name of ['volume1/Dozo', 'volume1/@appstore', 'volume1/#recycle', 'volume2/Backups', 'volume2/@eaDir']) {
      mkdirSync(join(root, name), { recursive: true });
    }
    mkdirSync(join(root, 'var/packages/Dozo/shares'), { recursive: true });
    symlinkSync(join(root, 'volume1/Dozo'), join(root, 'var/packages/Dozo/shares/Dozo'));
    symlinkSync(join(root, 'volume9/gone'), join(root, 'var/packages/Dozo/shares/gone'));
    const shares = await createDsm(silentLogger, root).listShares();
    assert.deepEqual(
      shares.map(({ name, path }) => `${name} ${path.slice(root.length)}`),
      ['Dozo /volume1/Dozo', 'Backups /volume2/Backups'],
    );
  });
});
