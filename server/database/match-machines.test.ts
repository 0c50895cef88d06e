import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { MachineIdentityView } from '../contract/api/machine.schema.ts';
import { matchMachines } from './match-machines.ts';

const web: MachineIdentityView = {
  name: 'web',
  instanceUuid: '52a1c7e0-0000-0000-0000-000000000001',
  biosUuid: '564d0000-0000-0000-0000-000000000001',
  path: '[ds1] web/web.vmx',
  diskUuids: ['6000C29a 11 22'],
};
const mail: MachineIdentityView = {
  name: 'mail',
  instanceUuid: '52a1c7e0-0000-0000-0000-000000000002',
  biosUuid: '564d0000-0000-0000-0000-000000000002',
  path: '[ds1] mail/mail.vmx',
  diskUuids: ['6000c29a-3344'],
};

describe('matching of machines', () => {
  it('knows a machine that was renamed, moved and registered again', () => {
    const moved = { ...web, name: 'web new', path: '[ds2] web_1/web.vmx' };
    assert.deepEqual(matchMachines([web, mail], [mail, moved]), [1, 0]);
  });

  it('knows a machine whose host gave it a new instance UUID, by BIOS UUID and disk', () => {
    const restored = { ...web, instanceUuid: '52ffffff-0000-0000-0000-000000000009', path: '[ds2] r/r.vmx' };
    assert.deepEqual(matchMachines([web], [mail, restored]), [1]);
  });

  it('knows a machine by path and disk when all its UUIDs are new', () => {
    const renewed = { ...web, instanceUuid: 'aaaa', biosUuid: 'bbbb' };
    assert.deepEqual(matchMachines([web], [renewed]), [0]);
  });

  it('does not take another machine at the same path for it', () => {
    const other = { ...web, instanceUuid: 'aaaa', biosUuid: 'bbbb', diskUuids: ['cccc'] };
    assert.deepEqual(matchMachines([web], [other]), [null]);
  });

  it('goes by the path where a machine has no UUIDs at all', () => {
    const bare = { name: 'bare', instanceUuid: null, biosUuid: null, path: '[ds1] bare/bare.vmx', diskUuids: [] };
    assert.deepEqual(matchMachines([bare, web], [web, { ...bare, name: 'renamed' }]), [1, 0]);
  });

  it('leaves the original itself where a copy kept all its UUIDs', () => {
    const copy = { ...web, name: 'web copy', path: '[ds1] copy/web.vmx' };
    assert.deepEqual(matchMachines([web], [copy, web]), [1]);
    assert.deepEqual(matchMachines([web], [copy]), [0]);
  });

  it('does not merge machines that share a BIOS UUID but no disk (clones of a template)', () => {
    const clone = { ...mail, biosUuid: web.biosUuid };
    assert.deepEqual(matchMachines([web], [clone]), [null]);
  });

  it('reads UUIDs however they are written', () => {
    const spelled = { ...web, instanceUuid: '52 A1 C7 E0 00 00 00 00-00 00 00 00 00 00 00 01', path: '[x] y/z.vmx' };
    assert.deepEqual(matchMachines([web], [spelled]), [0]);
  });

  it('matches nothing twice, and finds every machine that did not change', () => {
    const uuid = fc.option(fc.constantFrom('aa', 'bb', 'cc', 'dd'), { nil: null });
    const identity = fc.record({
      name: fc.string(),
      instanceUuid: uuid,
      biosUuid: uuid,
      path: fc.constantFrom('[a] 1', '[a] 2', '[a] 3'),
      diskUuids: fc.array(fc.constantFrom('11', '22', '33'), { maxLength: 2 }),
    });
    fc.assert(
      fc.property(fc.array(identity, { maxLength: 6 }), fc.array(identity, { maxLength: 6 }), (known, found) => {
        const matches = matchMachines(known, found);
        assert.equal(matches.length, known.length);
        const used = matches.filter((match) => match !== null);
        assert.equal(new Set(used).size, used.length);
        for (const match of used) assert.ok(match < found.length);
      }),
    );
    fc.assert(
      fc.property(
        fc.uniqueArray(
          identity.filter((one) => one.instanceUuid !== null),
          {
            selector: (one) => one.instanceUuid,
            maxLength: 4,
          },
        ),
        (machines) => {
          const matches = matchMachines(machines, [...machines].reverse());
          assert.deepEqual(
            matches,
            machines.map((_machine, index) => machines.length - 1 - index),
          );
        },
      ),
    );
  });
});
