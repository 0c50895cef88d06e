import assert from 'node:assert/strict';
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BackupScene } from './backup-scene.ts';
import type { BuiltPackages } from './built-packages.ts';
import { Desktop, headingOf, QTS_DESKTOP, QTS_WEB_SERVER } from './desktop.ts';
import { LoopVolume } from './loop-volume.ts';
import { ON_TESTED } from './machine.ts';
import { readValues, type NasRoot, type NasSession } from './nas-root.ts';
import { makeQnapRoot, ON_QNAP } from './qnap-root.ts';
import { type RunView, WindowApi } from './window-api.ts';
import { ZfsPool } from './zfs-pool.ts';

/** QTS: everything on one volume. QuTS hero: a dataset for the packages, and one for each shared folder. */
const PROFILES = {
  QTS: { volume: 'share/CACHEDEV1_DATA', shared: 'share/CACHEDEV1_DATA/VMs' },
  'QuTS hero': { volume: 'share/ZFS530_DATA', shared: 'share/ZFS21_DATA/VMs' },
} as const;
/** Shell: QuFirewall as a NAS has it that is closed to all but its own programs; with the kernel's own filter. */
const CLOSE_PORTS = [
  '/usr/sbin/iptables -N QUFIREWALL && /usr/sbin/iptables -A INPUT -j QUFIREWALL',
  '/usr/sbin/iptables -A QUFIREWALL -i lo -j ACCEPT && /usr/sbin/iptables -A QUFIREWALL -j DROP',
].join(' && ');
const RUNNING = 'grep -l -e bin/[n]ode -e bin/[v]alkey -e bin/[s]ervice /proc/[0-9]*/cmdline 2>/dev/null';

/** Work with an installed package for QTS through its window, on a volume as the system makes them: ext4, or ZFS. */
export function testQnapBackup(built: () => BuiltPackages, system: keyof typeof PROFILES = 'QTS'): void {
  const { volume: VOLUME, shared } = PROFILES[system];
  describe(`a backup by the package for ${system}${ON_TESTED}`, () => {
    let scene: BackupScene;
    let root: NasRoot;
    let session: NasSession;
    let disks: { close(): void | Promise<void> };
    let desktop: Desktop;
    /** Earlier builds told the NAS everything in English. */
    let isGerman = true;
    before(async () => {
      scene = await BackupScene.open();
      root = makeQnapRoot('busybox');
      for (const file of ['/usr/sbin/iptables', ...globSync('/usr/lib/*/xtables/libxt_standard.so')]) {
        root.bring(file, file);
      }
      disks =
        system === 'QTS'
          ? new LoopVolume('ext4', root.path(VOLUME))
          : await ZfsPool.open([root.path(VOLUME), root.path(dirname(shared))]);
      root.makeFolder(`${VOLUME}/Public`);
      root.makeFolder(shared);
      root.write('etc/config/smb.conf', `[Public]\npath = /${VOLUME}/Public\n[VMs]\npath = /${shared}\n`);
      const settings = readFileSync(root.path('etc/config/uLinux.conf'), 'utf8');
      root.write('etc/config/uLinux.conf', settings.replace('[System]\n', '[System]\nLanguage = GER\n'));
      // Of an earlier build, where there is one.
      const earlier = process.env['DOZO_EARLIER_QPKG'];
      isGerman = earlier === undefined;
      root.write(`${VOLUME}/package.qpkg`, earlier === undefined ? built().qpkg : readFileSync(earlier));
      session = root.open(0);
      await session.run(ON_QNAP);
      desktop = new Desktop(session.pid);
      await scene.link.plugInto(session.pid);
      await install();
      root.write(`${VOLUME}/package.qpkg`, built().qpkg);
      await desktop.serve(QTS_WEB_SERVER, { 'index.html': QTS_DESKTOP });
    });
    after(async () => {
      await desktop.close();
      await session.cut();
      await scene.close();
      await disks.close();
      root.remove();
    });

    /** Of what is there already: an upgrade. */
    async function install(): Promise<void> {
      // The lab host is behind a cable that leads one way.
      const script = `sh /${VOLUME}/package.qpkg; echo progress=$(cat /tmp/update_process)`;
      const output = await session.run(script, { DOZO_ISCSI: 'off' });
      assert.equal(readValues(output)['progress'], '3', output);
    }

    it('goes on through an upgrade, through removal and installation, and restores byte for byte', async () => {
      const url = 'http://127.0.0.1:8080/';
      await desktop.browse({ url, values: { NAS_SID: 'admin1', NAS_USER: 'alice' } }, async (page) => {
        await page.goto(url);
        await headingOf(page.frameLocator('iframe'));
        const frame = await (await page.locator('iframe').elementHandle())?.contentFrame();
        assert.ok(frame);
        const api = new WindowApi(frame);
        const { shares } = await api.get<{ shares: { name: string; advice: { code: string }[] }[] }>('/nas');
        assert.deepEqual(
          shares.find(({ name }) => name === 'VMs')?.advice.map(({ code }) => code),
          ['FOLDER_LOW_SPACE', 'FOLDER_NO_REFLINK', ...(system === 'QTS' ? ['FOLDER_NO_CHECKSUMS'] : [])],
        );
        const advice = async (): Promise<string[]> =>
          (await api.get<{ advice: { code: string }[] }>('/nas')).advice.map(({ code }) => code);
        assert.ok(!(await advice()).includes('NAS_FIREWALL_ON'));
        assert.equal(await session.run(CLOSE_PORTS), '');
        assert.ok((await advice()).includes('NAS_FIREWALL_ON'));
        await scene.assertSurvives(api, {
          repositoryPath: `/${shared}/main`,
          logPath: root.path(`${VOLUME}/.dozo_data/log/server.log`),
          upgrade: install,
          remove: async () => {
            const output = await session.run(
              `sh /${VOLUME}/.qpkg/Dozo/.uninstall.sh; echo removed=$?; sh /sbin/rmcfg Dozo -f /etc/config/qpkg.conf`,
            );
            assert.equal(readValues(output)['removed'], '0', output);
            assert.equal(await session.run(RUNNING), '', 'a process is left');
            assert.ok(existsSync(root.path(`${VOLUME}/.dozo_data/data/catalogue.sqlite`)));
          },
          install,
        });
        await assertMissesShare(api);
      });
    });

    /**
     * The shared folder is not there when the NAS comes up: nothing is written in its place, and the event log tells.
     */
    async function assertMissesShare(api: WindowApi): Promise<void> {
      const [job] = await api.get<{ id: string }[]>('/jobs');
      assert.ok(job);
      const folder = root.path(shared);
      const away = `${folder}-away`;
      const restart = async (): Promise<void> => {
        const output = await session.run('sh /etc/init.d/dozo.sh restart; echo started=$?', { DOZO_ISCSI: 'off' });
        assert.equal(readValues(output)['started'], '0', output);
        await api.answers();
      };
      const backUp = async (): Promise<RunView> => api.ended(await api.post<{ id: string }>(`/jobs/${job.id}/run`, {}));
      const stopped = await session.run('sh /etc/init.d/dozo.sh stop; echo stopped=$?');
      assert.equal(readValues(stopped)['stopped'], '0', stopped);
      renameSync(folder, away);
      await restart();
      const missing = await backUp();
      assert.equal(missing.state, 'failed');
      assert.match(JSON.stringify(missing), /STORAGE_MISSING/);
      assert.ok(!existsSync(folder), 'something is written where the shared folder was');
      const words = isGerman ? /\[Dozo\] Sicherung „nightly“ fehlgeschlagen/ : /\[Dozo\] Backup “nightly” failed/;
      await api.until('an event in the language of the NAS', async () =>
        words.test(readFileSync(root.path('etc/config/events'), 'utf8')) ? true : null,
      );
      // Where a volume appears that is not mounted, or locked, is an empty folder in the memory of the NAS.
      mkdirSync(folder);
      assert.equal((await backUp()).state, 'failed');
      assert.deepEqual(readdirSync(folder), [], 'something is written into memory');
      rmdirSync(folder);
      renameSync(away, folder);
      scene.pointOf(await backUp());
    }
  });
}
