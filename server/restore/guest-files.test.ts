import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeExt4, readImage, useMounted } from '../../test/guest-images/ext4-image.ts';
import { isAppError } from '../errors/index.ts';
import { MIB } from '../runtime/index.ts';
import { listGuestFolder, listGuestVolumes, openGuestFile } from './guest-files.ts';

const SIGNAL = new AbortController().signal;

describe('files of a guest', () => {
  let folder: string;
  let disk: Awaited<ReturnType<typeof readImage>>;
  const content = Buffer.from('line\n'.repeat(2_000_000));

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dozo-guest-files-'));
    const image = join(folder, 'disk.img');
    await makeExt4(image, 32 * MIB, ['-b', '4096', '-L', 'data']);
    await useMounted(image, 'clean', async (mounted) => {
      await mkdir(join(mounted, 'many'));
      for (let number = 0; number < 25; number += 1) await writeFile(join(mounted, 'many', `n${String(number)}`), 'x');
      await writeFile(join(mounted, 'large file'), content);
      await writeFile(join(mounted, 'bell\u0007 and ..'), 'odd');
    });
    disk = await readImage(image);
  });

  after(async () => {
    await disk.close();
    await rm(folder, { recursive: true });
  });

  it('names the volumes', async () => {
    assert.deepEqual(await listGuestVolumes(disk), [
      {
        number: 0,
        offsetBytes: 0,
        sizeBytes: 32 * MIB,
        partitionType: null,
        fileSystem: 'ext4',
        label: 'data',
        unreadable: null,
      },
    ]);
  });

  it('says where a volume was at work and its log was not gone through, but of a guest that was made quiet', async () => {
    const image = join(folder, 'at-work.img');
    await makeExt4(image, 32 * MIB, ['-b', '4096', '-O', '^has_journal']);
    await useMounted(image, 'cut', (mounted) => writeFile(join(mounted, 'file'), 'x'));
    const atWork = await readImage(image);
    assert.equal((await listGuestVolumes(atWork))[0]?.isUnsettled, true);
    assert.equal((await listGuestVolumes(atWork, SIGNAL, [], true))[0]?.isUnsettled, undefined);
    await atWork.close();
  });

  it('says what stands where there is no file system that it reads', async () => {
    const marked = async (atBytes: number, mark: string): Promise<string | undefined> => {
      const bytes = Buffer.alloc(MIB);
      bytes.write(mark, atBytes, 'latin1');
      const read = (at: number, length: number) => Promise.resolve(bytes.subarray(at, at + length));
      return (await listGuestVolumes({ sizeBytes: MIB, read }))[0]?.holds;
    };
    assert.equal(await marked(512, 'LABELONE'), 'lvm');
    assert.equal(await marked(0, 'LUKS\xba\xbe'), 'luks');
    assert.equal(await marked(3, '-FVE-FS-'), 'bitlocker');
    assert.equal(await marked(4086, 'SWAPSPACE2'), 'swap');
    assert.equal(await marked(4086, 'SWAPSPACE3'), undefined);
  });

  it('lists a folder in pages, each name once', async () => {
    const names: string[] = [];
    for (let from: number | null = 0, pages = 0; from !== null; pages += 1) {
      const page = await listGuestFolder(disk, 0, { path: '/many/', from, limit: 10 });
      names.push(...page.entries.map((entry) => entry.name));
      assert.ok(page.entries.length <= 10 && pages < 4);
      from = page.next;
    }
    assert.deepEqual(names.sort(), Array.from({ length: 25 }, (_, number) => `n${String(number)}`).sort());
  });

  it('gives a file as it is', async () => {
    const file = await openGuestFile(disk, 0, 'large file');
    const pieces: Buffer[] = [];
    for await (const piece of file.bytes(SIGNAL)) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(content));
    assert.equal(file.sizeBytes, content.length);
    assert.equal((await openGuestFile(disk, 0, '/bell\u0007 and ..')).sizeBytes, 3);
  });

  it('refuses what is not there, and steps upwards', async () => {
    const code = async (act: Promise<unknown>): Promise<string> =>
      act.then(
        () => 'none',
        (error: unknown) => (isAppError(error) ? error.code : String(error)),
      );
    assert.equal(await code(openGuestFile(disk, 0, '/many')), 'FILESYSTEM_PATH_NOT_FOUND');
    assert.equal(await code(openGuestFile(disk, 0, '/many/n99')), 'FILESYSTEM_PATH_NOT_FOUND');
    assert.equal(await code(openGuestFile(disk, 0, '/many/../large file')), 'INPUT_INVALID');
    assert.equal(await code(openGuestFile(disk, 7, '/large file')), 'NOT_FOUND');
    const empty = { sizeBytes: MIB, read: (_: number, length: number) => Promise.resolve(Buffer.alloc(length)) };
    assert.equal(await code(listGuestFolder(empty, 0, { path: '/', from: 0, limit: 1 })), 'FILESYSTEM_UNSUPPORTED');
  });
});
