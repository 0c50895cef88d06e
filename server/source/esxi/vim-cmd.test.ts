import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  chooseMovedOrCopied,
  parseAutostartOrder,
  parseDump,
  parseMachineList,
  parsePowerState,
  parseQuestion,
  parseRegisteredId,
  parseSnapshotTree,
  parseTaskIds,
} from './vim-cmd.ts';

const MACHINES = `Vmid           Name                          File                          Guest OS          Version   Annotation
10     vm1                [ds2] vm1_1/vm1_1.vmx                     windows8Server64Guest    vmx-17
12     my vm (old)        [data store 1] my vm/my vm.vmx            ubuntu64Guest            vmx-19    first line
second line of the note
   99 no row
10     imitation          [evil] x/x.vmx     otherGuest   vmx-13

2      sql "ü" 日本       [ds1] sql/sql.vmx                         windows2019srv_64Guest   vmx-14             
Skipping invalid VM '4'
`;

test('reads the machine list with notes that run over lines and imitate rows', () => {
  const { rows, invalidIds } = parseMachineList(MACHINES);
  assert.deepEqual(
    rows.map((row) => [row.id, row.name, row.datastore, row.file]),
    [
      ['10', 'vm1', 'ds2', 'vm1_1/vm1_1.vmx'],
      ['12', 'my vm (old)', 'data store 1', 'my vm/my vm.vmx'],
      ['2', 'sql "ü" 日本', 'ds1', 'sql/sql.vmx'],
    ],
  );
  assert.deepEqual(invalidIds, ['4']);
});

const TREE = `Get Snapshot:
|-ROOT
--Snapshot Name        : before update
--Snapshot Id        : 1
--Snapshot Desciption  : text, may
continue on further lines
--Snapshot Created On  : 9/21/2026 14:56:33
--Snapshot State       : powered off
--|-CHILD
----Snapshot Name        : dozo-7f3a000000000000
----Snapshot Id        : 2
----Snapshot Desciption  :
----Snapshot Created On  : 9/21/2026 15:2:3
----Snapshot State       : powered off
`;

test('reads the snapshot tree', () => {
  assert.deepEqual(parseSnapshotTree(TREE), [
    { id: '1', name: 'before update', description: 'text, may\ncontinue on further lines', depth: 0 },
    { id: '2', name: 'dozo-7f3a000000000000', description: '', depth: 1 },
  ]);
  assert.deepEqual(parseSnapshotTree('Get Snapshot:\n'), []);
});

test('does not take an id out of a description', () => {
  const nodes = parseSnapshotTree(
    'Get Snapshot:\n|-ROOT\n--Snapshot Name        : a\n--Snapshot Id        : 1\n--Snapshot Desciption  : x\n--Snapshot Id        : 7\n',
  );
  assert.deepEqual(
    nodes.map((node) => node.id),
    ['1'],
  );
});

test('reads power states, task ids and the id of a new registration', () => {
  assert.equal(parsePowerState('Retrieved runtime info\nPowered on\n'), 'on');
  assert.equal(parsePowerState('Retrieved runtime info\nPowered off\n'), 'off');
  assert.equal(parsePowerState('Retrieved runtime info\nSuspended\n'), 'suspended');
  assert.equal(parsePowerState('Unable to find a VM corresponding to "999"'), null);
  assert.deepEqual(
    parseTaskIds("(ManagedObjectReference) [\n   'vim.Task:haTask-5-vim.VirtualMachine.createSnapshot-1234'\n]\n"),
    ['haTask-5-vim.VirtualMachine.createSnapshot-1234'],
  );
  assert.equal(parseRegisteredId('17\n'), '17');
  assert.equal(parseRegisteredId('(vim.fault.AlreadyExists) {\n}\n'), null);
});

const QUESTION = `Virtual machine message 27:
msg.uuid.altered:This virtual machine may have been moved or copied.
In order to configure certain management and networking features, VMware ESX needs to know if this virtual machine was moved or copied.
If you don't know, answer "I copied it".
0. Cancel (Cancel)
1. I _moved it (I _moved it)
2. I _copied it (I _copied it) [default]
`;

test('reads a question and finds the answers in any order', () => {
  const question = parseQuestion(QUESTION);
  assert.ok(question !== null);
  assert.equal(question.id, '27');
  assert.equal(question.key, 'msg.uuid.altered');
  assert.equal(question.choices.length, 3);
  assert.equal(question.choices[2]?.isDefault, true);
  assert.equal(chooseMovedOrCopied(question, 'moved'), '1');
  assert.equal(chooseMovedOrCopied(question, 'copied'), '2');
  assert.equal(parseQuestion('No message.\n'), null);
  const older = parseQuestion(QUESTION.replace('message 27', 'message _vmx1').replace('1. I _moved', '5. I _moved'));
  assert.equal(older?.id, '_vmx1');
  assert.equal(older === null ? null : chooseMovedOrCopied(older, 'moved'), '5');
});

test('reads a dump with unset values, lists, references and quotes in texts', () => {
  const value = parseDump(`Listsummary:

(vim.vm.Summary) {
   vm = 'vim.VirtualMachine:1', 
   runtime = (vim.vm.RuntimeInfo) {
      powerState = "poweredOn", 
      bootTime = <unset>,
      question = (vim.vm.QuestionInfo) null,
      numMksConnections = 0
   },
   config = (vim.vm.Summary.ConfigSummary) {
      name = "a "quoted" name",
      vmPathName = "[ds1] a/a.vmx", 
      template = false
   },
   disk = (string) [
      "[ds1] a/a.vmdk",
      "[ds1] a/b.vmdk"
   ]
}
`);
  assert.deepEqual(JSON.parse(JSON.stringify(value)), {
    _type: 'vim.vm.Summary',
    vm: 'vim.VirtualMachine:1',
    runtime: {
      _type: 'vim.vm.RuntimeInfo',
      powerState: 'poweredOn',
      bootTime: null,
      question: null,
      numMksConnections: 0,
    },
    config: {
      _type: 'vim.vm.Summary.ConfigSummary',
      name: 'a "quoted" name',
      vmPathName: '[ds1] a/a.vmx',
      template: false,
    },
    disk: ['[ds1] a/a.vmdk', '[ds1] a/b.vmdk'],
  });
  assert.equal(parseDump('Unable to find a VM corresponding to "999"'), null);
  assert.equal(parseDump('(x) { a = '), null);
});

test('reads which machines start with the host', () => {
  const entry = (id: number, order: number, action: string): string =>
    `   (vim.host.AutoStartManager.AutoPowerInfo) {
      key = 'vim.VirtualMachine:${id}', 
      startOrder = ${order}, 
      startDelay = -1, 
      startAction = "${action}", 
      stopAction = "systemDefault"
   }`;
  const entries = [entry(3, 1, 'PowerOn'), entry(30, -1, 'powerOn'), entry(4, 2, 'None')];
  const text = `(vim.host.AutoStartManager.AutoPowerInfo) [\n${entries.join(', \n')}\n]\n`;
  const places = ['3', '30', '4', '5'].map((id) => parseAutostartOrder(text, id));
  assert.deepEqual(places, [1, -1, null, null]);
  assert.equal(parseAutostartOrder('(vim.host.AutoStartManager.AutoPowerInfo) []\n', '3'), null);
  assert.equal(parseAutostartOrder('Permission denied', '3'), null);
});

test('no parser throws or hangs, whatever the host prints', () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom(...MACHINES.split('\n'), ...TREE.split('\n'), ...QUESTION.split('\n')),
    fc.constantFrom('(a.b) {', '(a) [', 'x = (y) {', '}', ']', 'k = "v', "'", '"', '<unset>,'),
  );
  fc.assert(
    fc.property(
      fc.array(line).map((lines) => lines.join('\n')),
      (text) => {
        for (const { id } of parseMachineList(text).rows) assert.match(id, /^\d+$/);
        for (const { id } of parseSnapshotTree(text)) assert.match(id, /^\d+$/);
        parsePowerState(text);
        parseTaskIds(text);
        parseRegisteredId(text);
        parseQuestion(text);
        parseDump(text);
      },
    ),
  );
});
