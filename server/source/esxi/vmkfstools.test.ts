import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { classifyHostText, lastWords, parseBlockMap, parseProgress } from './vmkfstools.ts';

test('reads the last step of progress, parted by carriage returns', () => {
  const text = "Destination disk format: VMFS thin-provisioned\nCloning disk '/vmfs/volumes/ds1/a/a.vmdk'...\n";
  assert.equal(parseProgress(text), null);
  assert.equal(parseProgress(`${text}Clone: 12% done.\rClone: 13% done.\r`), 13);
  assert.equal(parseProgress(`${text}Clone: 100% done.\n`), 100);
});

for (const [text, meaning] of [
  ["Failed to open '/vmfs/volumes/x/a.vmdk': Failed to lock the file (16392).", 'locked'],
  ["dd: can't open 'a-flat.vmdk': Device or resource busy", 'locked'],
  ['Failed to clone disk: There is not enough space on the file system for the selected operation (13).', 'full'],
  ['dd: writing: No space left on device', 'full'],
  ['DiskLib_Check() failed for source disk The system cannot find the file specified (25).', 'missing'],
  ['Failed to create virtual disk: The destination file already exists (5242887).', 'exists'],
  ['-sh: ./tool: Operation not permitted', 'denied'],
  ['Function not implemented', 'other'],
] as const) {
  test(`knows the meaning of: ${text}`, () => {
    assert.equal(classifyHostText(text), meaning);
  });
}

test('finds the words of a failure behind the progress', () => {
  assert.equal(
    lastWords('Clone: 12% done.\rClone: 13% done.\rFailed to clone disk: x (13).\n'),
    'Failed to clone disk: x (13).',
  );
  assert.equal(lastWords('1+0 records in\n1+0 records out\n'), '');
});

const MAP = `Mapping for file a.vmdk (4194304 bytes in size):
[           0:     1048576] --> [VMFS -- LVID:5f0e9a10-a1b2c3d4-7f1e-0cc47a000001/5f0e-1:(  72163000320 -->   72164048896)]
[     1048576:     1048576] --> [VMFS Z- LVID:5f0e9a10-a1b2c3d4-7f1e-0cc47a000001/5f0e-1:(  72164048896 -->   72165097472)]
[     2097152:     1048576] --> [NOMP -- :(  0 -->  1048576)]
[     3145728:     1048576] --> [VMFS -- LVID:5f0e9a10-a1b2c3d4-7f1e-0cc47a000001/5f0e-1:(  1 -->   1048577)]
`;

test('takes written parts from a block map', () => {
  const MIB = 1024 * 1024;
  assert.deepEqual(parseBlockMap(MAP, 4 * MIB), [
    { offsetBytes: 0, lengthBytes: MIB },
    { offsetBytes: 3 * MIB, lengthBytes: MIB },
  ]);
});

test('believes no block map that does not add up', () => {
  assert.equal(parseBlockMap(MAP, 5 * 1024 * 1024), null);
  assert.equal(parseBlockMap(MAP.replace('2097152:', '2097153:'), 4 * 1024 * 1024), null);
  assert.equal(parseBlockMap('', 512), null);
});

test('no parser throws, and written parts lie within the disk', () => {
  const line = fc.oneof(fc.string(), fc.constantFrom(...MAP.split('\n'), '[ 0: 8 ] --> [VMFS -- x', 'Clone: 7% done.'));
  fc.assert(
    fc.property(fc.array(line), fc.integer({ min: 1, max: 8 }), (lines, sectors) => {
      const text = lines.join('\n');
      parseProgress(text);
      classifyHostText(text);
      lastWords(text);
      for (const { offsetBytes, lengthBytes } of parseBlockMap(text, sectors * 512) ?? []) {
        assert.ok(offsetBytes + lengthBytes <= sectors * 512);
      }
    }),
  );
});
