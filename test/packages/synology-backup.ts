import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { readSpk, type Spk } from './archives.ts';
import { BackupScene } from './backup-scene.ts';
import type { BuiltPackages } from './built-packages.ts';
import { Desktop, DSM_DESKTOP, DSM_WEB_SERVER, inDsmWindow } from './desktop.ts';
import { LoopVolume } from './loop-volume.ts';
import { ON_TESTED } from './machine.ts';
import { NasRoot, type NasSession } from './nas-root.ts';
import { PACKAGE_USER, PackageCenter, type ChainResult } from './package-center.ts';
import { placeDsmPrograms, readNotices, refuseSystemNotices } from './dsm-programs.ts';
import { assertSurvivesClock, SetClock } from './set-clock.ts';
import type { RunView, WindowApi } from './window-api.ts';

const RUNNING = 'grep -l -e bin/[n]ode -e bin/[v]alkey -e bin/[s]ervice /proc/[0-9]*/cmdline 2>/dev/null';

/** Work with an installed package for DSM through its window. */
export function testSynologyBackup(built: () => BuiltPackages): void {
  let spk: Spk;
  let scene: BackupScene;
  let root: NasRoot;
  let session: NasSession;
  let desktop: Desktop;
  let volumes: LoopVolume[] = [];

  async function open(
    fileSystem: 'btrfs' | 'ext4',
    language: string,
    prepare: (nas: NasRoot) => Record<string, string> = () => ({}),
  ): Promise<PackageCenter> {
    spk = readSpk(built().spk);
    scene = await BackupScene.open();
    root = new NasRoot('busybox', { isOldKernel: true });
    volumes = [new LoopVolume(fileSystem, root.path('volume1')), new LoopVolume('ext4', root.path('volume2'))];
    placeDsmPrograms(root);
    const environment = prepare(root);
    session = root.open(PACKAGE_USER);
    desktop = new Desktop(session.pid);
    await scene.link.plugInto(session.pid);
    return new PackageCenter(root, session, { language, environment });
  }

  async function close(): Promise<void> {
    await desktop.close();
    await session.cut();
    await scene.close();
    for (const volume of volumes) volume.close();
    root.remove();
  }

  /** Waits until DSM was told so, in words or by the keys of words. */
  async function told(api: WindowApi, words: RegExp): Promise<void> {
    await api.until(`a notice ${words}`, async () =>
      readNotices(root).some((line) => words.test(line)) ? true : null,
    );
  }

  function assertGood(result: ChainResult): void {
    assert.equal(result.failedAt, null, `${result.dialog}\n${result.output}`);
  }

  describe(`a backup by the package for DSM${ON_TESTED}, on Btrfs`, () => {
    let center: PackageCenter;
    before(async () => {
      center = await open('btrfs', 'ger');
      volumes[0]?.makeShare('Dozo', PACKAGE_USER);
      // Of an earlier build, where there is one.
      const earlier = process.env['DOZO_EARLIER_SPK'];
      const first = earlier === undefined ? spk : readSpk(readFileSync(earlier));
      assertGood(await center.install(first, { answers: { dozo_password: 'correct horse battery' } }));
      await desktop.serve(DSM_WEB_SERVER(root.path('volume1/@appstore/Dozo')), { 'index.html': DSM_DESKTOP });
    });
    after(close);

    it('goes on through an upgrade, through removal and installation, and restores byte for byte', async () => {
      await inDsmWindow(desktop, async (api) => {
        const { shares } = await api.get<{ shares: { path: string; fileSystem: string; hasReflink: boolean }[] }>(
          '/nas',
        );
        assert.deepEqual(
          shares.map(({ path, fileSystem, hasReflink }) => [path, fileSystem, hasReflink]),
          [['/volume1/Dozo', 'btrfs', true]],
        );
        await scene.assertSurvives(api, {
          repositoryPath: '/volume1/Dozo/main',
          logPath: root.path(`${center.state}/log/server.log`),
          upgrade: async () => assertGood(await center.upgrade(spk)),
          remove: async () => {
            assertGood(await center.uninstall());
            assert.equal(await session.run(RUNNING), '', 'a process is left');
            assert.ok(existsSync(root.path(`${center.state}/data/catalogue.sqlite`)));
          },
          install: async () => assertGood(await center.install(spk)),
        });
        await assertHeedsQuota(api);
      });
      assert.equal(await center.status(), 0);
      assert.doesNotMatch(readFileSync(root.path(`${center.state}/log/server.log`), 'utf8'), /correct horse/);
    });
  });

  /** The quota of a shared folder is told when it is chosen; a run that meets it says so, and the next one goes on. */
  async function assertHeedsQuota(api: WindowApi): Promise<void> {
    interface Folder {
      quotaBytes: number | null;
      quotaUsedBytes: number | null;
      freeBytes: number;
      advice: { level: string; code: string }[];
    }
    const path = '/volume1/Dozo/main';
    const choose = (): Promise<Folder> => api.post<Folder>('/nas/folder', { path });
    const [job] = await api.get<{ id: string }[]>('/jobs');
    const [repository] = await api.get<{ id: string }[]>('/repositories');
    assert.ok(job !== undefined && repository !== undefined);
    const backUp = async (): Promise<RunView> => api.ended(await api.post<{ id: string }>(`/jobs/${job.id}/run`, {}));
    assert.equal((await choose()).quotaBytes, null);
    const mebibyte = 2 ** 20;
    volumes[0]?.setQuota('Dozo', 512 * mebibyte);
    const limited = await choose();
    assert.equal(limited.quotaBytes, 512 * mebibyte);
    const used = limited.quotaUsedBytes ?? 0;
    assert.ok(used > mebibyte && limited.freeBytes <= 512 * mebibyte - used, JSON.stringify(limited));
    assert.ok(limited.advice.some(({ level, code }) => level === 'warning' && code === 'FOLDER_QUOTA'));
    const space = await api.get<{ freeBytes: number; totalBytes: number }>(`/repositories/${repository.id}/space`);
    assert.deepEqual(space, { freeBytes: limited.freeBytes, totalBytes: 512 * mebibyte });

    volumes[0]?.setQuota('Dozo', used);
    assert.ok((await choose()).advice.some(({ level, code }) => level === 'error' && code === 'FOLDER_FULL'));
    const full = await backUp();
    assert.equal(full.state, 'failed');
    assert.match(JSON.stringify(full), /STORAGE_FULL/);
    const heading =
      process.env['DOZO_EARLIER_SPK'] === undefined ? 'Sicherung „nightly“ fehlgeschlagen' : 'Backup “nightly” failed';
    await told(api, new RegExp(`^system DozoError \\{"%TEXT%":"${heading}: .*"SYNO\\.SDS\\.Dozo\\.Application"\\}$`));
    volumes[0]?.setQuota('Dozo', null);
    assert.equal((await choose()).quotaBytes, null);
    scene.pointOf(await backUp());
    await scene.assertClean(api, repository.id);
  }

  describe(`a backup by the package for DSM${ON_TESTED}, on ext4`, () => {
    let center: PackageCenter;
    let clock: SetClock;
    const password = 'correct horse battery';
    before(async () => {
      center = await open('ext4', 'jpn', (nas) => (clock = new SetClock(nas)).environment);
      // Made by the user before, on another volume than that of the package.
      root.makeFolder('volume2/Dozo');
      execFileSync('chown', [`${PACKAGE_USER}:${PACKAGE_USER}`, root.path('volume2/Dozo')]);
      assertGood(await center.install(spk, { answers: { dozo_password: password } }));
      await desktop.serve(DSM_WEB_SERVER(root.path('volume1/@appstore/Dozo')), { 'index.html': DSM_DESKTOP });
    });
    after(close);

    it('is advised on, restores byte for byte, and outlives what happens to its clock and its shared folder', async () => {
      await inDsmWindow(desktop, async (api) => {
        const { shares } = await api.get<{ shares: { fileSystem: string; advice: { code: string }[] }[] }>('/nas');
        assert.equal(shares[0]?.fileSystem, 'ext');
        const codes = shares[0].advice.map(({ code }) => code);
        assert.ok(codes.includes('FOLDER_NO_REFLINK') && codes.includes('FOLDER_NO_CHECKSUMS'), codes.join());
        const { hostId, jobId, repositoryId } = await scene.configure(api, '/volume2/Dozo/main');
        const backUp = async (): Promise<RunView> =>
          api.ended(await api.post<{ id: string }>(`/jobs/${jobId}/run`, {}));
        await scene.assertRestores(api, { pointId: scene.pointOf(await backUp()), hostId, name: 'from ext4' });

        const restart = async (): Promise<void> => {
          assertGood(await center.stop());
          assertGood(await center.start());
        };
        await assertSurvivesClock(api, clock, { scene, hostId, jobId, repositoryId, password, restart });

        refuseSystemNotices(root, true);
        // Encrypted, and locked when the NAS came up: where it appears is an empty folder.
        await center.stop();
        renameSync(root.path('volume2/Dozo'), root.path('volume2/locked'));
        mkdirSync(root.path('volume2/Dozo'));
        chownSync(root.path('volume2/Dozo'), PACKAGE_USER, PACKAGE_USER);
        assertGood(await center.boot());
        await api.answers();
        const locked = await backUp();
        assert.equal(locked.state, 'failed');
        assert.match(JSON.stringify(locked), /STORAGE_MISSING.*is not there/);
        await told(api, /^note Dozo:notify:error バックアップ「nightly」/);
        assert.deepEqual(readdirSync(root.path('volume2/Dozo')), [], 'something is written into the empty folder');
        rmdirSync(root.path('volume2/Dozo'));
        renameSync(root.path('volume2/locked'), root.path('volume2/Dozo'));
        scene.pointOf(await backUp());

        // Renamed by the user while the NAS was off.
        await center.stop();
        center.moveShare('volume2/Renamed');
        assertGood(await center.boot());
        await api.answers();
        const missing = await backUp();
        assert.equal(missing.state, 'failed');
        assert.match(JSON.stringify(missing), /volume2\/Dozo\/main/);
        const advice = await api.post<{ advice: { code: string }[] }>('/nas/folder', { path: '/volume2/Dozo/main' });
        assert.deepEqual(
          advice.advice.map(({ code }) => code),
          ['FOLDER_MISSING'],
        );
        assert.ok(!existsSync(root.path('volume2/Dozo')), 'nothing is written where the folder was');
        await api.patch(`/repositories/${repositoryId}`, { path: '/volume2/Renamed/main' });
        scene.pointOf(await backUp());

        // A volume that the NAS does not trust any more.
        await center.stop();
        volumes[1]?.setReadOnly(true);
        assertGood(await center.boot());
        await api.answers();
        const unwritable = await backUp();
        assert.equal(unwritable.state, 'failed');
        assert.match(JSON.stringify(unwritable), /read-only|cannot be written/i);
        volumes[1]?.setReadOnly(false);
        scene.pointOf(await backUp());

        // The rights of the package's user are gone, as after an installation that gave it another number.
        execFileSync('chown', ['-R', '5:5', root.path('volume2/Renamed')]);
        const refused = await backUp();
        assert.equal(refused.state, 'failed');
        assert.match(JSON.stringify(refused), /[Pp]ermission|may not|rights|cannot/);
        execFileSync('chown', ['-R', `${PACKAGE_USER}:${PACKAGE_USER}`, root.path('volume2/Renamed')]);

        assertGood(await center.move('volume2'));
        await api.answers();
        scene.pointOf(await backUp());
        await scene.assertClean(api, repositoryId);
      });
    });
  });
}
