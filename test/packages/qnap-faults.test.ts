import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { AppCenter } from './app-center.ts';
import { writeLightQpkg, type LightOptions } from './light-packages.ts';
import { ON_TESTED, otherThan, TESTED } from './machine.ts';
import { readValues, type NasRoot } from './nas-root.ts';
import { makeQnapRoot, ON_QNAP } from './qnap-root.ts';

const VOLUME = '/share/CACHEDEV1_DATA';
const TARGET = `${VOLUME}/.qpkg/Dozo`;
const STATE = `${VOLUME}/.dozo_data`;
/** The tools with which the installer changes anything. */
const TOOLS = ['mkdir', 'rm', 'mv', 'cp', 'ln', 'tar', 'chmod'];

/** Shell: runs a package as App Center does, tells how it ended, and what runs then. */
const install = (name: string): string =>
  [
    'rm -f /tmp/update_process',
    `sh /packages/${name} > /tmp/install.log 2>&1; echo ${name}_exit=$?`,
    `echo ${name}_progress=$(cat /tmp/update_process 2>/dev/null)`,
    `echo ${name}_runs=$(cat ${STATE}/running 2>/dev/null)`,
    `echo ${name}_says=$(tr '\\n' ' ' < /tmp/install.log)`,
  ].join('\n');
const CLEAN = [
  `[ -x ${TARGET}/dozo.sh ] && sh ${TARGET}/dozo.sh stop`,
  `rm -rf ${VOLUME}/.qpkg ${STATE} /etc/init.d/dozo.sh`,
  'sh /sbin/rmcfg Dozo -f /etc/config/qpkg.conf',
].join('\n');

/**
 * A second of App Center passes in a moment, where a script of ours sleeps; none does for longer than a limit allows:
 * then the script that was told to start or stop is killed, and only that one.
 */
const SLEEP = `#!/bin/sh
[ "$1" -le 60 ] || exec /bin/busybox sleep "$1"
now=$(($(cat /tmp/seconds 2>/dev/null || echo 0) + $1)); echo $now > /tmp/seconds
[ "$now" != "$(cat /tmp/appears 2>/dev/null)" ] || mv /volume-away /share/CACHEDEV2_DATA
[ ! -e /tmp/limit ] || [ "$now" -lt "$(cat /tmp/limit)" ] || kill -9 "$(cat /tmp/limited)"
exec /bin/busybox sleep 0.02
`;
/** Shell: starts or stops as App Center does, with the limit that the package asked for, and tells how it ended. */
const within = (verb: 'start' | 'stop'): string =>
  [
    `sh /sbin/getcfg Dozo Timeout -f /etc/config/qpkg.conf | cut -d, -f${verb === 'start' ? 1 : 2} > /tmp/limit`,
    `echo 0 > /tmp/seconds; sh ${TARGET}/dozo.sh ${verb} > /tmp/says 2>&1 & echo $! > /tmp/limited; wait $!`,
    `echo ${verb}_ended=$?; rm -f /tmp/limit; echo ${verb}_seconds=$(cat /tmp/seconds)`,
  ].join('\n');

/** Every step takes a minute and more: all of them with DOZO_EVERY_STEP=1. */
const STRIDE = process.env['DOZO_EVERY_STEP'] === undefined ? 4 : 1;

describe(`the installer for QTS${ON_TESTED}, when things go wrong`, { timeout: 900_000 }, () => {
  let root: NasRoot;
  const pack = (name: string, options: LightOptions): void => root.write(`packages/${name}`, writeLightQpkg(options));
  const nas = (...lines: string[]): Promise<string> => root.run([ON_QNAP, ...lines].join('\n'));

  before(() => {
    root = makeQnapRoot('busybox', { isNamedOnly: true });
    root.write('bin/sleep', SLEEP, 0o755);
    pack('old', { version: '1.0.0' });
    pack('new', { version: '1.1.0' });
    pack('dead', { version: '1.2.0', refuses: true });
    pack('large', { version: '1.3.0', fillBytes: 2_000_000 });
  });
  after(() => root.remove());

  it('upgrades, and goes back to a version that starts', async () => {
    const output = await nas(install('old'), install('new'), install('dead'), CLEAN);
    const values = readValues(output);
    assert.deepEqual(
      [values['old_runs'], values['new_runs'], values['dead_runs']],
      ['1.0.0', '1.1.0', '1.1.0'],
      output,
    );
    assert.equal(values['dead_progress'], '-1');
    assert.match(values['dead_says'] ?? '', /1\.2\.0 does not start; version 1\.1\.0 is back/);
  });

  it('refuses to go back to an older version, and says how', async () => {
    const values = readValues(await nas(install('new'), install('old'), CLEAN));
    assert.deepEqual([values['old_progress'], values['old_runs']], ['-1', '1.1.0']);
    assert.match(values['old_says'] ?? '', /1\.1\.0 is installed, which is newer than 1\.0\.0/);
  });

  it('is refused without a signature until the administrator allows it, and is there again whenever that is', async () => {
    const center = new AppCenter(root);
    const isRunning = `echo runs=$(cat ${STATE}/running 2>/dev/null)`;
    try {
      center.allowUnsigned(true);
      await nas(center.install('old', install('old')), `echo kept > ${STATE}/secret`);
      center.allowUnsigned(false);
      const refused = readValues(await nas(center.install('new', install('new')), isRunning));
      assert.deepEqual(refused, { new_refused: 'signature', runs: '1.0.0' });
      // Some firmware does not start either what it would not install now.
      const stopped = await nas(`sh ${TARGET}/dozo.sh stop`, center.serve(`${TARGET}/dozo.sh`, 'start'), isRunning);
      assert.deepEqual(readValues(stopped), { start: 'refused', runs: '' });
      center.allowUnsigned(true);
      const output = await nas(
        center.serve(`${TARGET}/dozo.sh`, 'start'),
        center.install('new', install('new')),
        `echo secret=$(cat ${STATE}/secret)`,
      );
      const values = readValues(output);
      assert.deepEqual([values['start'], values['new_runs'], values['secret']], ['0', '1.1.0', 'kept'], output);
    } finally {
      center.allowUnsigned(false);
      await nas(CLEAN);
    }
  });

  it('speaks the language of the NAS, in English where it knows none', async () => {
    for (const [language, words] of [
      ['ENG', /Version 1\.1\.0 is installed, which is newer than 1\.0\.0.* Nothing was changed/],
      ['GER', /Version 1\.1\.0 ist installiert und neuer als 1\.0\.0.* Nichts wurde geändert/],
      ['JPN', /1\.0\.0 より新しいバージョン 1\.1\.0 が.*変更は行われていません/],
      ['', /which is newer than/],
    ] as const) {
      const output = await nas(
        `sh /sbin/setcfg System Language '${language}' -f /etc/config/uLinux.conf`,
        install('new'),
        install('old'),
        `sh ${TARGET}/.uninstall.sh`,
        CLEAN,
      );
      assert.match(readValues(output)['old_says'] ?? '', words, output);
    }
    const events = readFileSync(root.path('etc/config/events'), 'utf8');
    for (const words of [/Dozo is removed\. Settings .*dozo_data/, /Dozo ist entfernt\./, /Dozo を削除しました。/]) {
      assert.match(events, words);
    }
  });

  it('refuses another processor, an old QTS and a NAS without a volume in that language, and leaves nothing', async () => {
    const other = {
      GER: `dieses NAS hat ${TESTED}`,
      JPN: `この NAS は ${TESTED} です`,
      ENG: `this NAS has ${TESTED}`,
    };
    const firmware = {
      GER: /braucht QTS oder QuTS hero 5\.0\.0 oder neuer; dies ist 4\.5\.4\. Nichts wurde geändert/,
      JPN: /5\.0\.0 以降が必要です。このシステムは 4\.5\.4 です。 変更は行われていません/,
      ENG: /needs QTS or QuTS hero 5\.0\.0 or later; this is 4\.5\.4\. Nothing was changed/,
    };
    const volume = { GER: /kein Volume/, JPN: /ボリュームがありません/, ENG: /no volume to install on/ };
    pack('other', { version: '1.1.0', machine: otherThan(TESTED) });
    for (const language of ['GER', 'JPN', 'ENG'] as const) {
      const output = await nas(
        `sh /sbin/setcfg System Language ${language} -f /etc/config/uLinux.conf`,
        install('other'),
        'mv /etc/default_config/uLinux.conf /kept; echo "[System]" > /etc/default_config/uLinux.conf',
        'echo "Version = 4.5.4" >> /etc/default_config/uLinux.conf',
        install('new').replaceAll('new_', 'firmware_'),
        'mv /kept /etc/default_config/uLinux.conf; mv /etc/config/smb.conf /kept',
        install('new').replaceAll('new_', 'volume_'),
        'mv /kept /etc/config/smb.conf',
        `QINSTALL_PATH=/share/CACHEDEV9_DATA/.qpkg; export QINSTALL_PATH`,
        install('new').replaceAll('new_', 'chosen_'),
        `echo left=$(ls -A ${VOLUME}/.qpkg /mnt/HDA_ROOT | grep -i dozo)`,
      );
      const values = readValues(output);
      for (const name of ['other', 'firmware', 'volume', 'chosen']) {
        assert.equal(values[`${name}_progress`], '-1', output);
        assert.equal(values[`${name}_runs`], '', output);
      }
      assert.match(values['other_says'] ?? '', new RegExp(other[language]));
      assert.match(values['firmware_says'] ?? '', firmware[language]);
      assert.match(values['volume_says'] ?? '', volume[language]);
      assert.match(values['chosen_says'] ?? '', volume[language]);
      assert.match(values['chosen_says'] ?? '', /CACHEDEV9_DATA/);
      assert.equal(values['left'], '', output);
      assert.doesNotMatch(readFileSync(root.path('etc/config/qpkg.conf'), 'utf8'), /\[Dozo\]/);
    }
  });

  it('takes the package of its own processor, and goes back to a version that starts', async () => {
    const other = otherThan(TESTED);
    pack('new-other', { version: '1.1.0', machine: other });
    pack('old-other', { version: '1.0.0', machine: other });
    pack('dead-other', { version: '1.2.0', machine: other, refuses: true });
    root.beProcessor(other);
    try {
      const names = ['old-other', 'new-other', 'dead-other', 'new'];
      const output = await nas(...names.map((name) => install(name).replaceAll('-other_', '_other_')), CLEAN);
      const values = readValues(output);
      const of = (what: string): unknown[] => names.map((name) => values[`${name.replace('-', '_')}_${what}`]);
      assert.deepEqual(of('progress'), ['3', '3', '-1', '-1'], output);
      assert.deepEqual(of('runs'), ['1.0.0', '1.1.0', '1.1.0', '1.1.0'], output);
      assert.match(values['new_says'] ?? '', new RegExp(`this NAS has ${other}`));
    } finally {
      root.beProcessor(TESTED);
    }
  });

  it('can be killed before any of its steps, and the next installation makes it whole', async () => {
    const wrap = TOOLS.map(
      (tool) =>
        `rm /bin/${tool}; cat > /bin/${tool} <<'END'
#!/bin/busybox sh
n=$(($(/bin/busybox cat /tmp/steps) + 1)); echo $n > /tmp/steps
[ "$n" != "$(/bin/busybox cat /tmp/kill-at)" ] || { kill -9 -1; exit 1; }
exec /bin/busybox ${tool} "$@"
END
/bin/busybox chmod 755 /bin/${tool}`,
    ).join('\n');
    const output = await nas(
      'echo 0 > /tmp/steps; echo none > /tmp/kill-at',
      wrap.replaceAll('rm /bin/', '/bin/busybox rm -f /bin/'),
      install('old'),
      `echo kept > ${STATE}/secret`,
      `/bin/busybox tar -cf /before.tar -C / ${VOLUME.slice(1)}/.qpkg ${STATE.slice(1)}`,
      '/bin/busybox cp /etc/config/qpkg.conf /before.conf',
      'echo 0 > /tmp/steps',
      'sh /packages/new > /dev/null 2>&1; total=$(cat /tmp/steps); echo steps=$total',
      // Back to the old version, as it was after its installation.
      'restore() {',
      `  /bin/busybox rm -rf ${VOLUME}/.qpkg ${STATE}`,
      `  /bin/busybox tar -xf /before.tar -C / && /bin/busybox cp /before.conf /etc/config/qpkg.conf`,
      '}',
      `at=1`,
      'while [ $at -le $total ]; do',
      '  restore; echo 0 > /tmp/steps; echo $at > /tmp/kill-at',
      '  sh /packages/new > /dev/null 2>&1',
      '  echo none > /tmp/kill-at',
      // As after the power came back: the service is started, where there is one.
      '  [ ! -x /etc/init.d/dozo.sh ] || sh /etc/init.d/dozo.sh start > /dev/null 2>&1',
      `  [ "$(cat ${STATE}/secret)" = kept ] || echo lost at $at`,
      '  sh /packages/new > /tmp/again.log 2>&1',
      '  [ "$(cat /tmp/update_process)" = 3 ] || { echo broken at $at; cat /tmp/again.log; }',
      `  [ "$(cat ${STATE}/running)" = 1.1.0 ] || echo dead at $at`,
      `  [ ! -e ${VOLUME}/.qpkg/.Dozo.old ] && [ ! -e ${VOLUME}/.qpkg/.Dozo.new ] || echo rubbish at $at`,
      `  at=$((at + ${STRIDE}))`,
      'done',
      CLEAN,
      ...TOOLS.map((tool) => `/bin/busybox ln -sf /bin/busybox /bin/${tool}`),
    );
    const { steps } = readValues(output);
    assert.ok(Number(steps) > 15, output);
    assert.doesNotMatch(output, /(lost|broken|dead|rubbish) at \d+/);
  });

  it('meets a full volume at any moment with a sentence, and the old version goes on', async () => {
    const sizes = [1, 2, 3, 4, 5, 6, 7, 9];
    const output = await nas(
      ...sizes.flatMap((mib) => [
        `mount -t tmpfs -o size=${mib}m none ${VOLUME}; mkdir -p ${VOLUME}/Public`,
        install('old').replaceAll('old_', `old${mib}_`),
        install('large').replaceAll('large_', `large${mib}_`),
        `echo left${mib}=$(ls -A ${VOLUME}/.qpkg)`,
        `sh ${TARGET}/dozo.sh stop; umount ${VOLUME}; sh /sbin/rmcfg Dozo -f /etc/config/qpkg.conf`,
      ]),
    );
    const values = readValues(output);
    const ends = sizes.map((mib) => values[`large${mib}_progress`]);
    assert.ok(ends.includes('-1') && ends.includes('3'), `${ends.join(' ')}\n${output}`);
    for (const mib of sizes) {
      assert.equal(values[`old${mib}_progress`], '3', output);
      const isDone = values[`large${mib}_progress`] === '3';
      assert.equal(values[`large${mib}_runs`], isDone ? '1.3.0' : '1.0.0', `${mib} MiB\n${output}`);
      assert.equal(values[`left${mib}`], 'Dozo', `${mib} MiB`);
      if (!isDone) assert.match(values[`large${mib}_says`] ?? '', /volume may be full|MiB are free/, `${mib} MiB`);
    }
  });

  it('leaves nothing where a first installation ends on a full volume', async () => {
    const sizes = [1, 3, 4, 9];
    const output = await nas(
      ...sizes.flatMap((mib) => [
        `mount -t tmpfs -o size=${mib}m none ${VOLUME}; mkdir -p ${VOLUME}/Public`,
        install('large').replaceAll('large_', `large${mib}_`),
        `echo left${mib}=$(ls -A ${VOLUME}/.qpkg) $(grep -c '^.Dozo.$' /etc/config/qpkg.conf)`,
        `[ ! -e ${TARGET} ] || sh ${TARGET}/.uninstall.sh; umount ${VOLUME}; sh /sbin/rmcfg Dozo -f /etc/config/qpkg.conf`,
      ]),
    );
    const values = readValues(output);
    const ends = sizes.map((mib) => values[`large${mib}_progress`]);
    assert.deepEqual([ends[0], ends.at(-1)], ['-1', '3'], output);
    for (const [index, mib] of sizes.entries()) {
      const isDone = ends[index] === '3';
      assert.equal(values[`left${mib}`]?.trim(), isDone ? 'Dozo 1' : '0', `${mib} MiB\n${output}`);
      if (!isDone) assert.match(values[`large${mib}_says`] ?? '', /volume may be full|MiB are free/, `${mib} MiB`);
    }
  });

  it('refuses settings of a newer version in the language of the NAS, and takes nothing from them', async () => {
    pack('real', { version: '1.1.0', hasService: true });
    const refused = ['ENG', 'GER', 'JPN'].flatMap((language) => [
      `sh /sbin/setcfg System Language ${language} -f /etc/config/uLinux.conf`,
      `sh ${TARGET}/dozo.sh start > /tmp/says 2>&1; echo ${language.toLowerCase()}=$?; cat /tmp/says`,
    ]);
    const output = await nas(
      install('real'),
      `sh ${TARGET}/dozo.sh stop; cp ${STATE}/data/secret /tmp/before`,
      `echo 'CATALOGUE_NEWER: The catalogue has version 9, this Dozo knows 8.' > ${STATE}/data/refuses`,
      ...refused,
      'sh /sbin/setcfg System Language ENG -f /etc/config/uLinux.conf',
      `rm ${STATE}/data/refuses; sh ${TARGET}/dozo.sh start; echo again=$?; cmp /tmp/before ${STATE}/data/secret; echo same=$?`,
      CLEAN,
    );
    const values = readValues(output);
    const codes = ['eng', 'ger', 'jpn', 'again', 'same'].map((name) => values[name]);
    assert.deepEqual(codes, ['1', '1', '1', '0', '0'], output);
    const events = readFileSync(root.path('etc/config/events'), 'utf8');
    for (const words of [
      /\[Dozo\] .*those of a newer version\. Install that one again/,
      /von einer neueren Version\. Installieren Sie diese wieder/,
      /新しいバージョンのものです。/,
    ]) {
      assert.match(events, words);
    }
  });

  it('makes anew at each start what a restart of the NAS has wiped, and writes nowhere without its volume', async () => {
    const output = await nas(
      install('old'),
      `sh ${TARGET}/dozo.sh stop; rm -f /var/dozo`,
      `sh ${TARGET}/dozo.sh start; echo started=$?; echo link=$(readlink /var/dozo)`,
      `sh ${TARGET}/dozo.sh stop; mv ${VOLUME} /volume-away`,
      'sh /volume-away/.qpkg/Dozo/dozo.sh start > /tmp/says 2>&1; echo locked=$?; cat /tmp/says',
      `[ -e ${VOLUME} ]; echo made=$?`,
      `mv /volume-away ${VOLUME}`,
      // A locked volume whose folder is there and empty.
      'sh /sbin/setcfg System Language GER -f /etc/config/uLinux.conf',
      `mv ${STATE} /state-away; sh ${TARGET}/dozo.sh start > /tmp/says 2>&1; echo empty=$?; cat /tmp/says`,
      `[ -e ${STATE} ]; echo anew=$?`,
      `mv /state-away ${STATE}; sh ${TARGET}/dozo.sh start; echo unlocked=$?`,
      'sh /sbin/setcfg System Language ENG -f /etc/config/uLinux.conf',
      CLEAN,
    );
    const values = readValues(output);
    assert.deepEqual([values['empty'], values['anew'], values['unlocked']], ['1', '1', '0'], output);
    assert.match(output, /Das Volume mit den Einstellungen wurde nicht gefunden: .*\.dozo_data/);
    assert.deepEqual([values['started'], values['link']], ['0', TARGET], output);
    assert.deepEqual([values['locked'], values['made']], ['1', '1'], output);
    assert.match(output, /its volume may be locked/);
  });

  /** Each problem that other packages for QTS are known for, put into ours on purpose. */
  const PROBLEMS: [problem: string, edits: LightOptions['edits'], check: () => Promise<void>][] = [
    [
      'a runtime that is not tried before the old version is touched',
      { 'qpkg/install.sh': (text) => text.replace(/^"\$staging\/lib\/\$DOZO_LOADER".* \|\|$/m, 'true ||') },
      async () => {
        const asked = `${STATE}/asked`;
        const output = await nas(install('old'), `: > ${asked}`, install('bad'), `echo told=$(cat ${asked})`, CLEAN);
        const values = readValues(output);
        assert.deepEqual([values['bad_progress'], values['bad_runs'], values['told']], ['-1', '1.0.0', '']);
        assert.match(values['bad_says'] ?? '', /runtime of the package does not start .* Nothing was changed/);
      },
    ],
    [
      'a start without its volume that writes into memory',
      { 'qpkg/dozo.sh': (text) => text.replace('wait_for "$volume" || {', 'true || {') },
      async () => {
        const output = await nas(
          install('bad'),
          `sh ${TARGET}/dozo.sh stop`,
          'sh /sbin/setcfg Dozo State_Path /share/CACHEDEV2_DATA/.dozo_data -f /etc/config/qpkg.conf',
          `sh ${TARGET}/dozo.sh start; echo started=$?`,
          '[ -e /share/CACHEDEV2_DATA ]; echo made=$?; rm -rf /share/CACHEDEV2_DATA',
          CLEAN,
        );
        const values = readValues(output);
        assert.deepEqual([values['started'], values['made']], ['1', '1'], output);
      },
    ],
    [
      'an installation that is called a success though nothing runs',
      {
        'qpkg/install.sh': (text) =>
          text.replace('if [ "$enabled" = TRUE ] && ! "$target/dozo.sh" start; then', 'if false; then'),
      },
      async () => {
        const values = readValues(await nas(install('old'), install('bad'), CLEAN));
        assert.equal(values['bad_progress'], '-1');
        assert.equal(values['bad_runs'], '1.0.0');
      },
    ],
    [
      'data below the folder of the package',
      { 'qpkg/install.sh': (text) => text.replace('state=$volume/.dozo_data', 'state=$target/data') },
      async () => {
        await nas(install('bad'), `sh ${TARGET}/.uninstall.sh`);
        const isKept = existsSync(root.path(`${STATE}/asked`));
        await nas(CLEAN);
        assert.ok(isKept);
      },
    ],
    [
      'links that are made at installation only',
      { 'qpkg/dozo.sh': (text) => text.replace('ln -s "$DOZO_ROOT" /var/dozo || return 1', ':') },
      async () => {
        const values = readValues(
          await nas(
            install('bad'),
            'rm -f /var/dozo',
            `sh ${TARGET}/dozo.sh start`,
            'echo link=$(readlink /var/dozo)',
            CLEAN,
          ),
        );
        assert.equal(values['link'], TARGET);
      },
    ],
    [
      'a disabled package that starts',
      { 'qpkg/dozo.sh': (text) => text.replace('!= TRUE ]; then', '= NEVER ]; then') },
      async () => {
        const values = readValues(
          await nas(
            install('bad'),
            'sh /sbin/setcfg Dozo Enable FALSE -f /etc/config/qpkg.conf',
            `sh ${TARGET}/dozo.sh start; echo refused=$?`,
            CLEAN,
          ),
        );
        assert.equal(values['refused'], '1');
      },
    ],
    [
      'an upgrade that leaves the old version stopped when it fails',
      { 'qpkg/install.sh': (text) => text.replace('    "$target/dozo.sh" start\n    tell 2', '    tell 2') },
      async () => {
        const values = readValues(await nas(install('old'), install('bad'), CLEAN));
        assert.equal(values['bad_runs'], '1.0.0');
      },
    ],
    [
      'a removal that takes the neighbour along',
      { 'qpkg/uninstall.sh': (text) => text.replace('/etc/rcS.d/QS[0-9]*[0-9]Dozo', '/etc/rcS.d/QS*Dozo') },
      async () => {
        root.write('etc/rcS.d/QS190MyDozo', '');
        await nas(install('bad'), `sh ${TARGET}/.uninstall.sh`, CLEAN);
        assert.ok(existsSync(root.path('etc/rcS.d/QS190MyDozo')));
      },
    ],
    [
      'a swap by rename of what a power cut may still take',
      { 'qpkg/install.sh': (text) => text.replace(/\nsync\n\nenabled=/, '\nenabled=') },
      async () => {
        const output = await nas(install('old'), 'rm -f /tmp/synced', install('bad'), 'cat /tmp/synced', CLEAN);
        assert.equal(readValues(output)['bad_progress'], '3', output);
        // Both beside each other when the new bytes are safe; the old ones are there until the names are.
        assert.match(output, /^\.Dozo\.new .*Dozo$\n^\.Dozo\.old .*Dozo$/m);
      },
    ],
    [
      'a slow first start that waits until App Center ends it',
      {
        'scripts/package/payload/service': (text) =>
          text.replace('while [ "$left" -gt 0 ]; do\n    if health', 'while :; do\n    if health'),
      },
      async () => {
        const output = await nas(
          install('bad'),
          `sh ${TARGET}/dozo.sh stop; : > ${STATE}/data/slow`,
          within('start'),
          `sh ${TARGET}/dozo.sh status; echo status=$?`,
          CLEAN,
        );
        const values = readValues(output);
        assert.deepEqual([values['start_ended'], values['status']], ['0', '0'], output);
        assert.ok(Number(values['start_seconds']) > 60, 'it was not slow');
      },
    ],
    [
      'a stop that waits until App Center ends it',
      { 'scripts/package/payload/service': (text) => text.replace('    [ "$left" -gt 0 ] || return 1\n', '') },
      async () => {
        const output = await nas(
          install('bad'),
          `sh ${TARGET}/dozo.sh stop; : > ${STATE}/data/stubborn; sh ${TARGET}/dozo.sh start; echo started=$?`,
          within('stop'),
          'echo left=$(grep -l -e "bin/[s]ervice" -e "bin/[n]ode" /proc/[0-9]*/cmdline 2>/dev/null)',
          // What does not end by itself is not asked to again.
          'kill -9 -1',
          CLEAN,
        );
        const values = readValues(output);
        assert.deepEqual([values['started'], values['stop_ended'], values['left']], ['0', '0', ''], output);
        assert.ok(Number(values['stop_seconds']) > 30, 'it was not stubborn');
      },
    ],
    [
      'a start side by side with others that does not wait for its volume',
      { 'qpkg/dozo.sh': (text) => text.replace('  left=30\n', '  left=0\n') },
      async () => {
        const output = await nas(
          install('bad'),
          `sh ${TARGET}/dozo.sh stop; mkdir -p /volume-away; mv ${STATE} /volume-away`,
          'sh /sbin/setcfg Dozo State_Path /share/CACHEDEV2_DATA/.dozo_data -f /etc/config/qpkg.conf',
          'sh /sbin/setcfg Dozo State_Made /share/CACHEDEV2_DATA/.dozo_data -f /etc/config/qpkg.conf',
          'echo 20 > /tmp/appears',
          within('start'),
          'rm /tmp/appears; echo runs=$(cat /share/CACHEDEV2_DATA/.dozo_data/running)',
          `sh ${TARGET}/dozo.sh stop; rm -rf /share/CACHEDEV2_DATA /volume-away`,
          CLEAN,
        );
        const values = readValues(output);
        assert.deepEqual([values['start_ended'], values['runs']], ['0', '1.2.0'], output);
      },
    ],
    [
      'a stop that ends a stranger whose number stands in a pid file',
      { 'scripts/package/payload/service': (text) => text.replace('grep -qF -- "$2"', 'grep -q .') },
      async () => {
        const output = await nas(
          install('bad'),
          `sh ${TARGET}/dozo.sh stop`,
          '/bin/busybox sleep 100000 < /dev/null > /dev/null 2>&1 & stranger=$!',
          `for name in supervisor server; do echo $stranger > ${STATE}/run/$name.pid; done`,
          `sh ${TARGET}/dozo.sh stop; kill $stranger; echo lived=$?`,
          CLEAN,
        );
        assert.equal(readValues(output)['lived'], '0', output);
      },
    ],
    [
      'temporary files in the memory of the NAS',
      { 'qpkg/dozo.sh': (text) => text.replace('TMPDIR=$DOZO_STATE/tmp', 'TMPDIR=/tmp/dozo') },
      async () => {
        const output = await nas(install('bad'), `echo told=$(grep '^start ' ${STATE}/asked)`, CLEAN);
        assert.equal(readValues(output)['told'], `start 1.2.0 ${STATE}/tmp`, output);
      },
    ],
    [
      'an installer that allows packages without a signature by itself',
      {
        'qpkg/install.sh': (text) =>
          text.replace(
            'progress 2\n',
            'progress 2\n/sbin/setcfg "QPKG Management" Ignore_Cert TRUE -f /etc/config/uLinux.conf\n',
          ),
      },
      async () => {
        const center = new AppCenter(root);
        center.allowUnsigned(true);
        const allowed = center.install('bad', install('bad'));
        // Once it is asked to install, and before it does.
        center.allowUnsigned(false);
        const settings = (): string => readFileSync(root.path('etc/config/uLinux.conf'), 'utf8');
        const before = settings();
        const output = await nas(allowed, `sh ${TARGET}/.uninstall.sh`, CLEAN);
        const after = settings();
        const { takesUnsigned } = center;
        root.write('etc/config/uLinux.conf', before);
        assert.equal(readValues(output)['bad_progress'], '3', output);
        assert.equal(takesUnsigned, false, 'App Center takes packages of anybody now');
        assert.equal(after, before, 'the settings of the NAS are others');
      },
    ],
    [
      'a service that allows packages without a signature at each start',
      {
        'qpkg/dozo.sh': (text) =>
          text.replace(
            /^( *)ln -s "\$DOZO_ROOT" \/var\/dozo \|\| return 1$/m,
            '$&\n$1/sbin/setcfg "QPKG Management" Ignore_Cert TRUE -f /etc/config/uLinux.conf',
          ),
      },
      async () => {
        const center = new AppCenter(root);
        center.allowUnsigned(false);
        await nas(install('bad'), 'rm -f /var/dozo', `sh ${TARGET}/dozo.sh stop; sh ${TARGET}/dozo.sh start`);
        const { takesUnsigned } = center;
        center.allowUnsigned(false);
        await nas(CLEAN);
        assert.equal(takesUnsigned, false, 'App Center takes packages of anybody now');
      },
    ],
    [
      'a newer version that is overwritten with an older one',
      { 'qpkg/install.sh': (text) => text.replace('older "$QPKG_VER" "$installed"', 'false') },
      async () => {
        const values = readValues(await nas(install('new'), install('bad'), CLEAN));
        assert.equal(values['bad_runs'], '1.1.0');
      },
    ],
  ];

  for (const [problem, edits, check] of PROBLEMS) {
    it(`would notice ${problem}`, async () => {
      const refuses = /success though|left the old|leaves the old/.test(problem);
      const hasDeadRuntime = /runtime/.test(problem);
      const hasService = edits !== undefined && 'scripts/package/payload/service' in edits;
      const version = /older one/.test(problem) ? '1.0.5' : '1.2.0';
      pack('bad', { version, refuses, hasDeadRuntime, hasService });
      await check();
      pack('bad', { version, refuses, hasDeadRuntime, hasService, edits: edits ?? {} });
      await assert.rejects(check(), assert.AssertionError, 'the harness does not see it');
      await nas(CLEAN);
    });
  }
});
