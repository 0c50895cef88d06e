import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, sparseContent } from '../../test/fakes/small-repository.ts';
import { createRepository, drillKey, looksLikeRecoveryKey, openKeyring, openRepository } from './index.ts';
import type { KeySecret } from './index.ts';
import { encodePoint } from './point-file.ts';
import { encodeRecoveryKey, parseRecoveryKey } from './recovery-key.ts';
import { chooseScryptN, measuredScryptCost } from './scrypt-cost.ts';

const PASSPHRASE = 'first passphrase of the test';
const CONTENT = sparseContent(5 * CHUNK + 77, 4);

async function encrypted(): Promise<{ storage: MemoryStorage; pointId: string }> {
  const storage = new MemoryStorage();
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, passphrase: PASSPHRASE });
  const { pointId } = await commitDisk(repository, 'a', CONTENT);
  await repository.close();
  return { storage, pointId };
}

async function assertOpens(storage: MemoryStorage, secret: KeySecret, pointId: string): Promise<void> {
  const repository = await openRepository({ storage, threads: 0, ...secret });
  const disk = await (await repository.openPoint(pointId)).openDisk('d0');
  assert.ok((await readByStream(disk)).equals(CONTENT));
  assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
  await repository.close();
}

describe('the keyring of an encrypted repository', () => {
  it('adds keys of every kind, each of which reads all data, without writing a pack again', async () => {
    const { storage, pointId } = await encrypted();
    const data = (): string[] => [...storage.disk.files.keys()].filter((name) => !name.startsWith('keys/')).sort();
    const before = data();
    const ring = await openKeyring({ storage, secret: { passphrase: PASSPHRASE } });

    const second = await ring.addPassphrase('Grüße 東京', 'second');
    const { recoveryKey } = await ring.addRecoveryKey('safe');
    const { machineKey } = await ring.addMachineKey('this NAS');

    assert.deepEqual(
      (await ring.list()).map(({ kind, label }) => [kind, label]),
      [
        ['passphrase', 'first passphrase'],
        ['passphrase', 'second'],
        ['recovery', 'safe'],
        ['machine', 'this NAS'],
      ],
    );
    assert.deepEqual(data(), before);
    await assertOpens(storage, { passphrase: 'Grüße 東京'.normalize('NFD') }, pointId);
    await assertOpens(storage, { recoveryKey: `  ${recoveryKey.toUpperCase().replaceAll(' ', '\n')} ` }, pointId);
    await assertOpens(storage, { machineKey }, pointId);
    assert.equal((await openKeyring({ storage, secret: { passphrase: 'Grüße 東京' } })).openedSlotId, second.slotId);
  });

  it('removes a key, which then opens nothing, but never the last one for people', async () => {
    const { storage, pointId } = await encrypted();
    const ring = await openKeyring({ storage, secret: { passphrase: PASSPHRASE } });
    await ring.addMachineKey('this NAS');
    await assert.rejects(ring.remove(ring.openedSlotId), { code: 'CONFLICT', hint: /Add another/ });

    const { recoveryKey } = await ring.addRecoveryKey('safe');
    await ring.remove(ring.openedSlotId);

    await assert.rejects(openKeyring({ storage, secret: { passphrase: PASSPHRASE } }), {
      code: 'REPOSITORY_KEY_WRONG',
    });
    await assert.rejects(ring.remove('0123456789abcdef'), { code: 'NOT_FOUND' });
    await assertOpens(storage, { recoveryKey }, pointId);
  });

  it('opens with the first writing of what it was told, whatever stands beside it', async () => {
    const { storage, pointId } = await encrypted();
    storage.disk.files.set('keys/0000000000000000.key', { data: Buffer.from('rubbish'), modifiedAtMs: 0 });
    storage.disk.files.set('keys/readme', { data: Buffer.from('rubbish'), modifiedAtMs: 0 });

    await assertOpensDespiteDamage(storage, pointId);
    await assert.rejects(openKeyring({ storage, secret: { passphrase: 'wrong' } }), { hint: /damaged/ });
  });

  it('does not take the slots of another repository for its own', async () => {
    const { storage } = await encrypted();
    const other = await encrypted();
    for (const name of [...storage.disk.files.keys()]) if (name.startsWith('keys/')) storage.disk.files.delete(name);
    for (const [name, file] of other.storage.disk.files)
      if (name.startsWith('keys/')) storage.disk.files.set(name, file);

    await assert.rejects(openKeyring({ storage, secret: { passphrase: PASSPHRASE } }), {
      code: 'REPOSITORY_KEY_WRONG',
    });
  });

  it('takes no plain repository for the encrypted one that it has a key of', async () => {
    const { storage } = await encrypted();
    const { machineKey } = await (
      await openKeyring({ storage, secret: { passphrase: PASSPHRASE } })
    ).addMachineKey('this NAS');
    const plain = new MemoryStorage();
    await (await createRepository({ storage: plain, chunkSizeBytes: CHUNK, threads: 0 })).close();
    const header = plain.disk.files.get('repository.dozo');
    assert.ok(header !== undefined);
    storage.disk.files.set('repository.dozo', header);

    await assert.rejects(openRepository({ storage, threads: 0, machineKey }), {
      code: 'REPOSITORY_KEY_WRONG',
      message: /not encrypted, as it should be/,
    });
  });

  it('shows a version as damaged that somebody without the key has made', async () => {
    const { storage, pointId } = await encrypted();
    const name = `points/${pointId}.point`;
    const file = storage.disk.files.get(name);
    assert.ok(file !== undefined);
    const ring = await openRepository({ storage, threads: 0, passphrase: PASSPHRASE });
    const { manifest } = await ring.openPoint(pointId);
    await ring.close();
    // Ids of disks can be seen in the tables of packs; a check sum can be made by anybody.
    const content = {
      manifest: { ...manifest, machineName: 'forged' },
      files: [],
      sessionId: 's',
      chunkSizeBytes: CHUNK,
    };
    file.data = encodePoint(content, null).bytes;

    const repository = await openRepository({ storage, threads: 0, passphrase: PASSPHRASE });
    const [listing] = await repository.listPoints();
    assert.match(listing?.damage ?? '', /not encrypted/);
    await assert.rejects(repository.openPoint(pointId), { code: 'REPOSITORY_MANIFEST_DAMAGED' });
    await repository.close();
  });

  it('has none where nothing is encrypted', async () => {
    const storage = new MemoryStorage();
    await (await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 })).close();
    await assert.rejects(openKeyring({ storage, secret: { passphrase: 'x' } }), { code: 'CONFLICT' });
  });
});

describe('a key drill', () => {
  it('reads the newest version with the key, and says which slot it was', async () => {
    const { storage, pointId } = await encrypted();
    const ring = await openKeyring({ storage, secret: { passphrase: PASSPHRASE } });
    const { recoveryKey, slot } = await ring.addRecoveryKey('safe');

    const { repositoryId } = ring;
    const drilled = await drillKey({ storage, secret: { recoveryKey } });
    assert.deepEqual(drilled, { repositoryId, slot, readPointId: pointId });
    await assert.rejects(drillKey({ storage, secret: { passphrase: 'wrong' } }), { code: 'REPOSITORY_KEY_WRONG' });
  });

  it('fails when the key is right but the version cannot be read', async () => {
    const { storage } = await encrypted();
    const point = [...storage.disk.files].find(([name]) => name.startsWith('points/'));
    assert.ok(point !== undefined);
    point[1].data[70] = (point[1].data[70] as number) ^ 1;

    await assert.rejects(drillKey({ storage, secret: { passphrase: PASSPHRASE } }), {
      code: 'REPOSITORY_MANIFEST_DAMAGED',
    });
  });
});

describe('a recovery key', () => {
  it('is the words of BIP 39 for the same entropy', () => {
    // The last of the test vectors of BIP 39 with 256 bits.
    const key = Buffer.from('f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f', 'hex');
    const words =
      'void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold';
    assert.equal(encodeRecoveryKey(key), words);
    assert.ok(parseRecoveryKey(words).equals(key));
  });

  it('is read from a sheet with numbers, capitals and words cut after four letters', () => {
    const key = Buffer.alloc(32, 7);
    const sheet = encodeRecoveryKey(key)
      .split(' ')
      .map((word, index) => `${index + 1}. ${word.toUpperCase().slice(0, Math.max(4, word.length - 2))}\r\n`)
      .join('');
    assert.ok(parseRecoveryKey(sheet).equals(key));
    assert.ok(looksLikeRecoveryKey(sheet));
    assert.ok(!looksLikeRecoveryKey('correct horse battery staple'));
  });

  it('tells what is wrong with it without repeating a word', () => {
    const words = encodeRecoveryKey(Buffer.alloc(32, 7)).split(' ');
    const changed = (index: number, word: string): string => words.with(index, word).join(' ');
    assert.throws(() => parseRecoveryKey(words.slice(1).join(' ')), { message: /23 words instead of 24/ });
    assert.throws(
      () => parseRecoveryKey(changed(4, 'xylophone')),
      (error: Error) => {
        assert.match(error.message, /word 5 is not in the list/);
        assert.doesNotMatch(error.message, /xylophone/);
        return true;
      },
    );
    assert.throws(() => parseRecoveryKey(changed(4, words[4] === 'zoo' ? 'zone' : 'zoo')), { message: /check sum/ });
  });
});

describe('the cost of guessing a passphrase', () => {
  it('is what the machine can do in half a second, within bounds', async () => {
    assert.equal(chooseScryptN(1), 131_072, 'a fast machine: 128 MiB are enough');
    assert.equal(chooseScryptN(50), 65_536, '50 ms for 8 Ki: 400 ms for 64 Ki');
    assert.equal(chooseScryptN(10_000), 32_768, 'never less than 32 MiB');
    const { n, r, p } = await measuredScryptCost();
    assert.ok(n >= 32_768 && n <= 131_072 && r === 8 && p === 1);
  });
});

async function assertOpensDespiteDamage(storage: MemoryStorage, pointId: string): Promise<void> {
  const repository = await openRepository({ storage, threads: 0, passphrase: PASSPHRASE });
  const disk = await (await repository.openPoint(pointId)).openDisk('d0');
  assert.ok((await readByStream(disk)).equals(CONTENT));
  await repository.close();
}
