import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '../../server/errors/index.ts';
import { createRepository, openKeyring, openRepository, type KeySecret } from '../../server/repository/index.ts';
import { createMemoryDisk, MemoryStorage, type MemoryDisk } from '../fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, sparseContent } from '../fakes/small-repository.ts';
import { RandomSource } from './random-source.ts';

/**
 * Every kind of file of a repository, with one bit changed and with worse. Nothing wrong is ever restored, and a
 * check by hashes finds every changed bit. Long: DOZO_BIT_FLIPS=20000; replay: DOZO_SEED.
 */
const FLIPS = Number(process.env['DOZO_BIT_FLIPS'] ?? 300);
const SEED = Number(process.env['DOZO_SEED'] ?? 1);
const PASSPHRASE = 'a passphrase that rots';
const FILE = Buffer.from('displayName = "web"\n'.repeat(40));
/** For people and for computers without Dozo; no check covers them. */
const UNCHECKED = /^(?:readme\.txt|dozo-restore-)/;

interface Sound {
  files: Map<string, Buffer>;
  secret: KeySecret;
  contents: Map<string, Buffer>;
}

async function makeSound(isEncrypted: boolean): Promise<Sound> {
  const storage = new MemoryStorage();
  const opening = { storage, threads: 0, ...(isEncrypted ? { passphrase: PASSPHRASE } : {}) };
  const repository = await createRepository({ ...opening, chunkSizeBytes: CHUNK });
  const contents = new Map<string, Buffer>();
  const first = sparseContent(9 * CHUNK + 100, 1);
  const files = [{ name: 'web.vmx', kind: 'vmx', content: FILE }];
  const one = await commitDisk(repository, 'one', first, { files });
  contents.set(one.pointId, first);
  const second = Buffer.from(first);
  sparseContent(2 * CHUNK, 7).copy(second, 4 * CHUNK);
  const base = await (await repository.openPoint(one.pointId)).openDisk('d0');
  const two = await commitDisk(
    repository,
    'two',
    second,
    { files, previousPointId: one.pointId, createdAtMs: 2e12 },
    base,
  );
  contents.set(two.pointId, second);
  await repository.lockPoint(two.pointId, 1);
  await repository.close();
  if (!isEncrypted) return { files: copyFiles(storage.disk), secret: {}, contents };
  // Scrypt would take most of the time.
  const ring = await openKeyring({ storage, secret: { passphrase: PASSPHRASE } });
  const { machineKey } = await ring.addMachineKey('test');
  return { files: copyFiles(storage.disk), secret: { machineKey }, contents };
}

function copyFiles({ files }: MemoryDisk): Map<string, Buffer> {
  return new Map([...files].map(([name, { data }]) => [name, Buffer.from(data)]));
}

/** What comes out of a repository of these files, and whether a check finds fault with it. */
async function examine(sound: Sound, files: ReadonlyMap<string, Buffer>): Promise<{ isFound: boolean }> {
  const disk = createMemoryDisk();
  for (const [name, data] of files) disk.files.set(name, { data: Buffer.from(data), modifiedAtMs: 0 });
  let isFound = false;
  const tolerate = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!isAppError(error) || !/^(?:REPOSITORY_|POINT_|STORAGE_|NOT_FOUND)/.test(error.code)) throw error;
      isFound = true;
    }
  };
  await tolerate(async () => {
    const repository = await openRepository({ storage: new MemoryStorage(disk), threads: 0, ...sound.secret });
    for (const [pointId, content] of sound.contents) {
      await tolerate(async () => {
        const point = await repository.openPoint(pointId);
        await tolerate(async () => assert.ok((await point.readFile('web.vmx')).equals(FILE), 'a wrong file'));
        const opened = await point.openDisk('d0');
        await tolerate(async () =>
          assert.ok((await readByStream(opened)).equals(content), 'a wrong disk, as a stream'),
        );
        await tolerate(async () => assert.ok((await opened.read(0, content.length)).equals(content), 'a wrong disk'));
      });
    }
    await tolerate(async () => {
      if ((await repository.check({ depth: 'hashes' })).damages.length > 0) isFound = true;
    });
    await repository.close();
  });
  return { isFound };
}

for (const kind of ['plain', 'encrypted'] as const) {
  describe(`a repository on disks that rot, ${kind}`, () => {
    it(`shows each of ${FLIPS} changed bits, and gives out nothing wrong`, async () => {
      const sound = await makeSound(kind === 'encrypted');
      assert.deepEqual(await examine(sound, sound.files), { isFound: false });
      const names = [...sound.files.keys()].filter((name) => !UNCHECKED.test(name));
      const random = new RandomSource(SEED);
      for (let flip = 0; flip < FLIPS; flip += 1) {
        const name = random.pick(names);
        const changed = Buffer.from(sound.files.get(name) as Buffer);
        // Ends and beginnings hold what the rest hangs on.
        const at = random.chance(0.3) ? random.below(Math.min(200, changed.length)) : random.below(changed.length);
        const place = random.chance(0.3) ? changed.length - 1 - Math.min(at, changed.length - 1) : at;
        const bit = random.below(8);
        changed[place] = (changed[place] as number) ^ (1 << bit);
        const { isFound } = await examine(sound, new Map([...sound.files, [name, changed]]));
        assert.ok(isFound, `DOZO_SEED=${SEED}: bit ${bit} of byte ${place} of ${name} was not found`);
      }
    });

    it('gives out nothing wrong when files are cut off, lengthened, overwritten, exchanged or gone', async () => {
      const sound = await makeSound(kind === 'encrypted');
      const names = [...sound.files.keys()];
      const random = new RandomSource(SEED + 1);
      for (let turn = 0; turn < FLIPS / 3; turn += 1) {
        const files = new Map(sound.files);
        const name = random.pick(names);
        const data = sound.files.get(name) as Buffer;
        const at = random.below(data.length);
        const sector = Buffer.from(data).fill(
          random.pick([0, 255]),
          at - (at % 512),
          Math.min(data.length, at - (at % 512) + 512),
        );
        const other = sound.files.get(random.pick(names)) as Buffer;
        const harm = random.pick<Buffer | null>([
          data.subarray(0, at),
          Buffer.concat([data, random.bytes(1 + random.below(100))]),
          sector,
          other,
          Buffer.concat([data.subarray(0, at), other.subarray(0, 512), data.subarray(at)]),
          Buffer.alloc(0),
          null,
        ]);
        if (harm === null) files.delete(name);
        else files.set(name, harm);
        await examine(sound, files);
      }
    });
  });
}
