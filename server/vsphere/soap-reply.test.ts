import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseFault, parseReply, ReplyUnreadable } from './soap-reply.ts';
import { faultReply, reply } from './testing/stand-in-host.ts';

const value = (inside: string, kind = 'anyType'): unknown => parseReply(reply('Some', inside), 'Some', kind);
const property = (val: string): unknown =>
  (value(`<propSet><name>p</name>${val}</propSet>`, 'ObjectContent') as { propSet: { val: unknown }[] }).propSet[0]
    ?.val;

test('gives values the type that the host names', () => {
  assert.equal(property('<val xsi:type="xsd:string">123</val>'), '123');
  assert.equal(property('<val xsi:type="xsd:int">-7</val>'), -7);
  assert.equal(property('<val xsi:type="xsd:long">1099511627776</val>'), 1_099_511_627_776);
  assert.equal(property('<val xsi:type="xsd:boolean">false</val>'), false);
  assert.equal(property('<val xsi:type="xsd:dateTime">2026-01-02T03:04:05Z</val>'), '2026-01-02T03:04:05Z');
  assert.equal(property('<val xsi:type="VirtualMachinePowerState">poweredOn</val>'), 'poweredOn');
  assert.deepEqual(property('<val type="VirtualMachine" xsi:type="ManagedObjectReference">12</val>'), {
    type: 'VirtualMachine',
    value: '12',
  });
  assert.deepEqual(property('<val xsi:type="VirtualMachineSnapshotInfo"></val>'), {
    _type: 'VirtualMachineSnapshotInfo',
  });
});

test('reads types under any prefix, as the simulator sends them', () => {
  const xml = reply(
    'Some',
    '<propSet><name>p</name><val xmlns:XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance" XMLSchema-instance:type="xsd:int">4</val></propSet>',
  );

  const content = parseReply(xml, 'Some', 'ObjectContent') as { propSet: { val: unknown }[] };

  assert.equal(content.propSet[0]?.val, 4);
});

test('keeps arrays arrays, whatever their length', () => {
  assert.deepEqual(property('<val xsi:type="ArrayOfString"></val>'), []);
  assert.deepEqual(property('<val xsi:type="ArrayOfString"><string>1</string></val>'), ['1']);
  assert.deepEqual(property('<val xsi:type="ArrayOfInt"><int>1</int><int>2</int></val>'), [1, 2]);
  assert.deepEqual(
    property(
      '<val xsi:type="ArrayOfManagedObjectReference"><ManagedObjectReference type="Datastore" xsi:type="ManagedObjectReference">a</ManagedObjectReference></val>',
    ),
    [{ type: 'Datastore', value: 'a' }],
  );
});

test('gives nested properties their declared types', () => {
  const devices = property(
    `<val xsi:type="ArrayOfVirtualDevice"><VirtualDevice xsi:type="VirtualDisk"><key>2000</key>
     <deviceInfo><label>Hard disk 1</label><summary>104,857,600 KB</summary></deviceInfo>
     <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] 42/42.vmdk</fileName><thinProvisioned>true</thinProvisioned>
     <uuid>6000C29a</uuid><changeId>52 2d/1</changeId><parent><fileName>[ds] a.vmdk</fileName><thinProvisioned>false</thinProvisioned></parent></backing>
     <controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>104857600</capacityInKB>
     <capacityInBytes>107374182400</capacityInBytes></VirtualDevice></val>`,
  );

  assert.deepEqual(devices, [
    {
      _type: 'VirtualDisk',
      key: 2000,
      deviceInfo: { _type: 'Description', label: 'Hard disk 1', summary: '104,857,600 KB' },
      backing: {
        _type: 'VirtualDiskFlatVer2BackingInfo',
        fileName: '[ds] 42/42.vmdk',
        thinProvisioned: true,
        uuid: '6000C29a',
        changeId: '52 2d/1',
        parent: { _type: 'VirtualDiskFlatVer2BackingInfo', fileName: '[ds] a.vmdk', thinProvisioned: false },
      },
      controllerKey: 1000,
      unitNumber: 0,
      capacityInKB: 104_857_600,
      capacityInBytes: 107_374_182_400,
    },
  ]);
});

test('leaves names alone that look like numbers', () => {
  const snapshot = property(
    '<val xsi:type="VirtualMachineSnapshotInfo"><rootSnapshotList><snapshot type="VirtualMachineSnapshot">1-snapshot-2</snapshot><name>2026</name><description>true</description><id>2</id><quiesced>false</quiesced></rootSnapshotList></val>',
  ) as { rootSnapshotList: Record<string, unknown>[] };

  assert.equal(snapshot.rootSnapshotList.length, 1);
  const [tree] = snapshot.rootSnapshotList;
  assert.equal(tree?.['name'], '2026');
  assert.equal(tree['description'], 'true');
  assert.equal(tree['id'], 2);
  assert.equal(tree['quiesced'], false);
});

test('decodes every form of character', () => {
  assert.equal(
    property('<val xsi:type="xsd:string"> a&lt;b&gt;&amp;&quot;&apos;&#xe4;&#20206;&#13; </val>'),
    ` a<b>&"'ä仮\r `,
  );
});

test('reads a change map to the byte', () => {
  assert.deepEqual(
    value(
      '<startOffset>0</startOffset><length>9007199254740991</length><changedArea><start>4398046511104</start><length>65536</length></changedArea>',
      'DiskChangeInfo',
    ),
    {
      _type: 'DiskChangeInfo',
      startOffset: 0,
      length: 9_007_199_254_740_991,
      changedArea: [{ _type: 'DiskChangeExtent', start: 4_398_046_511_104, length: 65_536 }],
    },
  );
});

test('refuses what is no whole reply', () => {
  const whole = reply('Some', '<a>1</a>');

  for (const text of [
    '',
    '<html></html>',
    whole.slice(0, -20),
    whole.replace('SomeResponse', 'OtherResponse'),
    `<!DOCTYPE x>${whole}`,
  ]) {
    assert.throws(() => parseReply(text, 'Some', 'string'), ReplyUnreadable);
  }
});

test('gives a value or says unreadable for any bytes', () => {
  const parts = [
    '<a>',
    '</a>',
    '&#x0;',
    '<![CDATA[',
    ']]>',
    '<!--',
    'xsi:type="',
    '"',
    '__proto__',
    '<constructor>',
    '&amp;',
  ];
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constantFrom(...parts), fc.string()), { maxLength: 12 }), (words) => {
      try {
        value(words.join(''));
      } catch (error) {
        assert.ok(error instanceof ReplyUnreadable);
      }
      assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    }),
    { numRuns: 400 },
  );
});

test('reads faults with what they tell', () => {
  const fault = parseFault(
    faultReply({
      fault: 'FileFault',
      text: 'Error caused by file /vmfs/volumes/x/y.vmdk',
      inside:
        '<faultMessage><key>vim.hostd.vmsvc.cbt.noTrack</key><message>Change tracking is not active</message></faultMessage><file>/vmfs/volumes/x/y.vmdk</file>',
    }),
  );

  assert.equal(fault?.type, 'FileFault');
  assert.equal(fault.properties['file'], '/vmfs/volumes/x/y.vmdk');
  assert.deepEqual(fault.properties['faultMessage'], [
    { _type: 'LocalizableMessage', key: 'vim.hostd.vmsvc.cbt.noTrack', message: 'Change tracking is not active' },
  ]);
  assert.equal(parseFault(reply('Some', '')), null);
  assert.equal(parseFault('noise'), null);
});
