import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { SUM_MEMORY } from '../../scripts/package/measure-memory.ts';
import { readSpk, type Spk } from './archives.ts';
import { BackupScene } from './backup-scene.ts';
import { buildPackages, type BuiltPackages } from './built-packages.ts';
import { Desktop, DSM_DESKTOP, DSM_WEB_SERVER, inDsmWindow } from './desktop.ts';
import { placeDsmPrograms } from './dsm-programs.ts';
import { LoopVolume } from './loop-volume.ts';
import { compileNative, markWithoutAvx, NasRoot, PRINT_MAPPED, readValues, type NasSession } from './nas-root.ts';
import { PackageCenter } from './package-center.ts';
import { makeQnapRoot, ON_QNAP } from './qnap-root.ts';
import { inspectQpkg } from './qpkg-reader.ts';

/** The packages for 64-bit Arm: their programs are emulated, the rest of the NAS is as in the other suites. */
export function testArm(): void {
  let packages: BuiltPackages | null = null;
  const built = (): BuiltPackages => (packages ??= buildPackages('aarch64'));
  testArmBackup(built);
  testArmQnap(built);
}

/**
 * The package for x86-64 on the oldest of its processors: nothing of it may need AVX. Up to the first answers only:
 * what emulates them ends with a fault of its own once the server starts programs of the NAS.
 */
export function testWithoutAvx(built: () => BuiltPackages): void {
  describe('a processor without AVX, emulated', { timeout: 1_200_000 }, () => {
    let root: NasRoot;
    let session: NasSession | null = null;
    before(() => {
      root = new NasRoot('busybox', { hasMarked: true });
      root.makeFolder('volume1');
    });
    after(async () => {
      await session?.cut();
      root.remove();
    });

    it('ends what has no way around it', async () => {
      const program = readFileSync(compileNative('uses-avx', root.folder));
      root.write('plain', program, 0o755);
      root.write('marked', markWithoutAvx(program), 0o755);
      const output = await root.run('/plain; echo plain=$?; /marked; echo marked=$?');
      // SIGILL is 4.
      assert.deepEqual(readValues(output), { plain: '0', marked: String(128 + 4) }, output);
    });

    it('hashes, encrypts, compresses, keeps a database, serves TLS and answers', async () => {
      const spk = readSpk(built().spk);
      const programs = spk.payload.filter(({ name }) => ['bin/node', 'bin/valkey-server'].includes(name));
      assert.equal(programs.length, 2);
      for (const program of programs) program.data = markWithoutAvx(program.data);
      session = root.open(0);
      const center = new PackageCenter(root, session, { user: 0 });
      const installed = await center.install(spk);
      assert.equal(installed.failedAt, null, `${installed.dialog}\n${installed.output}`);
      root.write('proof.mjs', readFileSync('test/packages/processor-proof.mjs'));
      const node = '/var/packages/Dozo/target/bin/node';
      const output = await session.run(
        [
          `${node} /proof.mjs /var/packages/Dozo/target/server`,
          'echo health=$(wget -qO- http://127.0.0.1:15510/api/v1/health)',
          'echo window=$(wget -qO- http://127.0.0.1:15510/index.html | grep -c "<script")',
          `${node} /var/packages/Dozo/target/bin/probe.mjs health 5510; echo tls=$?`,
          'for part in server-main worker-main valkey-server; do grep -l "^/bin/qemu.*$part" /proc/[0-9]*/cmdline > /dev/null && echo $part; done',
        ].join('\n'),
      );
      const values = readValues(output);
      assert.deepEqual([values['proof'], values['window'], values['tls']], ['all', '1', '0'], output);
      assert.match(values['health'] ?? '', /"ok"/);
      assert.match(output, /^server-main\nworker-main\nvalkey-server$/m);
    });
  });
}

function testArmBackup(built: () => BuiltPackages): void {
  describe('the package for DSM on 64-bit Arm, emulated', { timeout: 1_200_000 }, () => {
    let spk: Spk;
    let scene: BackupScene;
    let root: NasRoot;
    let session: NasSession;
    let volume: LoopVolume;
    let desktop: Desktop;
    before(async () => {
      spk = readSpk(built().spk);
      scene = await BackupScene.open();
      root = new NasRoot('busybox', { isArm: true });
      volume = new LoopVolume('btrfs', root.path('volume1'));
      placeDsmPrograms(root);
      session = root.open(0);
      desktop = new Desktop(session.pid);
      await scene.link.plugInto(session.pid);
    });
    after(async () => {
      await desktop.close();
      await session.cut();
      await scene.close();
      volume.close();
      root.remove();
    });

    it('installs, backs up and restores a machine byte for byte, and goes', async () => {
      assert.equal(spk.info.get('arch'), 'armv8');
      const center = new PackageCenter(root, session, { user: 0 });
      const installed = await center.install(spk);
      assert.equal(installed.failedAt, null, `${installed.dialog}\n${installed.output}`);
      const health = 'until wget -qO- http://127.0.0.1:15510/api/v1/health; do sleep 1; done';
      assert.match(await session.run(health), /"ok"/);
      const mapped = readValues(await session.run(PRINT_MAPPED))['mapped'] ?? '';
      for (const path of mapped.trim().split(' ')) assert.match(path, /^\/volume1\/@appstore\/Dozo\/|qemu/);
      assert.match(mapped, /qemu/, 'nothing is emulated');
      await desktop.serve(DSM_WEB_SERVER(root.path('volume1/@appstore/Dozo')), { 'index.html': DSM_DESKTOP });
      await inDsmWindow(desktop, async (api) => {
        const { hostId, jobId, repositoryId } = await scene.configure(api, '/volume1/Dozo/main');
        const run = await api.ended(await api.post<{ id: string }>(`/jobs/${jobId}/run`, {}));
        await scene.assertRestores(api, { pointId: scene.pointOf(run), hostId, name: 'from Arm' });
        await scene.assertClean(api, repositoryId);
      });
      assert.equal(await center.status(), 0);
      assert.equal((await center.uninstall()).failedAt, null);
      const left = 'grep -l -e bin/[n]ode -e bin/[v]alkey /proc/[0-9]*/cmdline 2>/dev/null';
      assert.equal(await session.run(left), '', 'a process is left');
    });
  });
}

function testArmQnap(built: () => BuiltPackages): void {
  describe('the package for QTS on 64-bit Arm, emulated', { timeout: 1_200_000 }, () => {
    let root: NasRoot;
    before(() => {
      root = makeQnapRoot('busybox', { isArm: true });
      root.write('share/CACHEDEV1_DATA/package.qpkg', built().qpkg);
    });
    after(() => root.remove());

    it('has the form that App Center reads, installs, starts, answers, stops and goes', async (t) => {
      inspectQpkg(built().qpkg);
      const folder = '/share/CACHEDEV1_DATA/.qpkg/Dozo';
      const state = '/share/CACHEDEV1_DATA/.dozo_data';
      const output = await root.run(
        [
          ON_QNAP,
          'sh /share/CACHEDEV1_DATA/package.qpkg > /tmp/install.log 2>&1; echo exit=$?',
          'echo progress=$(cat /tmp/update_process); cat /tmp/install.log',
          'n=0; until wget -qO /tmp/health http://127.0.0.1:15510/dozo//api/v1/health || [ $n -gt 600 ]; do n=$((n + 1)); sleep 1; done',
          'echo health=$(cat /tmp/health)',
          `sh ${folder}/dozo.sh status; echo status=$?`,
          PRINT_MAPPED,
          `for part in emulated all; do echo $part=$(awk -v part=$part '${SUM_MEMORY}' /proc/$(cat ${state}/run/server.pid)/smaps /proc/$(pidof valkey-server)/smaps); done`,
          `sh ${folder}/.uninstall.sh; echo removed=$?`,
          'echo left=$(grep -l -e bin/[n]ode -e bin/[v]alkey /proc/[0-9]*/cmdline 2>/dev/null)',
        ].join('\n'),
      );
      const values = readValues(output);
      assert.deepEqual([values['exit'], values['progress'], values['status']], ['10', '3', '0'], output);
      assert.match(values['health'] ?? '', /"ok"/, output);
      t.diagnostic(`server and queue at rest: ${values['emulated']} KiB, with what emulates them ${values['all']} KiB`);
      const kib = Number(values['emulated']);
      assert.ok(kib > 30_000 && kib < 150 * 1024, `${kib} KiB at rest`);
      const mapped = (values['mapped'] ?? '').trim().split(' ');
      for (const path of mapped) assert.match(path, new RegExp(`^${folder}/|qemu`));
      assert.deepEqual([values['removed'], values['left']], ['0', ''], output);
    });
  });
}
