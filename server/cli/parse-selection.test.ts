import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { selectionSchema } from '../contract/api/selection.schema.ts';
import { collectDiskRules, collectMachineRules, describeSelection, toMachineRule } from './parse-selection.ts';

describe('rules of a selection', () => {
  it('are read into what the API takes', async () => {
    const [first = {}, second = {}] = collectMachineRules(
      'note=backup: daily=yes & host=esx1',
      collectMachineRules('name=web-*', []),
    );
    const findHost = async (text: string): Promise<string> => (text === 'esx1' ? '00000000000000aa' : '');
    const selection = selectionSchema.parse({
      include: [await toMachineRule(first, findHost), await toMachineRule(second, findHost)],
      excludeDisks: collectDiskRules('datastore=swap & machine=web*', []),
    });
    assert.deepEqual(selection.include, [{ name: 'web-*' }, { note: 'backup: daily=yes', hostId: '00000000000000aa' }]);
    assert.equal(
      describeSelection(selection),
      'name=web-* or note=backup: daily=yes & hostId=00000000000000aa; without disks machine=web* & datastore=swap',
    );
  });

  it('are refused when they name what is not known, or nothing', () => {
    for (const text of ['web-*', 'colour=red', 'name=', '=x', 'name=a & name=b', 'key=scsi0:0']) {
      assert.throws(() => collectMachineRules(text, []), { code: 'commander.invalidArgument' }, text);
    }
    assert.throws(() => collectDiskRules('name=web', []), { code: 'commander.invalidArgument' });
  });
});
