import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { selectionSchema } from '../contract/api/selection.schema.ts';
import { selectMachines, type SelectableMachine } from './selection.ts';

const HOST_A = '00000000000000aa';
const HOST_B = '00000000000000bb';

function machine(number: number, name: string, facts: Partial<SelectableMachine> = {}): SelectableMachine {
  const disks = [
    { key: 'scsi0:0', label: 'Hard disk 1', datastore: 'fast' },
    { key: 'scsi0:1', label: 'Hard disk 2', datastore: 'swap' },
  ];
  const path = `[fast] ${name}/${name}.vmx`;
  return { id: `000000000000000${number}`, name, hostId: HOST_A, path, notes: '', disks, ...facts };
}

const MACHINES = [
  machine(1, 'web-1', { notes: 'Owner: Anna\r\n  Backup: daily  \r\n' }),
  machine(2, 'WEB-2', { hostId: HOST_B }),
  machine(3, 'db', { notes: 'backup: DAILY, but not on sundays', path: '[slow] prod/db/db.vmx' }),
  machine(4, 'ärzte (alt)', { notes: 'no backup: daily' }),
];

function selected(input: object, machines = MACHINES): string[] {
  return selectMachines(selectionSchema.parse(input), machines)
    .filter((one) => one.selected)
    .map(({ id }) => id.slice(-1));
}

describe('a selection by rule', () => {
  it('takes names by pattern, whatever their case', () => {
    assert.deepEqual(selected({ include: [{ name: 'web-*' }] }), ['1', '2']);
    assert.deepEqual(selected({ include: [{ name: 'web' }] }), []);
    assert.deepEqual(selected({ include: [{ name: '?b' }] }), ['3']);
    assert.deepEqual(selected({ include: [{ name: 'Ä*(?lt)' }] }), ['4']);
    // A bracket, a dot and a plus are themselves.
    assert.deepEqual(selected({ include: [{ name: 'd.' }, { name: '[wd]*' }, { name: 'web.+' }] }), []);
    assert.deepEqual(selected({ include: [{ name: 'A\u0308rzte*' }] }), ['4']);
  });

  it('takes whole lines of the notes, folders of a datastore, and machines of a host', () => {
    assert.deepEqual(selected({ include: [{ note: 'backup: daily' }] }), ['1']);
    assert.deepEqual(selected({ include: [{ note: 'backup: daily*' }] }), ['1', '3']);
    assert.deepEqual(selected({ include: [{ path: '[slow] prod/*' }] }), ['3']);
    assert.deepEqual(selected({ include: [{ hostId: HOST_B }] }), ['2']);
    assert.deepEqual(selected({ include: [{ hostId: HOST_A, name: 'web*' }] }), ['1']);
  });

  it('leaves out what is excluded, but shows that a rule fits it', () => {
    const input = {
      include: [{ name: '*' }],
      exclude: [{ note: 'no backup*' }, { name: 'web*', hostId: HOST_B }],
      excludeMachineIds: ['0000000000000003'],
    };
    assert.deepEqual(selected(input), ['1']);
    assert.equal(selectMachines(selectionSchema.parse(input), MACHINES).length, 4);
  });

  it('leaves out disks by key, label and datastore', () => {
    const input = {
      include: [{ name: 'web*' }],
      excludeDisks: [{ datastore: 'swap', machine: 'web-1' }, { key: 'scsi1:*' }, { label: 'Hard disk 3' }],
    };
    assert.deepEqual(
      selectMachines(selectionSchema.parse(input), MACHINES).map(({ excludedDisks }) => excludedDisks),
      [['scsi0:1'], []],
    );
  });

  it('is not slowed down by a hostile pattern', () => {
    const pattern = '*a'.repeat(120);
    const hostile = machine(5, `${'a'.repeat(119)}b`);
    // Tried in every way it would take years.
    const before = process.cpuUsage();
    assert.deepEqual(selected({ include: [{ name: pattern }] }, [hostile]), []);
    assert.ok(process.cpuUsage(before).user < 20e6);
  });

  it('refuses rules that name nothing', () => {
    assert.equal(selectionSchema.safeParse({ include: [] }).success, false);
    assert.equal(selectionSchema.safeParse({ include: [{}] }).success, false);
    assert.equal(selectionSchema.safeParse({ include: [{ name: '  ' }] }).success, false);
    assert.equal(
      selectionSchema.safeParse({ include: [{ name: '*' }], excludeDisks: [{ machine: 'a' }] }).success,
      false,
    );
  });
});
