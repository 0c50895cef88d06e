import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { getSystemErrorMap } from 'node:util';
import { errnoOf } from './errno.ts';

describe('the errno of an error', () => {
  it('has its name, also where libuv has none for it', () => {
    for (const name of ['ENOSPC', 'EDQUOT', 'ESTALE', 'EACCES'] as const) {
      const errno = -constants.errno[name];
      // As libuv makes them.
      const code = getSystemErrorMap().get(errno)?.[0] ?? `Unknown system error ${errno}`;
      assert.equal(errnoOf(Object.assign(new Error(code), { errno, code })), name);
    }
  });

  it('is none where no call of the system failed', () => {
    assert.equal(
      errnoOf(Object.assign(new Error('x'), { code: 'Unknown system error 9999', errno: -9999 })),
      'Unknown system error 9999',
    );
    for (const other of [null, 'EDQUOT', new Error('EDQUOT'), { code: 122 }]) assert.equal(errnoOf(other), '');
  });
});
