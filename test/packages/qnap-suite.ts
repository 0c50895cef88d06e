import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, renameSync } from 'node:fs';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { Response } from 'playwright-core';
import { writeQpkg } from '../../scripts/package/qpkg.ts';
import { readQpkg } from './archives.ts';
import type { BuiltPackages } from './built-packages.ts';
import { Desktop, headingOf, QTS_DESKTOP, QTS_TLS_PORT, QTS_WEB_SERVER, QTS_WEB_SERVER_FORCED } from './desktop.ts';
import { architectureOf, assertMapped, assertMemory, ON_TESTED, otherThan, printMemory, TESTED } from './machine.ts';
import { PRINT_MAPPED, readValues, waitUntil, type NasRoot, type NasSession } from './nas-root.ts';
import { makeQnapRoot, ON_QNAP } from './qnap-root.ts';
import { inspectQpkg } from './qpkg-reader.ts';

const INSTALLED = 'share/CACHEDEV1_DATA/.qpkg/Dozo';
const STATE = 'share/CACHEDEV1_DATA/.dozo_data';
const INSTALL =
  'rm -f /tmp/update_process; sh /share/CACHEDEV1_DATA/package.qpkg >/tmp/install.log 2>&1; echo exit=$?; echo progress=$(cat /tmp/update_process)';
const HEALTH = 'echo health=$(wget -qO- http://127.0.0.1:15510/dozo//api/v1/health)';

/** Shell: the server answers, and has its queue. */
const IS_WELL = 'wget -qO- http://127.0.0.1:15510/dozo//api/v1/health | tee /tmp/health | grep -qF \'"ok"\'';

/** Shell: the server and the queue are killed in turn, and come back by themselves. */
const KILLS = [
  `P=$(cat /${STATE}/run/server.pid); kill -9 $P`,
  waitUntil(`[ "$P" != "$(cat /${STATE}/run/server.pid)" ] && ${IS_WELL}`),
  `[ "$P" != "$(cat /${STATE}/run/server.pid)" ]; echo another=$?; echo back=$(cat /tmp/health)`,
  'Q=$(pidof valkey-server); kill -9 $Q',
  waitUntil('N=$(pidof valkey-server) && [ "$N" != "$Q" ]'),
  '[ -n "$N" ] && [ "$N" != "$Q" ]; echo queue=$?',
  waitUntil(IS_WELL),
];

/** App Center, from the file to its removal. @param built gives the packages once they are made */
export function testQnap(shell: 'dash' | 'busybox', built: () => BuiltPackages): void {
  describe(`the package for QTS under ${shell}${ON_TESTED}`, () => {
    let qpkg: Buffer;
    let version: string;
    let root: NasRoot;
    before(() => {
      ({ qpkg, version } = built());
      root = makeQnapRoot(shell);
    });
    beforeEach(() => {
      root.write('share/CACHEDEV1_DATA/package.qpkg', qpkg);
    });
    after(() => root.remove());

    const nas = (...lines: string[]): Promise<string> => root.run([ON_QNAP, ...lines].join('\n'));
    const conf = (): string => readFileSync(root.path('etc/config/qpkg.conf'), 'utf8');

    it('has the form that App Center reads', () => {
      const { header, control, payload, tail } = readQpkg(qpkg);
      assert.match(header, /^#!\/bin\/sh\n/);
      assert.ok(header.endsWith('\nexit 1\n'));
      assert.ok(/^[\n\x20-\x7e]*$/.test(header), 'plain ASCII');
      assert.equal(header.split('\n').filter((line) => line.includes('if="${0}"') && line.includes('v -C')).length, 1);
      assert.ok(qpkg.subarray(0, 16_384).includes('control.tar.gz'));
      // Readers stop at the first line that begins so, and take every number of a line of an offset.
      const [seen = ''] = header.split(/^exit 1/m);
      const offsets = seen.split('\n').filter((line) => line.startsWith('offset='));
      assert.deepEqual(
        offsets.map((line) => line.match(/\d+/g)?.length),
        [1, 1],
      );
      assert.match(seen, /v -C \$_EXTRACT_DIR \|\| exit 1$/m);
      const sum = (BigInt(qpkg.length) * 3589n + 1_000_000_000n).toString().slice(0, 10);
      assert.deepEqual(tail, {
        model: ' '.repeat(10),
        sum,
        firmware: ' '.repeat(10),
        name: 'Dozo'.padEnd(20),
        version: version.padEnd(10),
        flag: 'QNAPQPKG  ',
      });
      for (const { name, owner } of [...control, ...payload]) {
        assert.match(name, /^\.\//);
        assert.deepEqual(owner, [0, 0]);
      }
      const names = payload.map(({ name }) => name);
      for (const name of ['./.qpkg_icon.gif', './.qpkg_icon_80.gif', './.qpkg_icon_gray.gif', './dozo.sh']) {
        assert.ok(names.includes(name), name);
      }
      assert.equal(inspectQpkg(qpkg).settings.get('QPKG_VER'), version);
    });

    it('is refused on another processor, an old firmware and without a volume, and leaves nothing', async () => {
      const other = otherThan(TESTED);
      const refusals: [path: string, text: string, words: RegExp][] = [
        ['bin/uname', `#!/bin/sh\necho ${other}\n`, new RegExp(`this NAS has ${other}`)],
        ['etc/default_config/uLinux.conf', '[System]\nVersion = 4.5.4\n', /needs QTS .* this is 4\.5\.4/],
        ['etc/config/smb.conf', '', /no volume/],
      ];
      for (const [path, text, words] of refusals) {
        renameSync(root.path(path), root.path('kept'));
        root.write(path, text, 0o755);
        const output = await nas(INSTALL, 'cat /tmp/install.log');
        renameSync(root.path('kept'), root.path(path));
        assert.match(output, words);
        assert.equal(readValues(output)['progress'], '-1');
        assert.ok(!existsSync(root.path(INSTALLED)));
        assert.doesNotMatch(conf(), /\[Dozo\]/);
      }
    });

    it('installs, answers behind the proxy of QTS, and runs with nothing of the system', async (t) => {
      const output = await nas(
        INSTALL,
        'cat /tmp/install.log',
        HEALTH,
        'wget -S -O /dev/null http://127.0.0.1:15510/dozo/ 2>&1 | sed -n "s/^ *Location: */window=/p" | tr -d "\\r"',
        PRINT_MAPPED,
        printMemory([`$(cat /${STATE}/run/server.pid)`, '$(pidof valkey-server)']),
        `P=$(cat /${STATE}/run/supervisor.pid); [ -d /proc/$P/cwd/bin ]; echo cwd=$?`,
        'sh /etc/init.d/dozo.sh stop; echo stopped=$?; sh /etc/init.d/dozo.sh status; echo status=$?',
        'nc -l -p 5510 >/dev/null & until grep -q ":1586 .* 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null; do sleep 1; done',
        'sh /etc/init.d/dozo.sh start; echo started=$?',
        `echo port=$(cat /${STATE}/port); rm /${STATE}/port`,
        ...(shell === 'busybox' ? KILLS : []),
        HEALTH.replace('health', 'second'),
      );
      const values = readValues(output);
      assert.deepEqual([values['exit'], values['progress'], values['cwd']], ['10', '3', '0'], output);
      assert.match(values['health'] ?? '', /"ok"/, output);
      assert.equal(values['window'], '/dozo/index.html', output);
      assert.deepEqual([values['stopped'], values['status'], values['started']], ['0', '3', '0'], output);
      assert.equal(values['second'], values['health']);
      assert.equal(values['port'], '5511');
      if (shell === 'busybox') {
        assert.deepEqual([values['another'], values['queue']], ['0', '0'], output);
        assert.equal(values['back'], values['health'], output);
      }
      assert.match(readFileSync(root.path('etc/config/events'), 'utf8'), /port 5510 is used .* answers on 5511/);
      assertMapped(values['mapped'], `/${INSTALLED}/`);
      t.diagnostic(`server and queue at rest: ${values['kib']} KiB`);
      assertMemory(values['kib']);
      assert.match(conf(), new RegExp(`\\[Dozo\\][^[]*Version = ${version}\n`));
      assert.match(conf(), /Enable = TRUE/);
      assert.ok(lstatSync(root.path('etc/rcS.d/QS190Dozo')).isSymbolicLink());
      assert.ok(existsSync(root.path('home/httpd/RSS/images/Dozo_gray.gif')));
      assert.ok(!existsSync(root.path('share/CACHEDEV1_DATA/.qpkg/.tmp-Dozo')));
      assert.ok(!existsSync(root.path(`${STATE}/data/redis/dump.rdb`)));
    });

    if (shell === 'busybox') {
      it('has a runtime that forks, makes threads and looks names up, with nothing of the system', async () => {
        root.write('proof.mjs', readFileSync('test/packages/runtime-proof.mjs'));
        root.write('etc/hosts', '127.0.0.1 localhost\n192.0.2.5 by-file.test\n');
        root.write('etc/resolv.conf', 'nameserver 127.0.0.1\n');
        const output = await nas('/var/dozo/bin/node /proof.mjs');
        assert.equal(readValues(output)['proof'], 'all', output);
      });

      describe("its window on the desktop, behind QTS's proxy", () => {
        let session: NasSession;
        let desktop: Desktop;
        let signedIn = '';
        before(async () => {
          session = root.open(0);
          await session.run(ON_QNAP);
          await restart();
          desktop = new Desktop(session.pid);
          await desktop.serve(QTS_WEB_SERVER, { 'index.html': QTS_DESKTOP });
        });
        after(async () => {
          await desktop.close();
          await session.cut();
        });

        async function restart(): Promise<void> {
          const output = await session.run('sh /etc/init.d/dozo.sh restart; echo started=$?');
          assert.equal(readValues(output)['started'], '0', output);
        }

        /** The heading that somebody with this session of QTS sees, at once where nothing comes of the window. */
        async function open(sid: string, url = 'http://127.0.0.1:8080/'): Promise<string> {
          let heading = '';
          const values = { NAS_SID: sid, NAS_USER: 'alice' };
          const complaints = await desktop.browse({ url, values }, async (page) => {
            const refused = (answer: Response): boolean =>
              answer.status() >= 400 && !(answer.status() === 401 && answer.url().includes('/api/v1/session'));
            const nothing = Promise.race([
              page.waitForEvent('response', { predicate: refused, timeout: 0 }),
              page.waitForEvent('requestfailed', { timeout: 0 }),
            ]).then(
              () => 'nothing',
              () => 'closed',
            );
            await page.goto(url);
            heading = await Promise.race([headingOf(page.frameLocator('iframe')), nothing]);
            await desktop.picture(page, `qts-${sid}`);
          });
          assert.deepEqual(complaints, [], sid);
          return heading;
        }

        /** With a line of the installed package changed. */
        async function spoilt(name: string, change: [string, string], check: () => Promise<void>): Promise<void> {
          const path = `${INSTALLED}/${name}`;
          const { mode } = lstatSync(root.path(path));
          const good = readFileSync(root.path(path), 'utf8');
          assert.ok(good.includes(change[0]), 'there is nothing to be changed');
          root.write(path, good.replace(...change), mode & 0o777);
          await restart();
          await assert.rejects(check(), assert.AssertionError, 'the harness does not see it');
          root.write(path, good, mode & 0o777);
        }

        it('opens, signed in by the session of an administrator and of nobody else', async () => {
          signedIn = await open('admin1');
          for (const sid of ['plain1', 'gone1']) assert.notEqual(await open(sid), signedIn, sid);
        });

        it('would notice a window that stays blank behind the proxy', async () => {
          const check = async (): Promise<void> => assert.equal(await open('admin1'), signedIn);
          await spoilt('dozo.sh', ['DOZO_LOOPBACK_PREFIX=/dozo', 'DOZO_LOOPBACK_PREFIX='], check);
        });

        it('opens where QTS forces HTTPS, and would notice a login that this breaks', async () => {
          await desktop.close();
          desktop = new Desktop(session.pid);
          await desktop.serve(QTS_WEB_SERVER_FORCED, { 'index.html': QTS_DESKTOP });
          const check = async (): Promise<void> =>
            assert.equal(await open('admin1', `https://127.0.0.1:${QTS_TLS_PORT}/`), signedIn);
          await spoilt('server/server-main.js', ['plain.status < 300 || plain.status >= 400', 'true'], check);
          await restart();
          await check();
          const output = await session.run('sh /etc/init.d/dozo.sh stop; echo stopped=$?');
          assert.equal(readValues(output)['stopped'], '0', output);
        });
      });
    }

    it('stays with the old version when the new file is damaged or does not start', async () => {
      const key = readFileSync(root.path(`${STATE}/data/secret.key`));
      const damaged = Buffer.from(qpkg);
      damaged[qpkg.length >> 1] = (damaged[qpkg.length >> 1] ?? 0) ^ 1;
      const extras = /^(dozo\.sh|\.qpkg_icon.*|SHA256SUMS|bin\/verify\.mjs)$/;
      const payload = readQpkg(qpkg)
        .payload.filter(({ type }) => type === '0')
        .map(({ name, mode, data }) => ({ path: name.slice(2), mode, data }))
        .filter(({ path }) => !extras.test(path))
        .map((file) =>
          file.path === 'server/server-main.js' ? { ...file, data: Buffer.from('process.exit(7);') } : file,
        );
      const dead = writeQpkg({ architecture: architectureOf(TESTED), version: '9.9.9', payload, modifiedS: 0 });
      for (const file of shell === 'dash' ? [damaged, dead] : [damaged]) {
        root.write('share/CACHEDEV1_DATA/package.qpkg', file);
        const output = await nas(
          'sh /etc/init.d/dozo.sh start; echo started=$?',
          INSTALL,
          'cat /tmp/install.log',
          HEALTH,
        );
        const values = readValues(output);
        assert.deepEqual([values['started'], values['exit'], values['progress']], ['0', '10', '-1'], output);
        assert.match(values['health'] ?? '', /"ok"/, output);
        assert.notEqual(readFileSync(root.path(`${INSTALLED}/server/server-main.js`), 'utf8'), 'process.exit(7);');
        assert.match(conf(), new RegExp(`Version = ${version}\n`));
        assert.ok(!existsSync(root.path('share/CACHEDEV1_DATA/.qpkg/.Dozo.new')));
        assert.ok(!existsSync(root.path('share/CACHEDEV1_DATA/.qpkg/.Dozo.old')));
      }
      assert.deepEqual(readFileSync(root.path(`${STATE}/data/secret.key`)), key);
    });

    it('refuses to start when disabled, goes without a trace, and leaves data and neighbours alone', async () => {
      const output = await nas(
        'sh /sbin/setcfg Dozo Enable FALSE -f /etc/config/qpkg.conf',
        'sh /etc/init.d/dozo.sh start; echo refused=$?',
        'sh /sbin/setcfg Dozo Enable TRUE -f /etc/config/qpkg.conf',
        'sh /etc/init.d/dozo.sh start; echo started=$?',
        `sh /${INSTALLED}/.uninstall.sh; echo removed=$?`,
        'echo left=$(grep -l -e bin/[n]ode -e bin/[v]alkey /proc/[0-9]*/cmdline 2>/dev/null)',
      );
      assert.deepEqual(readValues(output), { refused: '1', started: '0', removed: '0', left: '' }, output);
      for (const name of [INSTALLED, 'etc/init.d/dozo.sh', 'home/httpd/RSS/images/Dozo.gif', 'var/dozo']) {
        assert.ok(!existsSync(root.path(name)), name);
      }
      assert.ok(existsSync(root.path('etc/rcS.d/QS190MyDozo')));
      assert.ok(existsSync(root.path(`${STATE}/data/catalogue.sqlite`)));
      const events = readFileSync(root.path('etc/config/events'), 'utf8');
      assert.match(events, /\[Dozo\] Version .* is installed/);
      assert.doesNotMatch(events, /password/i);
    });
  });
}
