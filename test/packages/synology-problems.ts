import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { Architecture } from '../../scripts/package/pins.ts';
import { readSpk, type Member, type Spk } from './archives.ts';
import type { BuiltPackages } from './built-packages.ts';
import { architectureOf, ON_TESTED, TESTED } from './machine.ts';
import { assertTaken, assertWindow } from './synology-form.ts';

type Change = (text: string) => string;

/** Each problem that other packages for DSM are known for, put into ours on purpose: the suite must see it. */
const PROBLEMS: [problem: string, change: (spk: Spk) => void, check: (spk: Spk, architecture: Architecture) => void][] =
  [
    [
      'a package that wants to be root',
      inMember('conf/privilege', (text) => text.replace('"package"', '"root"')),
      assertTaken,
    ],
    [
      'rights besides the minimal ones',
      inMember('conf/privilege', (text) => text.replace('{', '{"tool":[],')),
      assertTaken,
    ],
    ['a version with letters', inInfo('version', '0.1.0-beta'), assertTaken],
    ['a version with two groups behind the dash', inInfo('version', '0.1-2.3'), assertTaken],
    ['a missing upgrade script', (spk) => spk.members.delete('scripts/preupgrade'), assertTaken],
    ['a system that is too old for the runtime', inInfo('os_min_ver', '7.0-40000'), assertTaken],
    ['a port that Package Center refuses to share', (spk) => spk.info.set('adminport', '5510'), assertTaken],
    ['a dependency on another package', (spk) => spk.info.set('install_dep_packages', 'Node.js_v22'), assertTaken],
    [
      'a share without rights for the user',
      inMember('conf/resource', (text) => text.replace('"rw": ["Dozo"]', '"ro": ["Dozo"]')),
      assertTaken,
    ],
    [
      'a share whose name DSM stumbles over',
      inMember('conf/resource', (text) => text.replace('"name": "Dozo"', '"name": "Dozo Sicherungen/ü"')),
      assertTaken,
    ],
    [
      'a worker that DSM does not know',
      inMember('conf/resource', (text) => text.replace('{', '{"cron":{},')),
      assertTaken,
    ],
    [
      'a service file that the firewall cannot read',
      inPayload('port_conf/Dozo.sc', (text) => text.replace('dst.ports="', 'dst ports = "')),
      assertTaken,
    ],
    ['a runtime that borrows the C library of the system', inPayload('bin/node', swapLoader), assertTaken],
    [
      'a script that nobody can run',
      (spk) => void (must(spk.members.get('scripts/postinst')).mode = 0o644),
      assertTaken,
    ],
    [
      'a picture of another size',
      (spk) => spk.members.set('PACKAGE_ICON.PNG', must(spk.members.get('PACKAGE_ICON_256.PNG'))),
      assertTaken,
    ],
    ['a wizard that is no JSON', inMember('WIZARD_UIFILES/install_uifile_jpn', (text) => text.slice(1)), assertTaken],
    ['files of somebody else', (spk) => void (must(spk.payload[3]).owner = [1000, 1000]), assertTaken],
    ['a wrong size on the volume', inInfo('extractsize', '1000'), assertTaken],
    ['a volume that it cannot leave', (spk) => void spk.info.delete('support_move'), assertTaken],
    ['an application that the desktop does not find', inInfo('dsmappname', 'SYNO.SDS.Dozo.App'), assertWindow],
    [
      'notices whose words are not loaded',
      inPayload('desktop/config', (text) => text.replace('"notify:error", ', '')),
      assertWindow,
    ],
    [
      'notices without words in one language',
      inPayload('desktop/texts/jpn/strings', (text) => text.replace(/^error=.*\n/m, '')),
      assertWindow,
    ],
    [
      'a window of another origin',
      inPayload('desktop/Dozo.js', (text) => text.replace('src="/webman/', 'src="http://nas:5510/')),
      assertWindow,
    ],
    [
      "a route that DSM's own rules win over",
      inPayload('nginx/dozo.conf', (text) => text.replace('^~ ', '')),
      assertWindow,
    ],
    [
      'a route to the open network',
      inPayload('nginx/dozo.conf', (text) => text.replace('127.0.0.1', '0.0.0.0')),
      assertWindow,
    ],
    [
      'a missing icon',
      (spk) => {
        spk.payload = spk.payload.filter(({ name }) => name !== 'desktop/images/dozo_48.png');
      },
      assertWindow,
    ],
  ];

export function testSynologyProblems(built: () => BuiltPackages): void {
  const architecture = architectureOf(TESTED);
  describe(`the package for DSM${ON_TESTED}, spoilt on purpose`, () => {
    let good: Spk;
    before(() => {
      good = readSpk(built().spk);
      assertTaken(good, architecture);
      assertWindow(good);
    });
    for (const [problem, change, check] of PROBLEMS) {
      it(`is seen to have ${problem}`, () => {
        const spk = copyOf(good);
        change(spk);
        assert.throws(
          () => check(spk, architecture),
          (error) => error instanceof assert.AssertionError || error instanceof SyntaxError,
        );
      });
    }
  });
}

/** Bytes are shared: whoever changes a member gives it new ones. */
function copyOf({ info, members, payload }: Spk): Spk {
  return {
    info: new Map(info),
    members: new Map([...members].map(([name, member]) => [name, { ...member }])),
    payload: payload.map((member) => ({ ...member })),
  };
}

function must<T>(value: T | undefined): T {
  assert.ok(value !== undefined, 'what is to be spoilt is not there');
  return value;
}

function edit(member: Member, change: Change): void {
  // One character a byte: programs stay what they are around the change.
  const before = member.data.toString('latin1');
  const after = change(before);
  if (after === before) throw new Error(`nothing was changed in ${member.name}`);
  member.data = Buffer.from(after, 'latin1');
}

function inMember(name: string, change: Change): (spk: Spk) => void {
  return (spk) => edit(must(spk.members.get(name)), change);
}

function inPayload(name: string, change: Change): (spk: Spk) => void {
  return (spk) => edit(must(spk.payload.find((member) => member.name === name)), change);
}

function inInfo(key: string, value: string): (spk: Spk) => void {
  return (spk) => void spk.info.set(key, value);
}

function swapLoader(program: string): string {
  return program.replaceAll(/\/var\/packages\/Dozo\/target(\/lib\/ld-linux[-\w]+\.so\.\d)/g, (own, loader: string) =>
    loader.padEnd(own.length, '\0'),
  );
}
