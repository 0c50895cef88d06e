import assert from 'node:assert/strict';
import type { Architecture } from '../../scripts/package/pins.ts';
import type { Spk } from './archives.ts';

/** What Package Center looks at before anything of a package runs. @throws AssertionError */
export function assertTaken(spk: Spk, architecture: Architecture): void {
  const { info, members } = spk;
  const mandatory = ['package', 'version', 'os_min_ver', 'description', 'arch', 'maintainer'];
  for (const key of mandatory) assert.ok(info.has(key), key);
  assert.match(info.get('version') ?? '', /^\d+(\.\d+){0,5}(-\d+)?$/);
  assert.match(info.get('os_min_ver') ?? '', /^7\.2-\d+$/);
  assert.equal(info.get('arch'), architecture.spk);
  const bytes = spk.payload.reduce((sum, { data }) => sum + data.length, 0);
  assert.ok(Math.abs(Number(info.get('extractsize')) * 1024 - bytes) < bytes / 10, 'extractsize');
  assert.deepEqual(JSON.parse(read(members.get('conf/privilege'))), {
    defaults: { 'run-as': 'package' },
    username: 'Dozo',
    groupname: 'Dozo',
  });
  assert.deepEqual(Object.keys(JSON.parse(read(members.get('conf/resource'))) as object).sort(), [
    'data-share',
    'port-config',
    'sysnotify',
    'web-config',
  ]);
  for (const name of ['preinst', 'postinst', 'preuninst', 'postuninst', 'preupgrade', 'postupgrade']) {
    assert.equal(members.get(`scripts/${name}`)?.mode, 0o755, name);
  }
  for (const member of [...members.values(), ...spk.payload]) {
    assert.deepEqual(member.owner, [0, 0]);
    assert.equal(member.mode & 0o6022, 0, member.name);
    assert.doesNotMatch(member.name, /^\.?\/|\.\.|\.map$/);
  }
  assert.equal(new Set([...members.values(), ...spk.payload].map(({ modifiedS }) => modifiedS)).size, 1);
  assert.equal(pngSize(members.get('PACKAGE_ICON.PNG')), '64x64');
  assert.equal(pngSize(members.get('PACKAGE_ICON_256.PNG')), '256x256');
  for (const language of ['', '_jpn', '_ger']) {
    for (const wizard of ['install', 'uninstall']) {
      const pages: unknown = JSON.parse(read(members.get(`WIZARD_UIFILES/${wizard}_uifile${language}`)));
      assert.ok(Array.isArray(pages) && pages.length > 0, `${wizard}${language}`);
    }
  }
  assert.equal(info.get('support_move'), 'yes', 'Package Center offers no other volume');
  for (const key of ['adminport', 'adminprotocol', 'install_dep_packages']) assert.ok(!info.has(key), key);
  const { 'data-share': share, 'port-config': port } = JSON.parse(read(members.get('conf/resource'))) as {
    'data-share': { shares: { name: string; permission: { rw: string[] } }[] };
    'port-config': { 'protocol-file': string };
  };
  for (const { name, permission } of share.shares) {
    assert.match(name, /^[A-Za-z][A-Za-z0-9_-]{0,31}$/, 'name of the share');
    assert.deepEqual(permission, { rw: ['Dozo'] });
  }
  const file = (name: string): Buffer => {
    const member = spk.payload.find((candidate) => candidate.name === name);
    assert.ok(member, name);
    return member.data;
  };
  assert.match(file(port['protocol-file']).toString(), /^\[[\w.-]+\]\n(\w[\w.]*="[^"\n]*"\n)+$/);
  // Asks nothing of the system's C library, whatever an update makes of it.
  const loader = `/var/packages/Dozo/target/lib/${architecture.loader}\0`;
  assert.ok(file('bin/node').includes(loader), 'loader of the runtime');
  for (const name of ['preinst', 'postinst', 'postuninst', 'start-stop-status']) {
    assert.doesNotMatch(read(members.get(`scripts/${name}`)), /\b(sudo|chown|synoshare|synouser)\b/, name);
  }
}

/** What DSM's desktop needs to open the window and to show notices. @throws AssertionError */
export function assertWindow(spk: Spk): void {
  const file = (name: string): string => read(spk.payload.find((member) => member.name === name));
  const config = JSON.parse(file('desktop/config')) as Record<
    string,
    Record<string, { appWindow?: string; preloadTexts?: string[] }>
  >;
  const application = config['Dozo.js']?.[spk.info.get('dsmappname') ?? ''];
  assert.ok(application, 'dsmappname');
  for (const language of ['enu', 'jpn', 'ger']) {
    const words = file(`desktop/texts/${language}/strings`);
    for (const reference of ['app:description', ...(application.preloadTexts ?? [])]) {
      const [section = '', key = ''] = reference.split(':');
      assert.match(words, new RegExp(`\\[${section}\\][^[]*^${key}="[^"]+"$`, 'm'), `${language} ${reference}`);
    }
  }
  for (const size of [16, 24, 32, 48, 64, 72, 256]) {
    const picture = spk.payload.find(({ name }) => name === `desktop/images/dozo_${size}.png`);
    assert.equal(pngSize(picture), `${size}x${size}`);
  }
  assert.equal(application.appWindow, 'SYNO.SDS.Dozo.MainWindow');
  for (const key of ['app:name', 'notify:info', 'notify:warning', 'notify:error', 'notify:text']) {
    assert.ok(application.preloadTexts?.includes(key), `${key} is not loaded before the window opens`);
  }
  // Of the same origin, below the route that DSM's web server is given.
  const frame = /<iframe[^>]* src="([^"?]+)/.exec(file('desktop/Dozo.js'))?.[1] ?? '';
  const route = /^location \^~ (\/webman\/3rdparty\/Dozo\/\S+\/) \{$/m.exec(file('nginx/dozo.conf'))?.[1];
  assert.ok(route !== undefined && frame.startsWith(route), `${frame} is not below ${route ?? 'any route'}`);
  assert.match(file('nginx/dozo.conf'), /proxy_pass http:\/\/127\.0\.0\.1:\d+\/;/);
}

export function read(member: { data: Buffer } | undefined): string {
  assert.ok(member, 'a member is missing');
  return member.data.toString('utf8');
}

/** From the first chunk of a PNG. */
function pngSize(member: { data: Buffer } | undefined): string {
  assert.ok(member, 'a picture is missing');
  assert.equal(member.data.toString('latin1', 1, 4), 'PNG');
  return `${member.data.readUInt32BE(16)}x${member.data.readUInt32BE(20)}`;
}
