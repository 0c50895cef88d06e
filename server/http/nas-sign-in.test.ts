import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Nas } from '../nas/index.ts';
import { NasSignIn } from './nas-sign-in.ts';

describe('sign-in by the NAS', () => {
  const request = { csrfToken: '', address: '127.0.0.1', host: 'nas' };
  let nowMs = 0;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep: async () => undefined };
  function makeNas(): { nas: Nas; asked: string[]; mostAtOnce: () => number } {
    const asked: string[] = [];
    let running = 0;
    let most = 0;
    const nas = {
      hasSignIn: true,
      vouchesForAddress: true,
      identify: async ({ cookies }: { cookies: string }) => {
        asked.push(cookies);
        most = Math.max(most, (running += 1));
        await new Promise((resolve) => setTimeout(resolve, 1));
        running -= 1;
        return cookies === 'id=right' ? 'alice' : null;
      },
    } as unknown as Nas;
    return { nas, asked, mostAtOnce: () => most };
  }

  it('lets an administrator in, however many strangers failed from the same address', async () => {
    const { nas, asked, mostAtOnce } = makeNas();
    const signIn = new NasSignIn(nas, clock);
    await Promise.all(
      Array.from({ length: 500 }, (_, number) => signIn.identify({ ...request, cookies: `id=wrong-${number}` })),
    );
    assert.equal(await signIn.identify({ ...request, cookies: 'id=right' }), 'alice');
    assert.equal(asked.length, 501);
    assert.ok(mostAtOnce() <= 4, `${mostAtOnce()} at once`);
  });

  it('does not ask again at once what was refused, and believes nothing without asking', async () => {
    const { nas, asked } = makeNas();
    const signIn = new NasSignIn(nas, clock);
    for (let attempt = 0; attempt < 10; attempt += 1) {
      assert.equal(await signIn.identify({ ...request, cookies: 'id=wrong' }), null);
    }
    assert.equal(asked.length, 1);
    nowMs += 31_000;
    assert.equal(await signIn.identify({ ...request, cookies: 'id=wrong' }), null);
    assert.equal(asked.length, 2);
    for (let attempt = 0; attempt < 3; attempt += 1) await signIn.identify({ ...request, cookies: 'id=right' });
    assert.equal(asked.length, 5);
  });
});
