import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { subvolumeOf } from './read-quota.ts';

describe('the subvolume that a folder lies in', () => {
  const uuid = '53f71b4a-45d7-4298-9d4c-e48a8d9c03f9';

  it('comes out of what `stat -f` prints, whichever of its words is first', () => {
    // As Debian 12 printed them for a subvolume and for the top of that file system (coreutils 9.1, BusyBox 1.35).
    for (const [id, number] of [
      ['cebbffc0c84b4061', 256n],
      ['c84b4061cebbffc0', 256n],
      ['cebbffc0c84b4164', 5n],
    ] as const) {
      assert.equal(subvolumeOf(id, uuid), number, id);
    }
  });

  it('is of no other file system, and of nothing that is no id', () => {
    for (const id of ['', '0', 'ef53', 'cebbffc1c84b4061', '-', 'cebbffc0c84b40610']) {
      assert.equal(subvolumeOf(id, uuid), null, id);
    }
    for (const name of ['features', '', '53f71b4a']) assert.equal(subvolumeOf('cebbffc0c84b4061', name), null, name);
  });
});
