/**
 * The lab is accepted when ghettoVCB, unmodified, backs up and restores machines inside it. The scripts
 * are not part of this project: DOZO_GHETTOVCB names the folder they lie in.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { loginToLab, type LabLogin } from '../lab/ssh-login.ts';

const MIB = 1024 * 1024;
const scripts = process.env['DOZO_GHETTOVCB'];
const skip = scripts === undefined ? 'DOZO_GHETTOVCB does not name a folder with ghettoVCB' : false;

const CONFIGURATION = `VM_BACKUP_VOLUME=/vmfs/volumes/backup
DISK_BACKUP_FORMAT=thin
VM_BACKUP_ROTATION_COUNT=3
POWER_VM_DOWN_BEFORE_BACKUP=0
ENABLE_HARD_POWER_OFF=0
ITER_TO_WAIT_SHUTDOWN=3
POWER_DOWN_TIMEOUT=5
ENABLE_COMPRESSION=0
VM_SNAPSHOT_MEMORY=0
VM_SNAPSHOT_QUIESCE=0
ALLOW_VMS_WITH_SNAPSHOTS_TO_BE_BACKEDUP=0
SNAPSHOT_TIMEOUT=15
`;

let directory: string;
let lab: LabHost;
let login: LabLogin;

before(async () => {
  if (scripts === undefined) return;
  directory = mkdtempSync(join(tmpdir(), 'dozo-gv-'));
  lab = await startLabHost({
    directory: join(directory, 'lab'),
    https: false,
    datastores: [
      { name: 'ds1', type: 'VMFS-6', capacityBytes: 4096 * MIB },
      { name: 'ds2', type: 'VMFS-5', capacityBytes: 4096 * MIB },
      { name: 'backup', type: 'VMFS-6', capacityBytes: 8192 * MIB },
    ],
    switches: { keepTruth: true },
    vms: [
      {
        name: 'sql',
        datastore: 'ds1',
        running: true,
        disks: [
          { sizeBytes: 192 * MIB, fill: { percent: 40 } },
          { sizeBytes: 48 * MIB, provisioning: 'zeroedthick' },
        ],
        writer: { bytesPerSecond: 2 * MIB },
      },
      {
        name: 'old server',
        datastore: 'ds2',
        running: true,
        disks: [{ sizeBytes: 64 * MIB, fill: { percent: 60, seed: 3 } }],
        writer: { bytesPerSecond: 1 * MIB },
      },
    ],
  });
  const folder = lab.localPath('/vmfs/volumes/ds1/tools');
  mkdirSync(folder);
  for (const name of ['ghettoVCB.sh', 'ghettoVCB-restore.sh']) copyFileSync(join(scripts, name), join(folder, name));
  writeFileSync(join(folder, 'ghettoVCB.conf'), CONFIGURATION);
  writeFileSync(join(folder, 'vms'), 'sql\nold server\n');
  login = await loginToLab(lab);
});

after(async () => {
  if (scripts === undefined) return;
  login.close();
  await lab.close();
  rmSync(directory, { recursive: true, force: true });
});

test('ghettoVCB backs up running machines and restores one of them, byte for byte', { skip }, async () => {
  const tools = '/vmfs/volumes/ds1/tools';
  const backup = await login.run(`cd ${tools} && sh ghettoVCB.sh -f ${tools}/vms -g ${tools}/ghettoVCB.conf`);
  assert.equal(backup.code, 0, backup.stdout + backup.stderr);
  assert.match(backup.stdout, /Final status: All VMs backed up OK!/);

  const saved: Record<string, string> = {};
  for (const name of ['sql', 'old server']) {
    const folder = lab.localPath(`/vmfs/volumes/backup/${name}`);
    const version = readdirSync(folder).find((entry) => entry.startsWith(`${name}-`));
    assert.ok(version !== undefined);
    saved[name] = join(folder, version);
    const files = readdirSync(saved[name]);
    for (const wanted of [`${name}.vmx`, `${name}.vmdk`, `${name}-flat.vmdk`, 'STATUS.ok']) {
      assert.ok(files.includes(wanted), `${name} lacks ${wanted}`);
    }
    const id = await lab.vmId(name);
    assert.equal(await login.read(`vim-cmd vmsvc/snapshot.get ${id}`), 'Get Snapshot:\n');
    const snapshot = /Creating Snapshot "(.*?)"/.exec(backup.stdout)?.[1] ?? '';
    const truth = await lab.frozenCopy(id, snapshot);
    assert.ok(truth !== null);
    for (const [index, [node, file]] of Object.entries(truth).entries()) {
      const flat = join(saved[name], `${name}${index === 0 ? '' : `_${index}`}-flat.vmdk`);
      assert.equal(sameBytes(file, flat), '', `${name} ${node}`);
    }
  }

  const version = saved['sql']?.split('/').at(-1) ?? '';
  writeFileSync(
    lab.localPath(`${tools}/restore`),
    `"/vmfs/volumes/backup/sql/${version};/vmfs/volumes/ds2;3;sql-restored"\n`,
  );
  const restore = await login.run(`cd ${tools} && sh ghettoVCB-restore.sh -c ${tools}/restore`);
  assert.equal(restore.code, 0, restore.stdout + restore.stderr);
  const restored = (await lab.state()).vms.find((vm) => vm.name === 'sql-restored');
  assert.ok(restored !== undefined, restore.stdout + restore.stderr);
  assert.equal(restored.datastore, 'ds2');
  assert.equal(restored.disks.length, 2);
  for (const [index, disk] of restored.disks.entries()) {
    const path = lab.localPath((disk.chain[0]?.absolutePath ?? '').replace(/\.vmdk$/, '-flat.vmdk'));
    assert.equal(sameBytes(path, join(saved['sql'] ?? '', `sql${index === 0 ? '' : `_${index}`}-flat.vmdk`)), '');
  }
});

function sameBytes(one: string, other: string): string {
  try {
    return execFileSync('cmp', [one, other], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    return String((error as { stdout?: string }).stdout ?? '') + String(error);
  }
}
