import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { createRepository, openRepository } from './index.ts';
import { CHUNK, commitDisk, readByStream, sparseContent } from '../../test/fakes/small-repository.ts';

const PASSPHRASE = 'Grüße, 東京 and a horse';

describe('an encrypted repository', () => {
  it('gives back what was written, to whom has the passphrase', async () => {
    const storage = new MemoryStorage();
    const content = Buffer.concat([
      sparseContent(12 * CHUNK, 1),
      Buffer.from('a line that must not be seen\n'.repeat(4000)),
    ]);
    const files = [{ name: 'vm.vmx', kind: 'vmx', content: Buffer.from('displayName = "secret-host"\n'.repeat(50)) }];
    const made = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, passphrase: PASSPHRASE });
    const first = await commitDisk(made, 'a', content, { files, machineName: 'secret-host' });
    await made.close();

    const opened = await openRepository({ storage, threads: 1, passphrase: PASSPHRASE.normalize('NFD') });
    const point = await opened.openPoint(first.pointId);
    const disk = await point.openDisk('d0');
    assert.ok((await readByStream(disk)).equals(content));
    assert.ok((await disk.read(0, content.length)).equals(content));
    assert.deepEqual(await point.readFile('vm.vmx'), files[0]?.content);
    const second = await commitDisk(opened, 'b', content, {}, disk);
    assert.equal(second.disks[0]?.stats.newBytes, 0);
    const session = await opened.startWrite({ sessionId: 'c' });
    const writer = await session.openDisk({ key: 'd0', sizeBytes: CHUNK, base: null });
    await writer.write(0, Buffer.alloc(CHUNK, 'secret-host'));
    await session.checkpoint({ snapshot: 'secret-host' });
    await session.abort();
    assert.deepEqual((await opened.startWrite({ sessionId: 'c' })).checkpointFacts, { snapshot: 'secret-host' });
    assert.deepEqual((await opened.check({ depth: 'hashes' })).damages, []);
    await opened.close();
  });

  it('shows nothing of contents and names in its files', async () => {
    const storage = new MemoryStorage();
    const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, passphrase: PASSPHRASE });
    // Bytes that do not compress and so would lie there as they are.
    const marker = Buffer.from('0f8c1d2e3b4a59687786a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0', 'hex');
    const content = sparseContent(8 * CHUNK, 3);
    marker.copy(content, 5 * CHUNK + 17);
    await commitDisk(repository, 'a', content, { machineName: 'secret-host' });
    await repository.close();

    const plain = new MemoryStorage();
    const open = await createRepository({ storage: plain, chunkSizeBytes: CHUNK, threads: 0 });
    await commitDisk(open, 'a', content);
    await open.close();
    const ids = (files: MemoryStorage): Set<string> =>
      new Set(
        [...files.disk.files]
          .filter(([name]) => name.endsWith('.pack'))
          .map(([, { data }]) => data.toString('hex', data.length - 116, data.length - 84)),
      );
    for (const id of ids(plain)) assert.ok(!ids(storage).has(id), 'identities are keyed');
    for (const [name, { data }] of storage.disk.files) {
      assert.equal(data.indexOf(marker), -1, name);
      assert.equal(data.indexOf('secret-host'), -1, name);
      assert.equal(data.indexOf(PASSPHRASE), -1, name);
    }
  });

  it('refuses to open without the passphrase, or with another', async () => {
    const storage = new MemoryStorage();
    await (await createRepository({ storage, threads: 0, passphrase: PASSPHRASE })).close();

    await assert.rejects(openRepository({ storage }), { code: 'REPOSITORY_KEY_NEEDED' });
    await assert.rejects(openRepository({ storage, passphrase: 'guess' }), { code: 'REPOSITORY_KEY_WRONG' });
    const slot = [...storage.disk.files].find(([name]) => name.startsWith('keys/'));
    assert.ok(slot !== undefined);
    slot[1].data[100] = (slot[1].data[100] as number) ^ 1;
    await assert.rejects(openRepository({ storage, passphrase: PASSPHRASE }), {
      code: 'REPOSITORY_KEY_WRONG',
      hint: /damaged/,
    });
  });

  it('notices a changed bit of a chunk, and a chunk put in the place of another', async () => {
    const storage = new MemoryStorage();
    const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, passphrase: PASSPHRASE });
    const manifest = await commitDisk(repository, 'a', sparseContent(8 * CHUNK, 3));
    const [name, file] =
      [...storage.disk.files].find(([one, { data }]) => one.endsWith('.pack') && data[12] === 0) ?? [];
    assert.ok(name !== undefined && file !== undefined);
    file.data[80] = (file.data[80] as number) ^ 4;

    const { damages } = await repository.check({ depth: 'hashes' });
    assert.deepEqual(
      damages.map((damage) => damage.name),
      [name],
    );
    const disk = await (await repository.openPoint(manifest.pointId)).openDisk('d0');
    await assert.rejects(disk.read(0, disk.sizeBytes), { code: 'REPOSITORY_CHUNK_DAMAGED' });
    await repository.close();
  });
});
