import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCsv, parseFilesystems, parseKeyValues, parseTable } from './esxcli.ts';

test('reads key and value lines', () => {
  const values = parseKeyValues(
    '   Product: VMware ESXi\n   Version: 8.0.1\n   Build: Releasebuild-21495797\n   Update: 1\n   Patch: 0\n',
  );
  assert.equal(values.get('Product'), 'VMware ESXi');
  assert.equal(values.get('Build'), 'Releasebuild-21495797');
});

const TABLE = `Mount Point                                        Volume Name  UUID                                 Mounted  Type             Size          Free
-------------------------------------------------  -----------  -----------------------------------  -------  ------  -------------  ------------
/vmfs/volumes/5f0e9a10-a1b2c3d4-7f1e-0cc47a000001  ds 1: [x]    5f0e9a10-a1b2c3d4-7f1e-0cc47a000001     true  VMFS-6  1999844147200  539400000000
/vmfs/volumes/1b2c3d4e-5f607182                    nasbk        1b2c3d4e-5f607182                       true  NFS              1000           500
/vmfs/volumes/aaaa                                              aaaa                                   false  vfat        299712512     117440512
`;

test('reads the table of file systems, empty names and blanks in names included', () => {
  const filesystems = parseFilesystems(TABLE);
  assert.deepEqual(
    filesystems.map((fs) => [fs.name, fs.type, fs.isMounted, fs.capacityBytes, fs.freeBytes]),
    [
      ['ds 1: [x]', 'VMFS-6', true, 1999844147200, 539400000000],
      ['nasbk', 'NFS', true, 1000, 500],
      ['', 'vfat', false, 299712512, 117440512],
    ],
  );
});

test('reads the same as CSV with quoted names', () => {
  const [filesystem] = parseFilesystems(
    'Free,Mount Point,Mounted,Size,Type,UUID,Volume Name,\n5,/vmfs/volumes/x,true,9,VMFS-6,x,"a, ""b""\n日本",\n',
  );
  assert.equal(filesystem?.name, 'a, "b"\n日本');
  assert.equal(filesystem.freeBytes, 5);
  const [withoutBlanks] = parseFilesystems(
    'Free,MountPoint,Mounted,Size,Type,UUID,VolumeName,\n5,/vmfs/volumes/x,true,9,NFS,x,n,\n',
  );
  assert.equal(withoutBlanks?.name, 'n');
});

test('no parser throws, whatever the host prints', () => {
  const line = fc.oneof(fc.string(), fc.constantFrom(...TABLE.split('\n'), 'a,"b', ',,,', '"'));
  fc.assert(
    fc.property(
      fc.array(line).map((lines) => lines.join('\n')),
      (text) => {
        parseKeyValues(text);
        parseCsv(text);
        parseTable(text);
        for (const { root, freeBytes } of parseFilesystems(text)) {
          assert.ok(root.startsWith('/') && Number.isSafeInteger(freeBytes));
        }
      },
    ),
  );
});
