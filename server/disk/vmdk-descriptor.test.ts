import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../errors/index.ts';
import { descriptorSizeBytes, encodeVmdkDescriptor, parseVmdkDescriptor } from './vmdk-descriptor.ts';

const BASE = `# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=4b4b1a2c
parentCID=ffffffff
createType="vmfs"

# Extent description
RW 20971520 VMFS "sql-flat.vmdk"

# The Disk Data Base 
#DDB

ddb.adapterType = "lsilogic"
ddb.thinProvisioned = "1"
ddb.uuid = "60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc"
`;

function parse(text: string) {
  return parseVmdkDescriptor(Buffer.from(text));
}

test('reads a base disk as ESXi 8 writes it', () => {
  const descriptor = parse(BASE);
  assert.equal(descriptor.cid, '4b4b1a2c');
  assert.equal(descriptor.createType, 'vmfs');
  assert.equal(descriptor.parentFileNameHint, null);
  assert.deepEqual(descriptor.extents, [
    { access: 'RW', sectors: 20971520, type: 'VMFS', fileName: 'sql-flat.vmdk', offsetSectors: 0 },
  ]);
  assert.equal(descriptorSizeBytes(descriptor), 10 * 1024 ** 3);
  assert.equal(descriptor.database.get('ddb.uuid'), '60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc');
});

test('encodes to the same text', () => {
  assert.equal(encodeVmdkDescriptor(parse(BASE)), BASE);
});

test('reads a seSparse delta with change tracking', () => {
  const descriptor = parse(`# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=4b4b1a2c
parentCID=4b4b1a2c
isNativeSnapshot="no"
createType="seSparse"
parentFileNameHint="/vmfs/volumes/5f0e/my "vm"/a.vmdk"
# Extent description
RW 20971520 SESPARSE "a-000001-sesparse.vmdk"

# Change Tracking File
changeTrackPath="a-000001-ctk.vmdk"

ddb.grain = "8"
`);
  assert.equal(descriptor.parentFileNameHint, '/vmfs/volumes/5f0e/my "vm"/a.vmdk');
  assert.equal(descriptor.changeTrackPath, 'a-000001-ctk.vmdk');
  assert.equal(descriptor.extents[0]?.type, 'SESPARSE');
});

const EXTENT_LINES: [string, string, number, string | null, number][] = [
  ['RW 7 VMFS "x-flat.vmdk"', 'VMFS', 7, 'x-flat.vmdk', 0],
  ['RW 7 VMFSSPARSE "x-000001-delta.vmdk"', 'VMFSSPARSE', 7, 'x-000001-delta.vmdk', 0],
  ['RW 7 VMFSRDM "x-rdmp.vmdk"', 'VMFSRDM', 7, 'x-rdmp.vmdk', 0],
  ['RW 7 FLAT "x-f001.vmdk" 128', 'FLAT', 7, 'x-f001.vmdk', 128],
  ['RDONLY 7 SPARSE "x-s001.vmdk"', 'SPARSE', 7, 'x-s001.vmdk', 0],
  ['RW 7 ZERO', 'ZERO', 7, null, 0],
  ['RW 7 VMFS "vsan://52a1"', 'VMFS', 7, 'vsan://52a1', 0],
  ['RW 7 VMFS "日本 ü [1]-flat.vmdk"', 'VMFS', 7, '日本 ü [1]-flat.vmdk', 0],
  ['RW 63 FLAT "\\\\.\\PhysicalDrive0" 0 partitionUUID abc', 'FLAT', 63, '\\\\.\\PhysicalDrive0', 0],
];
for (const [line, type, sectors, fileName, offsetSectors] of EXTENT_LINES) {
  test(`reads the extent line ${line}`, () => {
    const [extent] = parse(`# Disk DescriptorFile\nCID=1\ncreateType="x"\n${line}\n`).extents;
    assert.deepEqual(extent, { access: line.split(' ')[0], sectors, type, fileName, offsetSectors });
  });
}

test('adds up several extents', () => {
  const descriptor = parse(
    '# Disk DescriptorFile\nCID=1\ncreateType="twoGbMaxExtentSparse"\nRW 4192256 SPARSE "a-s001.vmdk"\nRW 10 SPARSE "a-s002.vmdk"\n',
  );
  assert.equal(descriptorSizeBytes(descriptor), 4192266 * 512);
});

for (const [what, text] of [
  ['no header', 'CID=1\ncreateType="x"\nRW 7 ZERO\n'],
  ['no extent', '# Disk DescriptorFile\nCID=1\ncreateType="x"\n'],
  ['no type', '# Disk DescriptorFile\nCID=1\nRW 7 ZERO\n'],
  ['content id is text', '# Disk DescriptorFile\nCID=zz\ncreateType="x"\nRW 7 ZERO\n'],
  ['size beyond numbers', '# Disk DescriptorFile\nCID=1\ncreateType="x"\nRW 99999999999999999999 VMFS "a"\n'],
  ['extent without file', '# Disk DescriptorFile\nCID=1\ncreateType="x"\nRW 7 VMFS\n'],
  ['binary', 'KDMV\0\0\0\x01'],
] as const) {
  test(`refuses a descriptor: ${what}`, () => {
    assert.throws(() => parse(text), { code: 'DISK_DESCRIPTOR_INVALID' });
  });
}

test('gives a value or a named error for any bytes', () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom(...BASE.split('\n')),
    fc.constantFrom(...EXTENT_LINES.map(([text]) => text)),
  );
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.array(line)), (input) => {
      const content = Array.isArray(input)
        ? Buffer.from(`# Disk DescriptorFile\n${input.join('\n')}`)
        : Buffer.from(input);
      try {
        const parsed = parseVmdkDescriptor(content);
        assert.ok(Number.isSafeInteger(descriptorSizeBytes(parsed)));
      } catch (error) {
        assert.ok(isAppError(error) && error.code === 'DISK_DESCRIPTOR_INVALID');
      }
    }),
  );
});
