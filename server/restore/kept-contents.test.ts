import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../runtime/index.ts';
import type { FolderContents } from './guest-archive.ts';
import { KeptContents } from './kept-contents.ts';

/** Sleepers wake when the test says so. */
class HandClock implements Clock {
  readonly #sleepers: { ms: number; wake: () => void }[] = [];

  nowMs(): number {
    return 0;
  }
  monotonicMs(): number {
    return 0;
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sleepers.push({ ms, wake: resolve });
      signal?.addEventListener('abort', () => reject(new DOMException('', 'AbortError')));
    });
  }
  async pass(ms: number): Promise<void> {
    for (const sleeper of this.#sleepers) if (sleeper.ms <= ms) sleeper.wake();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function contentsOf(topName: string): FolderContents {
  return { folders: [], files: [], fileBytes: 0, leftOut: [], topName };
}

test('contents are taken once, and not kept for ever', async () => {
  const clock = new HandClock();
  const kept = new KeptContents(clock);
  kept.keep('a', contentsOf('a'));
  assert.equal(kept.take('b'), undefined);
  assert.equal(kept.take('a')?.topName, 'a');
  assert.equal(kept.take('a'), undefined, 'a second download looks for itself');

  kept.keep('a', contentsOf('a'));
  await clock.pass(60_000);
  assert.equal(kept.take('a'), undefined);
});

test('contents of few folders are kept: the oldest go', () => {
  const kept = new KeptContents(new HandClock());
  for (const name of ['a', 'b', 'c']) kept.keep(name, contentsOf(name));
  kept.keep('c', contentsOf('c again'));
  assert.deepEqual(
    ['a', 'b', 'c'].map((name) => kept.take(name)?.topName),
    [undefined, 'b', 'c again'],
  );
});
