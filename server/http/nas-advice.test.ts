import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { measureSpace, type FolderFacts } from '../nas/index.ts';
import { MIB } from '../runtime/index.ts';
import { adviseOn, describeFolder } from './nas-advice.ts';

const GOOD: FolderFacts = {
  path: '/volume1/Dozo',
  exists: true,
  isWritable: true,
  isFull: false,
  fileSystem: 'btrfs',
  freeBytes: 1e12,
  totalBytes: 2e12,
  quotaBytes: null,
  quotaUsedBytes: null,
  hasReflink: true,
  hasChecksums: true,
  isEncrypted: null,
  isLocked: false,
};

describe('advice on a folder', () => {
  it('names what is wrong, and nothing where all is well', () => {
    assert.deepEqual(adviseOn(GOOD), []);
    const cases: [Partial<FolderFacts>, string[]][] = [
      [{ exists: false }, ['error FOLDER_MISSING']],
      [{ fileSystem: 'memory' }, ['error FOLDER_IN_MEMORY']],
      [{ isWritable: false, hasReflink: null }, ['error FOLDER_READ_ONLY']],
      [{ freeBytes: 1e9 }, ['warning FOLDER_LOW_SPACE']],
      [{ isWritable: false, isFull: true, hasReflink: null, freeBytes: 0 }, ['error FOLDER_FULL']],
      [{ quotaBytes: 2e12, quotaUsedBytes: 1e12 }, ['info FOLDER_QUOTA']],
      [{ quotaBytes: 2e9, quotaUsedBytes: 1e9, freeBytes: 1e9 }, ['warning FOLDER_QUOTA', 'warning FOLDER_LOW_SPACE']],
      [{ isEncrypted: true }, ['warning FOLDER_ENCRYPTED']],
      [{ exists: false, isEncrypted: true, isLocked: true }, ['error FOLDER_LOCKED']],
      [
        { fileSystem: 'ext', hasReflink: false, hasChecksums: false },
        ['info FOLDER_NO_REFLINK', 'info FOLDER_NO_CHECKSUMS'],
      ],
      [{ fileSystem: 'zfs', hasReflink: false }, ['info FOLDER_NO_REFLINK']],
      [{ hasReflink: null, hasChecksums: null, freeBytes: null, fileSystem: 'other' }, []],
    ];
    for (const [change, expected] of cases) {
      const advice = adviseOn({ ...GOOD, ...change });
      assert.deepEqual(
        advice.map(({ level, code }) => `${level} ${code}`),
        expected,
      );
    }
  });

  it('knows what a real quota leaves, as a user without rights, and tells a full folder from one without rights', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dozo-quota-'));
    const [image, point] = [join(folder, 'image'), join(folder, 'volume')];
    const share = join(point, 'Dozo');
    const codes = async (path: string): Promise<string[]> =>
      (await describeFolder(path)).advice.map(({ level, code }) => `${level} ${code}`);
    execFileSync('truncate', ['-s', '256M', image]);
    execFileSync('mkfs.btrfs', ['-q', image], { stdio: 'ignore' });
    mkdirSync(point);
    execFileSync('mount', ['-o', 'loop', image, point]);
    try {
      execFileSync('btrfs', ['quota', 'enable', point]);
      execFileSync('btrfs', ['subvolume', 'create', share], { stdio: 'ignore' });
      mkdirSync(join(share, 'main'));
      const free = await describeFolder(join(share, 'main'));
      assert.deepEqual([free.quotaBytes, free.quotaUsedBytes], [null, null]);
      execFileSync('btrfs', ['qgroup', 'limit', '64M', share]);
      const { quotaBytes, quotaUsedBytes, totalBytes, freeBytes, advice } = await describeFolder(join(share, 'main'));
      assert.deepEqual([quotaBytes, totalBytes], [64 * MIB, 64 * MIB]);
      assert.ok(quotaUsedBytes !== null && freeBytes === 64 * MIB - quotaUsedBytes, `${quotaUsedBytes} ${freeBytes}`);
      assert.ok(advice.some(({ level, code }) => level === 'warning' && code === 'FOLDER_QUOTA'));
      assert.deepEqual(await measureSpace(join(share, 'main')), { freeBytes, totalBytes });
      assert.equal((await describeFolder(point)).quotaBytes, null);
      // Nobody: who the program is run by on DSM has no more rights.
      for (const one of [folder, share]) chmodSync(one, 0o777);
      process.seteuid?.(65_534);
      const facts = await describeFolder(share).finally(() => process.seteuid?.(0));
      assert.deepEqual([facts.quotaBytes, facts.isWritable], [64 * MIB, true]);

      assert.throws(() =>
        execFileSync('dd', ['if=/dev/urandom', `of=${join(share, 'x')}`, 'bs=1M'], { stdio: 'pipe' }),
      );
      execFileSync('btrfs', ['qgroup', 'limit', '32M', share]);
      assert.deepEqual(await codes(share), ['error FOLDER_FULL', 'warning FOLDER_QUOTA']);
    } finally {
      execFileSync('umount', [point]);
      rmSync(folder, { recursive: true });
    }
  });

  it('tries real file systems out and leaves nothing behind', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dozo-folder-'));
    const mounted: string[] = [];
    try {
      for (const [type, size, make] of [
        ['btrfs', '128M', 'mkfs.btrfs'],
        ['ext4', '16M', 'mkfs.ext4'],
      ] as const) {
        const [image, point] = [join(folder, `${type}.img`), join(folder, type)];
        execFileSync('truncate', ['-s', size, image]);
        execFileSync(make, ['-q', image], { stdio: 'ignore' });
        mkdirSync(point);
        execFileSync('mount', ['-o', 'loop', image, point]);
        mounted.push(point);
        const facts = await describeFolder(point);
        assert.equal(facts.fileSystem, type === 'ext4' ? 'ext' : 'btrfs');
        assert.deepEqual(
          [facts.isWritable, facts.hasReflink, facts.hasChecksums],
          [true, type === 'btrfs', type === 'btrfs'],
        );
        assert.ok(facts.advice.some(({ code }) => code === 'FOLDER_LOW_SPACE'));
        assert.deepEqual(
          readdirSync(point).filter((name) => name !== 'lost+found'),
          [],
        );
        if (type === 'btrfs') {
          mkdirSync(join(point, 'plain'));
          execFileSync('chattr', ['+C', join(point, 'plain')]);
          assert.equal((await describeFolder(join(point, 'plain'))).hasChecksums, false);
        }
        execFileSync('mount', ['-o', 'remount,ro', point]);
        const codes = (await describeFolder(point)).advice.map(({ code }) => code);
        assert.ok(codes.includes('FOLDER_READ_ONLY'), codes.join());
      }
      execFileSync('mount', ['-t', 'tmpfs', 'none', join(folder, 'ext4')]);
      mounted.push(join(folder, 'ext4'));
      const memory = await describeFolder(join(folder, 'ext4'));
      assert.deepEqual(
        memory.advice.map(({ code }) => code),
        ['FOLDER_IN_MEMORY'],
      );
      const gone = await describeFolder(join(folder, 'gone'));
      assert.deepEqual(
        gone.advice.map(({ code }) => code),
        ['FOLDER_MISSING'],
      );
    } finally {
      for (const point of mounted.reverse()) execFileSync('umount', [point]);
      rmSync(folder, { recursive: true });
    }
  });
});
