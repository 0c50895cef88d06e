import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fileSystemOf } from './inspect-folder.ts';

describe('the kind of a file system', () => {
  it('is known by what the kernel of a NAS calls it, signed or not', () => {
    // As `stat -f -c %t` prints them: DSM's Btrfs and its encrypted shares, QTS's ext4, QuTS hero's ZFS.
    for (const [type, name] of [
      [0x9123683e, 'btrfs'],
      [0x9123683e - 2 ** 32, 'btrfs'],
      [0xf15f, 'ecryptfs'],
      [0xef53, 'ext'],
      [0x2fc12fc1, 'zfs'],
      [0x858458f6, 'memory'],
      [0x858458f6 - 2 ** 32, 'memory'],
      [0x65735546, 'other'],
      [0, 'other'],
    ] as const) {
      assert.equal(fileSystemOf(type), name, type.toString(16));
    }
  });
});
