import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../../errors/index.ts';
import { Dictionary } from './dictionary.ts';
import { parseVmsd } from './vmsd.ts';
import { restoredByLine, rewriteVmx, vmxDisks, vmxNetworkKeys } from './vmx.ts';

const VMX = `.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "19"
displayName = "sql |22old|22"
annotation = "one|0Atwo"
nvram = "sql.nvram"
scsi0.virtualDev = "pvscsi"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "sql-000001.vmdk"
scsi0:0.deviceType = "scsi-hardDisk"
scsi0:0.ctkEnabled = "TRUE"
SATA0:1.present = "true"
sata0:1.fileName = "/vmfs/volumes/5f0e/other/data.vmdk"
sata0:1.mode = "independent-persistent"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "/vmfs/volumes/5f0e/iso/x.iso"
scsi0:2.present = "FALSE"
scsi0:2.fileName = "gone.vmdk"
ethernet0.present = "TRUE"
ethernet0.networkName = "VM Network"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0c:29:11:22:33"
uuid.bios = "56 4d 8a 1e 3c 55 ba 10-9a 0f 11 22 33 44 55 66"
uuid.location = "56 4d 8a 1e 3c 55 ba 10-9a 0f 11 22 33 44 55 66"
vc.uuid = "52 aa"
vm.genid = "-1234567890123456789"
vm.genidX = "1234567890123456789"
sched.swap.derivedName = "/vmfs/volumes/5f0e/sql/sql-1.vswp"
ctkEnabled = "TRUE"
this line is damaged
`;

test('finds disks on every controller and nothing else', () => {
  assert.deepEqual(vmxDisks(Dictionary.parse(Buffer.from(VMX))), [
    { node: 'scsi0:0', fileName: 'sql-000001.vmdk', mode: '', sharing: '' },
    { node: 'sata0:1', fileName: '/vmfs/volumes/5f0e/other/data.vmdk', mode: 'independent-persistent', sharing: '' },
  ]);
});

test('decodes escapes, compares keys without case, takes the last of equal ones', () => {
  const vmx = Dictionary.parse(Buffer.from(`${VMX}MEMSIZE = "1"\nmemsize = "2"\n`));
  assert.equal(vmx.get('displayname'), 'sql "old"');
  assert.equal(vmx.get('annotation'), 'one\ntwo');
  assert.equal(vmx.get('memSize'), '2');
  vmx.set('memSize', '3');
  assert.equal(
    vmx
      .encode()
      .toString()
      .match(/memsize/gi)?.length,
    1,
  );
});

test('reads other charsets by their label and writes UTF-8', () => {
  const latin = Buffer.from('.encoding = "windows-1252"\ndisplayName = "Gr\xfc\xdfe"\n', 'latin1');
  const vmx = Dictionary.parse(latin);
  assert.equal(vmx.get('displayName'), 'Grüße');
  assert.equal(vmx.encode().toString('utf8'), '.encoding = "UTF-8"\ndisplayName = "Grüße"\n');
});

test('keeps every value through encode and parse, however hostile', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (value) => {
      fc.pre(value.isWellFormed());
      const vmx = Dictionary.parse(Buffer.from(VMX));
      vmx.set('displayName', value);
      assert.equal(Dictionary.parse(vmx.encode()).get('displayName'), value);
    }),
  );
});

const HOLD = 'dozo-0123456789abcdef';

test('rewrites a machine with a new identity', () => {
  const vmx = Dictionary.parse(
    rewriteVmx(Buffer.from(VMX), {
      name: 'new "name" |',
      disks: new Map([['scsi0:0', 'new.vmdk']]),
      nvram: 'new.nvram',
      extendedConfig: null,
      networks: { 'VM Network': 'Lab' },
      identity: 'new',
      hold: HOLD,
    }),
  );
  assert.ok(vmx.encode().toString().includes(restoredByLine(HOLD)));
  assert.equal(vmx.get('displayName'), 'new "name" |');
  assert.equal(vmx.get('scsi0:0.fileName'), 'new.vmdk');
  assert.equal(vmx.get('scsi0.virtualDev'), 'pvscsi');
  assert.equal(vmx.get('sata0:1.fileName'), undefined);
  assert.equal(vmx.get('ethernet0.networkName'), 'Lab');
  assert.equal(vmx.get('ethernet0.generatedAddress'), undefined);
  assert.equal(vmx.get('uuid.action'), 'create');
  assert.equal(vmx.get('ide1:0.fileName'), 'emptyBackingString');
  for (const key of [
    'uuid.bios',
    'uuid.location',
    'vc.uuid',
    'ctkEnabled',
    'scsi0:0.ctkEnabled',
    'sched.swap.derivedName',
  ]) {
    assert.equal(vmx.get(key), undefined, key);
  }
});

test('keeps identity and addresses where asked', () => {
  const vmx = Dictionary.parse(
    rewriteVmx(Buffer.from(VMX), {
      name: 'sql',
      disks: new Map([
        ['scsi0:0', 'sql.vmdk'],
        ['sata0:1', '/vmfs/volumes/5f0e/other/data.vmdk'],
      ]),
      nvram: null,
      extendedConfig: null,
      networks: {},
      identity: 'keep',
      hold: HOLD,
    }),
  );
  assert.equal(vmx.get('uuid.bios'), '56 4d 8a 1e 3c 55 ba 10-9a 0f 11 22 33 44 55 66');
  assert.equal(vmx.get('vc.uuid'), '52 aa');
  assert.equal(vmx.get('ethernet0.generatedAddress'), '00:0c:29:11:22:33');
  assert.equal(vmx.get('uuid.action'), 'keep');
  assert.equal(vmx.get('nvram'), undefined);
  for (const key of ['vm.genid', 'vm.genidX']) assert.equal(vmx.get(key), undefined, `${key} says that time went on`);
  assert.deepEqual(vmxNetworkKeys(vmx), ['ethernet0']);
});

const VMSD = `.encoding = "UTF-8"
snapshot.lastUID = "14"
snapshot.current = "14"
snapshot.numSnapshots = "2"
snapshot0.uid = "1"
snapshot0.filename = "test flo-Snapshot1.vmsn"
snapshot0.displayName = "SNAPSHOT POST INSTALL"
snapshot0.createTimeHigh = "388745"
snapshot0.createTimeLow = "1991180826"
snapshot0.numDisks = "1"
snapshot0.disk0.fileName = "test flo_0.vmdk"
snapshot0.disk0.node = "scsi0:0"
snapshot12.uid = "14"
snapshot12.parent = "1"
snapshot12.displayName = "dozo-0123456789abcdef"
snapshot12.disk0.fileName = "test flo_0-000001.vmdk"
snapshot12.disk0.node = "scsi0:0"
`;

test('reads a vmsd with gaps and indices of two digits', () => {
  const vmsd = parseVmsd(Buffer.from(VMSD));
  assert.equal(vmsd.currentUid, '14');
  assert.deepEqual(vmsd.snapshots[1], {
    uid: '14',
    parentUid: '1',
    name: 'dozo-0123456789abcdef',
    createdAtMs: null,
    disks: [{ node: 'scsi0:0', fileName: 'test flo_0-000001.vmdk' }],
  });
  const [first] = vmsd.snapshots;
  assert.equal(first?.createdAtMs, Number(((388745n << 32n) | 1991180826n) / 1000n));
  assert.deepEqual(parseVmsd(Buffer.alloc(0)).snapshots, []);
});

test('gives a value or a named error for any bytes', () => {
  const line = fc.oneof(fc.string(), fc.constantFrom(...VMX.split('\n'), ...VMSD.split('\n')));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), fc.array(line)), (input) => {
      const content = Array.isArray(input) ? Buffer.from(input.join('\n')) : Buffer.from(input);
      try {
        vmxDisks(Dictionary.parse(content));
        parseVmsd(content);
        rewriteVmx(content, {
          name: 'x',
          disks: new Map(),
          nvram: null,
          extendedConfig: null,
          networks: {},
          identity: 'new',
          hold: HOLD,
        });
      } catch (error) {
        assert.ok(isAppError(error));
      }
    }),
  );
});
