import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { makeLightSpk } from './light-spk.ts';
import { LoopVolume } from './loop-volume.ts';
import { ON_TESTED, otherThan, TESTED } from './machine.ts';
import { NasRoot, readValues, type NasSession } from './nas-root.ts';
import { PACKAGE_USER, PackageCenter } from './package-center.ts';

const OLD = makeLightSpk('1.0.0');
const NEW = makeLightSpk('1.1.0');
/** The tools with which the scripts change anything. */
const TOOLS = ['mkdir', 'rm', 'dd', 'tail', 'wc', 'cp', 'setsid', 'dirname', 'cat', 'tr'];
/** All of them with DOZO_EVERY_STEP=1. */
const STRIDE = process.env['DOZO_EVERY_STEP'] === undefined ? 9 : 1;
/** Shell: how many watchers of the server there are. */
const WATCHERS = 'echo watchers=$(grep -l "bin/[s]ervice.supervise" /proc/[0-9]*/cmdline 2>/dev/null | wc -l)';

/** The real scripts around a program that is none. */
describe(`the package for DSM${ON_TESTED}, when things go wrong`, { timeout: 900_000 }, () => {
  let root: NasRoot;
  let session: NasSession;
  before(() => {
    root = new NasRoot('busybox', { isNamedOnly: true });
    root.makeFolder('volume1');
    session = root.open(PACKAGE_USER);
  });
  after(async () => {
    await session.cut();
    root.remove();
  });

  function forget(): void {
    for (const name of ['volume1', 'volume2', 'var/packages'])
      rmSync(root.path(name), { recursive: true, force: true });
    mkdirSync(root.path('volume1'));
  }

  const secret = (center: PackageCenter): string => readFileSync(root.path(`${center.state}/data/secret`), 'utf8');

  it('can be killed in the middle of an upgrade, and a repair makes it whole', async () => {
    const chosen = TOOLS.map(
      (tool) => `#!/bin/busybox sh
echo >> /tmp/steps; n=$(/bin/busybox wc -l < /tmp/steps)
[ "$n" != "$(/bin/busybox cat /tmp/kill-at)" ] || { kill -9 -1; exit 1; }
exec /bin/busybox ${tool} "$@"
`,
    );
    const arm = (at: string): void => {
      for (const [name, text] of [
        ['steps', ''],
        ['kill-at', at],
      ] as const) {
        writeFileSync(root.path(`tmp/${name}`), text);
        chmodSync(root.path(`tmp/${name}`), 0o666);
      }
    };
    arm('none');
    for (const [index, tool] of TOOLS.entries()) root.write(`bin/${tool}`, chosen[index] ?? '', 0o755);
    const center = new PackageCenter(root, session);
    assert.equal((await center.install(OLD, { answers: { dozo_password: 'correct horse' } })).failedAt, null);
    const before = secret(center);
    arm('none');
    assert.equal((await center.upgrade(NEW)).failedAt, null);
    const steps = readFileSync(root.path('tmp/steps'), 'utf8').length;
    assert.ok(steps > 20, `${steps} steps`);
    let cuts = 0;
    for (let at = 1; at < steps; at += STRIDE) {
      arm(String(at));
      const cut = await center.upgrade(NEW);
      if (cut.failedAt !== null) cuts += 1;
      arm('none');
      const repaired = await center.install(NEW);
      assert.equal(repaired.failedAt, null, `killed at ${at}: ${repaired.dialog}\n${repaired.output}`);
      assert.equal(await center.status(), 0, `killed at ${at}`);
      assert.equal(secret(center), before, `killed at ${at}`);
      assert.equal(readValues(await session.run(WATCHERS))['watchers'], '1', `killed at ${at}`);
    }
    assert.ok(cuts > 1, 'nothing was cut');
    assert.equal(readFileSync(root.path(`${center.state}/data/account`), 'utf8'), 'correct horse\n');
    assert.ok(!existsSync(root.path(`${center.state}/first-password`)));
    assert.equal((await center.stop()).failedAt, null);
    assert.equal(await center.status(), 3);
    for (const tool of TOOLS) {
      rmSync(root.path(`bin/${tool}`));
      symlinkSync('/bin/busybox', root.path(`bin/${tool}`));
    }
    forget();
  });

  it('leaves a stranger alone whose number stands in a pid file that was left', async () => {
    const check = async (spk: typeof OLD): Promise<void> => {
      const center = new PackageCenter(root, session);
      assert.equal((await center.install(spk)).failedAt, null);
      await center.stop();
      await session.run(
        [
          'sleep 100000 < /dev/null > /dev/null 2>&1 & echo $! > /tmp/stranger',
          `for name in supervisor server; do cp /tmp/stranger /${center.state}/run/$name.pid; done`,
        ].join('\n'),
      );
      await center.stop();
      const left = readValues(await session.run('kill $(cat /tmp/stranger); echo lived=$?'));
      forget();
      assert.equal(left['lived'], '0', 'the stranger was ended');
    };
    await check(OLD);
    const careless = makeLightSpk('1.0.0', { service: (text) => text.replace('grep -qF -- "$2"', 'grep -q .') });
    await assert.rejects(check(careless), assert.AssertionError, 'the harness does not see it');
  });

  it('would notice settings that are lost in an upgrade', async () => {
    const check = async (spk: typeof OLD): Promise<void> => {
      const center = new PackageCenter(root, session);
      assert.equal((await center.install(spk)).failedAt, null);
      const before = secret(center);
      const upgraded = await center.upgrade(NEW, { dozo_delete: 'true', dozo_sure_delete: 'true' });
      const after = upgraded.failedAt ?? secret(center);
      await center.stop();
      forget();
      assert.equal(after, before, 'the settings are others');
    };
    await check(OLD);
    const careless = makeLightSpk('1.0.0', { postuninst: (text) => text.replace('= UNINSTALL ] || exit 0', '= X ]') });
    await assert.rejects(check(careless), assert.AssertionError, 'the harness does not see it');
  });

  it('would notice a start that fails without a word', async () => {
    const check = async (spk: typeof OLD): Promise<void> => {
      const center = new PackageCenter(root, session);
      assert.equal((await center.install(spk, { isStarted: false })).failedAt, null);
      root.write(`${center.state}/data/refuses`, 'BROKEN: It is broken.\n');
      execFileSync('chown', ['-R', `${PACKAGE_USER}:${PACKAGE_USER}`, root.path(center.state)]);
      const { failedAt, dialog } = await center.start();
      forget();
      assert.deepEqual([failedAt, /does not start[^]*It is broken/.test(dialog)], ['start', true], dialog);
    };
    await check(OLD);
    const silent = makeLightSpk('1.0.0', {
      'start-stop-status': (text) => text.replace('echo "$words" >> "$SYNOPKG_TEMP_LOGFILE"', ':'),
    });
    await assert.rejects(check(silent), assert.AssertionError, 'the harness does not see it');
  });

  it('would notice a package that does not come up because a shared folder is not there yet', async () => {
    const check = async (spk: typeof OLD): Promise<void> => {
      const center = new PackageCenter(root, session);
      assert.equal((await center.install(spk)).failedAt, null);
      await center.stop();
      renameSync(root.path('volume1/Dozo'), root.path('volume1/away'));
      const { failedAt } = await center.boot();
      const status = await center.status();
      renameSync(root.path('volume1/away'), root.path('volume1/Dozo'));
      await center.stop();
      forget();
      assert.deepEqual([failedAt, status], [null, 0]);
    };
    await check(OLD);
    const impatient = makeLightSpk('1.0.0', {
      'start-stop-status': (text) =>
        text.replace('prestart | prestop) exit 0', 'prestart) [ -d "$pkg/shares/Dozo/" ]; exit ;; prestop) exit 0'),
    });
    await assert.rejects(check(impatient), assert.AssertionError, 'the harness does not see it');
  });

  it('refuses an old DSM in the language of the user, and leaves nothing', async () => {
    for (const [version, language, words] of [
      [['7', '1'], 'enu', /needs DSM 7\.2 or later; this is 7\.1\. Nothing was changed/],
      [['7', '0'], 'ger', /braucht DSM 7\.2 oder neuer; dies ist 7\.0\. Nichts wurde geändert/],
      [['6', '9'], 'jpn', /DSM 7\.2 以降が必要です。このシステムは 6\.9 です/],
    ] as const) {
      const old = new PackageCenter(root, session, { language, version: [...version] });
      const refused = await old.install(NEW);
      assert.equal(refused.failedAt, 'preinst');
      assert.match(refused.dialog, words);
      assert.ok(!existsSync(root.path('var/packages/Dozo')) && !existsSync(root.path('volume1/@appdata/Dozo')));
    }
    for (const version of [
      ['7', '2'],
      ['7', '10'],
      ['8', '0'],
      ['', ''],
    ] as const) {
      const current = new PackageCenter(root, session, { version: [...version] });
      assert.equal((await current.install(NEW, { isStarted: false })).failedAt, null, version.join('.'));
      forget();
    }
  });

  it('refuses a processor that it has no program for in the language of the user, and leaves nothing', async () => {
    root.beProcessor('armv7l');
    for (const [language, words] of [
      ['enu', /runs on 64-bit Intel, AMD and Arm processors only/],
      ['ger', /läuft nur auf 64-Bit-Prozessoren von Intel, AMD und Arm/],
      ['jpn', /64 ビットの Intel、AMD、Arm プロセッサでのみ動作します/],
    ] as const) {
      const refused = await new PackageCenter(root, session, { language }).install(NEW);
      assert.equal(refused.failedAt, 'preinst');
      assert.match(refused.dialog, words);
      assert.ok(!existsSync(root.path('var/packages/Dozo')) && !existsSync(root.path('volume1/@appdata/Dozo')));
    }
    for (const machine of [otherThan(TESTED), TESTED]) {
      root.beProcessor(machine);
      const center = new PackageCenter(root, session);
      assert.equal((await center.install(NEW)).failedAt, null, machine);
      assert.equal(await center.status(), 0, machine);
      await center.stop();
      forget();
    }
  });

  it('says in the language of the user that it took another port, or that none is free', async () => {
    const center = new PackageCenter(root, session);
    assert.equal((await center.install(OLD)).failedAt, null);
    for (const [language, moved, none] of [
      [
        'enu',
        /port 5510 is used by another program .*Dozo answers on 5511 instead/,
        /no port from 5510 to 5515 is free/,
      ],
      [
        'ger',
        /Port 5510 gehört einem anderen Programm .*antwortet stattdessen auf 5511/,
        /kein Port von 5510 bis 5515/,
      ],
      [
        'jpn',
        /ポート 5510 は別のプログラムが使用.*代わりに 5511 で応答/,
        /5510 から 5515 までのポートに空きがありません/,
      ],
    ] as const) {
      const asked = new PackageCenter(root, session, { language });
      for (const [name, words, failedAt] of [
        ['port-taken', moved, null],
        ['ports-taken', none, 'start'],
      ] as const) {
        await asked.stop();
        rmSync(root.path(`${center.state}/port`), { force: true });
        root.write(`${center.state}/data/${name}`, '');
        const result = await asked.start();
        rmSync(root.path(`${center.state}/data/${name}`));
        assert.equal(result.failedAt, failedAt, result.output);
        assert.match(result.dialog, words);
      }
    }
    assert.equal((await center.start()).failedAt, null);
    await center.stop();
    forget();
  });

  it('keeps its log small while the server runs on', async () => {
    const center = new PackageCenter(root, session, { environment: { DOZO_LOG_SECONDS: '1' } });
    assert.equal((await center.install(OLD)).failedAt, null);
    const log = `/${center.state}/log/server.log`;
    await session.run(`dd if=/dev/zero bs=1048576 count=11 >> ${log} 2>/dev/null`);
    await root.until(`${log.slice(1)}.1`);
    await session.run(`until [ "$(wc -c < ${log})" -lt 1048576 ]; do sleep 1; done`);
    assert.ok(statSync(root.path(`${log}.1`)).size > 10 * 2 ** 20);
    assert.equal(await center.status(), 0);
    await center.stop();
    const left = 'grep -l -e "bin/[s]ervice" -e "^sleep" /proc/[0-9]*/cmdline 2>/dev/null';
    assert.equal(await session.run(left), '', 'a process is left');
    forget();
  });

  it('takes everything along to another volume', async () => {
    const center = new PackageCenter(root, session);
    await center.install(OLD);
    const before = secret(center);
    assert.equal((await center.move('volume2')).failedAt, null);
    assert.equal(center.state, 'volume2/@appdata/Dozo/dozo');
    assert.equal(secret(center), before);
    assert.equal(await center.status(), 0);
    await center.stop();
    assert.ok(!existsSync(root.path('volume1/@appdata/Dozo')));
    forget();
  });

  it('refuses settings of a newer version in the language of the user, and takes nothing from them', async () => {
    const center = new PackageCenter(root, session);
    await center.install(NEW);
    const before = secret(center);
    await center.uninstall();
    assert.equal((await center.install(OLD, { isStarted: false })).failedAt, null);
    // What the real server says of a catalogue whose form it does not know.
    root.write(`${center.state}/data/refuses`, 'CATALOGUE_NEWER: The catalogue has version 9, this Dozo knows 8.\n');
    for (const [language, words] of [
      ['enu', /those of a newer version\. Install that one again/],
      ['ger', /von einer neueren Version\. Installieren Sie diese wieder/],
      ['jpn', /新しいバージョンのものです。/],
    ] as const) {
      const result = await new PackageCenter(root, session, { language }).start();
      assert.equal(result.failedAt, 'start');
      assert.match(result.dialog, words);
    }
    rmSync(root.path(`${center.state}/data/refuses`));
    assert.equal((await center.install(NEW)).failedAt, null);
    assert.equal(secret(center), before);
    await center.stop();
    forget();
  });
});

describe(`the package for DSM${ON_TESTED}, whose user has another number after a removal`, { timeout: 900_000 }, () => {
  it('says so in the language of the user, and takes its settings up once it may', async () => {
    const root = new NasRoot('dash', { isNamedOnly: true });
    root.makeFolder('volume1');
    const first = root.open(PACKAGE_USER);
    const before = new PackageCenter(root, first);
    assert.equal((await before.install(OLD)).failedAt, null);
    const path = root.path(`${before.state}/data/secret`);
    const secret = readFileSync(path, 'utf8');
    assert.equal((await before.uninstall()).failedAt, null);
    await first.cut();

    const user = PACKAGE_USER + 1;
    const second = root.open(user);
    try {
      for (const [language, words] of [
        ['enu', /cannot write to .*earlier installation: give this package's user the right to it/],
        ['ger', /kann nicht in .* schreiben.*Geben Sie dem Benutzer dieses Pakets das Recht dazu/],
        ['jpn', /に書き込めません。.*このパッケージのユーザーに権限を付与するか/],
      ] as const) {
        const refused = await new PackageCenter(root, second, { user, language }).install(OLD);
        assert.equal(refused.failedAt, 'start', refused.output);
        assert.match(refused.dialog, words);
      }
      execFileSync('chown', ['-hR', `${user}:${user}`, root.path('volume1/@appdata/Dozo')]);
      const again = new PackageCenter(root, second, { user });
      assert.equal((await again.start()).failedAt, null);
      assert.equal(await again.status(), 0);
      assert.equal(readFileSync(path, 'utf8'), secret);
      await again.stop();
    } finally {
      await second.cut();
      root.remove();
    }
  });
});

describe(`the package for DSM${ON_TESTED}, on a volume that is full`, { timeout: 900_000 }, () => {
  let root: NasRoot;
  let session: NasSession;
  let volume: LoopVolume;
  before(() => {
    root = new NasRoot('dash', { isNamedOnly: true });
    volume = new LoopVolume('ext4', root.path('volume1'), { mib: 32 });
    session = root.open(PACKAGE_USER);
  });
  after(async () => {
    await session.cut();
    volume.close();
    root.remove();
  });

  it('says so at installation and at start, and works once there is room', async () => {
    const center = new PackageCenter(root, session);
    assert.equal((await center.install(OLD)).failedAt, null);
    const before = readFileSync(root.path(`${center.state}/data/secret`), 'utf8');
    await center.stop();
    const fill = async (): Promise<void> => {
      // The last blocks go in small pieces.
      for (const bytes of [2 ** 20, 4096]) {
        await session.run(`dd if=/dev/zero bs=${bytes} >> /${center.state}/filler 2>/dev/null`);
      }
    };
    await fill();
    for (const [language, words] of [
      ['enu', /the volume of .* is full, or its quota/],
      ['ger', /das Volume von .* ist voll/],
      ['jpn', /ボリュームに空きがないか/],
    ] as const) {
      const result = await new PackageCenter(root, session, { language }).start();
      assert.equal(result.failedAt, 'start', result.output);
      assert.match(result.dialog, words);
    }
    const refused = await center.install(NEW, { answers: { dozo_password: 'correct horse' } });
    assert.ok(['postinst', 'start'].includes(refused.failedAt ?? ''), refused.output);
    assert.match(refused.dialog, /is full/);
    rmSync(root.path(`${center.state}/filler`));
    const repaired = await center.install(NEW, { answers: { dozo_password: 'correct horse' } });
    assert.equal(repaired.failedAt, null, `${repaired.dialog}\n${repaired.output}`);
    assert.equal(readFileSync(root.path(`${center.state}/data/secret`), 'utf8'), before);
    await center.stop();
  });

  /** Fills the volume up to so many KiB. */
  function fillUp(freeKib: number): void {
    const file = openSync(root.path('volume1/filler'), 'w');
    try {
      let bytes = 0;
      // The last blocks go in small pieces.
      for (const piece of [Buffer.alloc(2 ** 16), Buffer.alloc(4096)]) {
        try {
          for (;;) bytes += writeSync(file, piece);
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
        }
      }
      ftruncateSync(file, bytes - freeKib * 1024);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  it('has the old version at work or says why the new one is not, wherever in an upgrade the room ends', async () => {
    const ends = new Set<string | null>();
    for (const freeKib of [0, 24, 96, 1640, 2660, 6000]) {
      const center = new PackageCenter(root, session);
      const version = (): string => readFileSync(root.path('volume1/@appstore/Dozo/version'), 'utf8');
      assert.equal((await center.install(OLD)).failedAt, null);
      const before = readFileSync(root.path(`${center.state}/data/secret`), 'utf8');
      fillUp(freeKib);
      const upgraded = await center.upgrade(NEW);
      ends.add(upgraded.failedAt);
      const words = `${freeKib} KiB: ${upgraded.failedAt}\n${upgraded.dialog}\n${upgraded.output}`;
      if (upgraded.failedAt === 'extract') {
        assert.deepEqual([await center.status(), version()], [0, '1.0.0'], words);
      } else if (upgraded.failedAt !== null) {
        assert.match(upgraded.dialog, /the volume of .* is full, or its quota is used up\. Free some space/, words);
        assert.equal(await center.status(), 3, words);
      }
      assert.equal(readFileSync(root.path(`${center.state}/data/secret`), 'utf8'), before, words);
      rmSync(root.path('volume1/filler'));
      if (upgraded.failedAt === 'extract') assert.equal((await center.upgrade(NEW)).failedAt, null, words);
      else if (upgraded.failedAt !== null) assert.equal((await center.start()).failedAt, null, words);
      assert.deepEqual([await center.status(), version()], [0, '1.1.0'], words);
      assert.equal(readFileSync(root.path(`${center.state}/data/secret`), 'utf8'), before, words);
      await center.uninstall({ dozo_delete: 'true', dozo_sure_delete: 'true' });
    }
    assert.deepEqual(ends, new Set(['extract', 'start', null]));
  });
});
