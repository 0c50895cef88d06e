import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readSpk, type Spk } from './archives.ts';
import type { BuiltPackages } from './built-packages.ts';
import { placeDsmPrograms } from './dsm-programs.ts';
import { Desktop, DSM_DESKTOP, DSM_WEB_SERVER, headingOf, QUICKCONNECT_HOST, QUICKCONNECT_RELAY } from './desktop.ts';
import { architectureOf, assertMapped, assertMemory, ON_TESTED, printMemory, TESTED } from './machine.ts';
import { NasRoot, PRINT_MAPPED, readValues, WAIT_UNTIL_LET_GO, waitUntil } from './nas-root.ts';
import { PACKAGE_USER } from './package-center.ts';
import { assertTaken, assertWindow } from './synology-form.ts';
import { WindowApi } from './window-api.ts';

const USER = PACKAGE_USER;
const PACKAGE = '/var/packages/Dozo';
const SCRIPTS = `${PACKAGE}/scripts`;
const STATE = 'volume1/@appdata/Dozo/dozo';

/** Shell: the server answers, and has its queue. */
const IS_WELL = 'wget -qO- http://127.0.0.1:15510/api/v1/health | grep -qF \'"ok"\'';

/** What Package Center sets for every script but preinst. */
function packageEnvironment(status: string): Record<string, string> {
  return {
    SYNOPKG_PKGNAME: 'Dozo',
    SYNOPKG_PKG_STATUS: status,
    SYNOPKG_TEMP_LOGFILE: '/tmp/dialog',
    SYNOPKG_PKGDEST_VOL: '/volume1',
    SYNOPKG_PKGDEST: '/volume1/@appstore/Dozo',
    SYNOPKG_PKGVAR: '/volume1/@appdata/Dozo',
    SYNOPKG_PKGTMP: '/volume1/@apptemp/Dozo',
  };
}

/** Behind a relay the window is signed in, shows what others do while it is open, and gets whole answers. */
async function assertRelayed(desktop: Desktop, { port, isLive }: { port: number; isLive: boolean }): Promise<void> {
  const url = `https://${QUICKCONNECT_HOST}:${port}/`;
  const complaints = await desktop.browse({ url, values: { id: 'admin-session-1' } }, async (page) => {
    await page.goto(url);
    const window = page.frameLocator('iframe');
    await headingOf(window);
    const frame = await (await page.locator('iframe').elementHandle())?.contentFrame();
    assert.ok(frame);
    await frame.evaluate(() => {
      (globalThis as unknown as { location: { hash: string } }).location.hash = '#/storage';
    });
    const api = new WindowApi(frame);
    assert.equal((await api.get<{ user: string }>('/session')).user, 'alice@nas');
    const begins = frame.evaluate(
      (patienceMs) =>
        new Promise<boolean>((resolve) => {
          const scope = globalThis as unknown as { document: { baseURI: string }; EventSource: typeof EventTarget };
          const stream = new (scope.EventSource as unknown as new (from: URL) => EventTarget & { close(): void })(
            new URL('api/v1/events', scope.document.baseURI),
          );
          const end = (hasBegun: boolean): void => {
            stream.close();
            resolve(hasBegun);
          };
          stream.addEventListener('open', () => end(true));
          setTimeout(() => end(false), patienceMs);
        }),
      isLive ? 30_000 : 5_000,
    );
    assert.equal(await begins, isLive, 'whether a stream of events begins');
    const name = `relayed-${port}`;
    await api.post('/repositories', { name, path: `/volume1/${name}` });
    await window.getByText(name).first().waitFor();
    const { status, text } = await api.send('GET', '/audit/export');
    assert.equal(status, 200);
    const entries = text.trim().split('\n');
    assert.ok(
      entries.some((line) => JSON.stringify(JSON.parse(line)).includes(name)),
      text,
    );
  });
  assert.deepEqual(complaints, [], url);
}

/** Package Center, from the file to its removal. @param built gives the packages once they are made */
export function testSynology(built: () => BuiltPackages): void {
  describe(`the package for DSM${ON_TESTED}`, () => {
    let spk: Spk;
    let root: NasRoot;
    before(() => {
      spk = readSpk(built().spk);
      root = new NasRoot('busybox', { isOldKernel: true });
    });
    after(() => root.remove());

    /** What Package Center does with the files, and then with rights: all belongs to the package's user. */
    function placeFiles(): void {
      for (const name of ['volume1/@appstore/Dozo', 'volume1/@apptemp/Dozo', 'var/packages/Dozo']) {
        rmSync(root.path(name), { recursive: true, force: true });
        root.makeFolder(name);
      }
      root.makeFolder('volume1/@appdata/Dozo');
      root.unpack(spk.payload, 'volume1/@appstore/Dozo');
      root.unpack(
        [...spk.members.values()].filter(({ name }) => /^(INFO|scripts|conf)/.test(name)),
        'var/packages/Dozo',
      );
      for (const [link, target] of [
        ['target', 'appstore'],
        ['var', 'appdata'],
        ['tmp', 'apptemp'],
      ]) {
        symlinkSync(`/volume1/@${target}/Dozo`, root.path(`var/packages/Dozo/${link}`));
      }
      execFileSync('chown', ['-hR', `${USER}:${USER}`, root.path('volume1')]);
    }

    function packageCenter(script: string, status: string, answers: Record<string, string> = {}): Promise<string> {
      return root.run(script, { user: USER, env: { ...packageEnvironment(status), ...answers } });
    }

    it('is what Package Center takes', () => assertTaken(spk, architectureOf(TESTED)));
    it('has a window whose words and pictures are all there', () => assertWindow(spk));

    it('installs, answers, comes back after kill -9 and stops, as its own user with nothing of the system', async (t) => {
      placeFiles();
      const output = await packageCenter(
        [
          `sh ${SCRIPTS}/preinst && sh ${SCRIPTS}/postinst; echo installed=$?`,
          `S=${SCRIPTS}/start-stop-status`,
          'sh $S prestart; sh $S start; echo started=$?; sh $S start; echo again=$?; sh $S status; echo status=$?',
          'echo health=$(wget -qO- http://127.0.0.1:15510/api/v1/health)',
          PRINT_MAPPED,
          `echo filtered=$(cat /proc/$(cat /${STATE}/run/server.pid)/status /proc/$(pidof valkey-server)/status | grep -c '^Seccomp:.*2$')`,
          printMemory([`$(cat /${STATE}/run/server.pid)`, '$(pidof valkey-server)']),
          `P=$(cat /${STATE}/run/server.pid); kill -9 $P`,
          waitUntil(IS_WELL),
          `[ "$P" != "$(cat /${STATE}/run/server.pid)" ]; echo another=$?`,
          'echo back=$(wget -qO- http://127.0.0.1:15510/api/v1/health)',
          'Q=$(pidof valkey-server); kill -9 $Q',
          waitUntil('N=$(pidof valkey-server) && [ "$N" != "$Q" ]'),
          '[ -n "$N" ] && [ "$N" != "$Q" ]; echo queue=$?',
          waitUntil(IS_WELL),
          'echo both=$(wget -qO- http://127.0.0.1:15510/api/v1/health)',
          'sh $S stop; echo stopped=$?; sh $S status; echo after=$?',
          'echo left=$(grep -l -e bin/[n]ode -e bin/[v]alkey /proc/[0-9]*/cmdline 2>/dev/null)',
        ].join('\n'),
        'INSTALL',
        { dozo_password: 'correct horse battery' },
      );
      const values = readValues(output);
      for (const name of ['installed', 'started', 'again', 'status', 'another', 'queue', 'stopped']) {
        assert.equal(values[name], '0', `${name}\n${output}`);
      }
      assert.equal(values['after'], '3');
      assert.equal(values['left'], '');
      assert.equal(values['filtered'], '2', 'server and queue had system calls that a NAS has not');
      t.diagnostic(`server and queue at rest: ${values['kib']} KiB`);
      assertMemory(values['kib']);
      assert.match(values['health'] ?? '', /"ok"/);
      assert.equal(values['back'], values['health']);
      assert.equal(values['both'], values['health']);
      assertMapped(values['mapped'], '/volume1/@appstore/Dozo/');
      assert.ok(!existsSync(root.path(`${STATE}/first-password`)), 'the answer of the wizard is gone');
      assert.doesNotMatch(readFileSync(root.path(`${STATE}/log/server.log`), 'utf8'), /password/);
    });

    it('has words for what it tells DSM, in the only forms that DSM shows', async () => {
      placeDsmPrograms(root);
      const [note, system] = ['/usr/syno/bin/synodsmnotify', '/usr/syno/bin/synonotify'];
      const application = '-c SYNO.SDS.Dozo.Application @administrators';
      const calls: [command: string, isShown: boolean][] = [
        [`${note} ${application} Dozo:notify:error Dozo:notify:text 'it failed'`, true],
        [`${note} ${application} 'It failed' Dozo:notify:text 'it failed'`, false],
        [`${note} ${application} Dozo:notify:other Dozo:notify:text 'it failed'`, false],
        [`${note} ${application} Dozo:app:description Dozo:notify:text 'it failed'`, false],
        [`${note} -c SYNO.SDS.Other @administrators Dozo:notify:error Dozo:notify:text 'it failed'`, false],
        [`${system} DozoError '{}'`, true],
        [`${system} DozoOther '{}'`, false],
      ];
      for (const [command, isShown] of calls) {
        const output = await packageCenter(`${command}; echo shown=$?`, '');
        assert.equal(readValues(output)['shown'], isShown ? '0' : '1', command);
      }
    });

    it("opens its window on the desktop, behind DSM's web server and signed in by its session", async () => {
      placeDsmPrograms(root);
      const running = root.start(
        [
          'rm -f /tmp/up',
          `sh ${SCRIPTS}/start-stop-status start && : > /tmp/up`,
          WAIT_UNTIL_LET_GO,
          `sh ${SCRIPTS}/start-stop-status stop; echo stopped=$?`,
        ].join('\n'),
        { user: USER, env: packageEnvironment('START') },
      );
      const desktop = new Desktop(running.pid);
      try {
        await root.until('tmp/up');
        const relays = [true, false].map((isDeaf) => QUICKCONNECT_RELAY({ isDeaf })).join('');
        const servers = `${DSM_WEB_SERVER(root.path('volume1/@appstore/Dozo'))}${relays}`;
        await desktop.serve(servers, { 'index.html': DSM_DESKTOP });
        const url = 'https://127.0.0.1:5001/';
        const open = async (id: string): Promise<string> => {
          let heading = '';
          const complaints = await desktop.browse({ url, values: { id } }, async (page) => {
            await page.goto(url);
            heading = await headingOf(page.frameLocator('iframe'));
            await desktop.picture(page, `dsm-${id}`);
          });
          assert.deepEqual(complaints, [], id);
          return heading;
        };
        const signedIn = await open('admin-session-1');
        assert.doesNotMatch(signedIn, /anmelden|Anmeldung|Sign in/i, signedIn);
        for (const id of ['plain-session-1', 'no-session-at-all']) {
          assert.notEqual(await open(id), signedIn, id);
        }
        await assertRelayed(desktop, { port: 8443, isLive: true });
        await assertRelayed(desktop, { port: 8444, isLive: false });
      } finally {
        await desktop.close();
        running.letGo();
        const output = await running.ended;
        assert.equal(readValues(output)['stopped'], '0', output);
      }
    });

    it('keeps its data through an upgrade, and moves away from a taken port', async () => {
      const key = readFileSync(root.path(`${STATE}/data/secret.key`));
      const old = await packageCenter(
        ['preupgrade', 'preuninst', 'postuninst'].map((name) => `sh ${SCRIPTS}/${name}; echo ${name}=$?`).join('\n'),
        'UPGRADE',
        { dozo_delete: 'true', dozo_sure_delete: 'true' },
      );
      assert.deepEqual(readValues(old), { preupgrade: '0', preuninst: '0', postuninst: '0' });
      placeFiles();
      const output = await packageCenter(
        [
          `sh ${SCRIPTS}/preinst; sh ${SCRIPTS}/postinst; sh ${SCRIPTS}/postupgrade`,
          'nc -l -p 5510 >/dev/null &',
          // 5510, listening.
          'until grep -q ":1586 .* 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null; do sleep 1; done',
          `sh ${SCRIPTS}/start-stop-status start; echo started=$?`,
          `echo port=$(cat /${STATE}/port)`,
          `sh ${SCRIPTS}/start-stop-status stop; echo stopped=$?`,
        ].join('\n'),
        'UPGRADE',
      );
      const values = readValues(output);
      assert.deepEqual([values['started'], values['port'], values['stopped']], ['0', '5511', '0'], output);
      assert.match(readFileSync(root.path('tmp/dialog'), 'utf8'), /port 5510 is used .* answers on 5511/);
      assert.deepEqual(readFileSync(root.path(`${STATE}/data/secret.key`)), key);
    });

    it('starts after a power cut, and says what is wrong when its data belongs to somebody else', async () => {
      writeFileSync(root.path(`${STATE}/run/supervisor.pid`), '1\n');
      writeFileSync(root.path(`${STATE}/run/server.pid`), '999999\n');
      const output = await packageCenter(
        `sh ${SCRIPTS}/start-stop-status status; echo status=$?; sh ${SCRIPTS}/start-stop-status start; echo started=$?`,
        '',
      );
      assert.deepEqual(readValues(output), { status: '1', started: '0' }, output);
      execFileSync('chown', ['-hR', '5:5', root.path(STATE)]);
      for (const [language, words] of [
        ['enu', /cannot write to .*earlier installation/],
        ['def', /cannot write to .*earlier installation/],
        ['ger', /kann nicht in .* schreiben.*früheren Installation/],
        ['jpn', /に書き込めません。以前のインストール/],
      ] as const) {
        rmSync(root.path('tmp/dialog'), { force: true });
        const script = `sh ${SCRIPTS}/start-stop-status start; echo started=$?`;
        const refused = await packageCenter(script, 'START', { SYNOPKG_DSM_LANGUAGE: language });
        assert.equal(readValues(refused)['started'], '1');
        assert.match(readFileSync(root.path('tmp/dialog'), 'utf8'), words);
      }
      execFileSync('chown', ['-hR', `${USER}:${USER}`, root.path(STATE)]);
    });

    it('leaves settings of a newer version alone, as after a downgrade, and says so', async () => {
      const path = root.path(`${STATE}/data/catalogue.sqlite`);
      // What was cut off a moment ago lies in its journal still.
      await packageCenter(`sh ${SCRIPTS}/start-stop-status start; sh ${SCRIPTS}/start-stop-status stop`, 'START');
      assert.ok(!existsSync(`${path}-wal`));
      const before = readFileSync(path);
      const newer = Buffer.from(before);
      // user_version, by the description of SQLite's file format.
      newer.writeUInt32BE(newer.readUInt32BE(60) + 1, 60);
      writeFileSync(path, newer);
      const script = `sh ${SCRIPTS}/start-stop-status start; echo started=$?`;
      rmSync(root.path('tmp/dialog'), { force: true });
      const refused = await packageCenter(script, 'START', { SYNOPKG_DSM_LANGUAGE: 'ger' });
      assert.equal(readValues(refused)['started'], '1', refused);
      assert.match(readFileSync(root.path('tmp/dialog'), 'utf8'), /stammen von einer neueren Version/);
      assert.deepEqual(readFileSync(path), newer);
      writeFileSync(path, before);
      const output = await packageCenter(`${script}; sh ${SCRIPTS}/start-stop-status stop`, 'START');
      assert.equal(readValues(output)['started'], '0', output);
    });

    it('deletes its settings only when asked for twice, and backups never', async () => {
      root.write('volume1/Dozo/main/pack', 'backup');
      const remove = (answers: Record<string, string>): Promise<string> =>
        packageCenter(`sh ${SCRIPTS}/preuninst; sh ${SCRIPTS}/postuninst; echo removed=$?`, 'UNINSTALL', answers);
      for (const answers of [{}, { dozo_delete: 'true' }, { dozo_sure_delete: 'true' }]) {
        assert.equal(readValues(await remove(answers as Record<string, string>))['removed'], '0');
        assert.ok(existsSync(root.path(`${STATE}/data/catalogue.sqlite`)), JSON.stringify(answers));
      }
      await remove({ dozo_delete: 'true', dozo_sure_delete: 'true' });
      assert.deepEqual(globSync('volume1/@appdata/Dozo/*', { cwd: root.folder }), []);
      assert.equal(readFileSync(join(root.folder, 'volume1/Dozo/main/pack'), 'utf8'), 'backup');
    });
  });
}
