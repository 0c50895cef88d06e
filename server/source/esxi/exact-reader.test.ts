import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import { ExactReader } from './exact-reader.ts';

const CONTENT = Buffer.from(Array.from({ length: 5000 }, (_, at) => (at * 7) % 251));

function pieces(sizes: readonly number[]): Buffer[] {
  const cut: Buffer[] = [];
  for (let at = 0, turn = 0; at < CONTENT.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    cut.push(CONTENT.subarray(at, at + size));
    at += size;
  }
  return cut;
}

test('gives exactly what is asked for, however the bytes come', async () => {
  for (const sizes of [[1], [5000], [3, 700, 1], [4096, 2]]) {
    const reader = new ExactReader(Readable.from(pieces(sizes), { objectMode: false }));
    const buffer = Buffer.alloc(1500);
    const got: Buffer[] = [];

    for (const length of [1500, 1, 999, 1500, 1000]) {
      const target = buffer.subarray(0, length);
      await reader.fill(target);
      got.push(Buffer.from(target));
      if (length === 999) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await reader.drain();

    assert.ok(Buffer.concat(got).equals(CONTENT), sizes.join());
  }
});

test('does not touch a buffer once it is full, whatever comes meanwhile', async () => {
  const stream = new PassThrough();
  const reader = new ExactReader(stream);
  const buffer = Buffer.alloc(4);
  stream.write('abcdefgh');
  await reader.fill(buffer);

  stream.write('ijkl');
  await new Promise((resolve) => setTimeout(resolve, 5));

  assert.equal(buffer.toString(), 'abcd');
  const next = Buffer.alloc(8);
  await reader.fill(next);
  assert.equal(next.toString(), 'efghijkl');
});

test('rejects at an early end, and with what the stream fails with', async () => {
  const ended = new ExactReader(Readable.from([Buffer.from('abc')], { objectMode: false }));
  await assert.rejects(ended.fill(Buffer.alloc(4)), { code: 'DISK_READ_SHORT' });
  await assert.rejects(ended.fill(Buffer.alloc(1)), { code: 'DISK_READ_SHORT' });

  const broken = new PassThrough();
  const reader = new ExactReader(broken);
  const waiting = reader.fill(Buffer.alloc(4));
  broken.destroy(new Error('cut'));
  await assert.rejects(waiting, /cut/);
  await assert.rejects(reader.fill(Buffer.alloc(4)), /cut/);
  await assert.rejects(reader.drain(), /cut/);
});

test('drains what nobody asked for', async () => {
  const stream = new PassThrough();
  const reader = new ExactReader(stream);
  stream.write('abcd');
  await reader.fill(Buffer.alloc(2));
  const drained = reader.drain();
  stream.end(Buffer.alloc(1_000_000));

  await drained;

  assert.equal(stream.readableEnded, true);
});
