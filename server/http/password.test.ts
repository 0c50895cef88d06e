import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hashPassword, verifyPassword } from './password.ts';

describe('passwords', () => {
  it('are known again, and nothing else is', async () => {
    const encoded = await hashPassword('Grüße 東京');
    assert.match(encoded, /^scrypt\$32768\$8\$1\$/);
    assert.notEqual(encoded, await hashPassword('Grüße 東京'));
    assert.equal(await verifyPassword('Grüße 東京', encoded), true);
    assert.equal(await verifyPassword('Gru\u0308ße 東京', encoded), true);
    for (const wrong of ['', 'grüße 東京', 'Grüße 東京 ']) assert.equal(await verifyPassword(wrong, encoded), false);
  });

  it('of nobody are always wrong, and take as long', async () => {
    const encoded = await hashPassword('x');
    const time = async (hash: string | null): Promise<number> => {
      const startedMs = performance.now();
      for (let round = 0; round < 3; round += 1) assert.equal(await verifyPassword('y', hash), false);
      return performance.now() - startedMs;
    };
    const [known, nobody] = [await time(encoded), await time(null)];
    assert.ok(nobody > known / 4, `${nobody} ms against ${known} ms`);
    assert.equal(await verifyPassword('', null), false);
    assert.equal(await verifyPassword('x', 'rubbish'), false);
  });
});
