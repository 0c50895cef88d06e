import assert from 'node:assert/strict';
import { test } from 'node:test';
import { baseNameOf, DatastoreMap, folderOf, formatDatastorePath, parseDatastorePath } from './datastore-path.ts';

test('takes paths apart, brackets in names included', () => {
  assert.deepEqual(parseDatastorePath('[ds1] a b/c.vmx'), { datastore: 'ds1', file: 'a b/c.vmx' });
  assert.deepEqual(parseDatastorePath('[a]b] x/y.vmx', ['a', 'a]b']), { datastore: 'a]b', file: 'x/y.vmx' });
  assert.deepEqual(parseDatastorePath('[ds1]'), { datastore: 'ds1', file: '' });
  assert.equal(formatDatastorePath({ datastore: 'ds1', file: 'x' }), '[ds1] x');
  assert.throws(() => parseDatastorePath('ds1/x'), { code: 'HOST_ANSWER_UNREADABLE' });
  assert.equal(folderOf('a/b.vmx'), 'a');
  assert.equal(folderOf('b.vmx'), '');
  assert.equal(baseNameOf('a/b.vmx'), 'b.vmx');
});

test('turns paths into those of the shell and back', () => {
  const map = new DatastoreMap([
    { name: 'ds 1', url: 'ds:///vmfs/volumes/5f0e-1/' },
    { name: 'nfs', url: '/somewhere/else' },
  ]);
  assert.equal(map.toShell({ datastore: 'ds 1', file: 'a/b' }), '/vmfs/volumes/5f0e-1/a/b');
  assert.equal(map.toShell({ datastore: 'nfs', file: '' }), '/vmfs/volumes/nfs');
  assert.deepEqual(map.fromShell('/vmfs/volumes/5f0e-1/a/b'), { datastore: 'ds 1', file: 'a/b' });
  assert.deepEqual(map.fromShell('/vmfs/volumes/ds 1/a/b'), { datastore: 'ds 1', file: 'a/b' });
  assert.throws(() => map.fromShell('/vmfs/volumes/unknown/a'), { code: 'DATASTORE_NOT_FOUND' });
  assert.equal(map.toShellIfThere('[ds 1] a/b'), '/vmfs/volumes/5f0e-1/a/b');
  for (const text of ['', '[] /vmfs/volumes/5f0e-2/a/b', '[gone] a/b', '/vmfs/volumes/5f0e-2/a']) {
    assert.equal(map.toShellIfThere(text), null, text);
  }
  assert.throws(() => map.rootOf('gone'), { code: 'DATASTORE_NOT_FOUND' });
});

test('resolves names of configuration files', () => {
  const map = new DatastoreMap([{ name: 'ds1', url: '/vmfs/volumes/u1' }]);
  const folder = { datastore: 'ds1', file: 'vm' };
  assert.deepEqual(map.resolve(folder, 'a.vmdk'), { datastore: 'ds1', file: 'vm/a.vmdk' });
  assert.deepEqual(map.resolve(folder, '/vmfs/volumes/u1/o/a.vmdk'), { datastore: 'ds1', file: 'o/a.vmdk' });
  assert.deepEqual(map.resolve(folder, '[ds1] o/a.vmdk'), { datastore: 'ds1', file: 'o/a.vmdk' });
  assert.deepEqual(map.resolve(folder, '[old] a.vmdk'), { datastore: 'ds1', file: 'vm/[old] a.vmdk' });
});
