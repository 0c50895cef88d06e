import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { assertStorageName } from '../storage/index.ts';
import { publishRestoreTool, restoreToolName } from './restore-tool-file.ts';

describe('the restore tool in a repository', () => {
  it('is published once a version, also by two workers at once, and never changed', async () => {
    const storage = new MemoryStorage();
    const one = { version: '0.1.0', content: Buffer.from('one') };
    await Promise.all([publishRestoreTool(storage, one), publishRestoreTool(new MemoryStorage(storage.disk), one)]);
    await publishRestoreTool(storage, { ...one, content: Buffer.from('other') });
    await publishRestoreTool(storage, { version: '0.2.0-Beta+7 x', content: Buffer.from('newer') });

    assert.equal((await storage.read('dozo-restore-0.1.0.js')).toString(), 'one');
    assert.equal((await storage.read('dozo-restore-0.2.0-beta-7-x.js')).toString(), 'newer');
    assertStorageName(restoreToolName('../../etc'));
  });
});
