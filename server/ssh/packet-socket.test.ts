import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { giveBackChunk } from './packet-memory.ts';
import { PacketSocket } from './packet-socket.ts';

const WORDS = Buffer.from('a line before\r\nSSH-2.0-test\r\n');
const TAG_BYTES = 16;

const server = createServer();
before(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
after(() => server.close());

/** A packet as it stands on the wire: length, that many random bytes, the tag. */
function packet(lengthBytes: number, tagBytes: number): Buffer {
  const bytes = randomBytes(4 + lengthBytes + tagBytes);
  bytes.writeUInt32BE(lengthBytes, 0);
  return bytes;
}

/** Both ends of a connection; what the socket hands on goes to `take` before it can be overwritten. */
async function connected(take: (chunk: Buffer, socket: PacketSocket) => void): Promise<[PacketSocket, Socket]> {
  const socket = new PacketSocket();
  socket.on('data', (chunk: Buffer) => take(chunk, socket));
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  socket.connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
  const [peer] = await accepted;
  peer.setNoDelay(true);
  return [socket, peer];
}

test('hands on whole packets from the first one on, however the bytes come', async () => {
  const clear = [20, 1500, 12].map((length) => packet(length, 0));
  const sealed = [32_784, 16, 32_784, 8_192, 35_000, 64, 32_784].map((length) => packet(length, TAG_BYTES));
  const stream = Buffer.concat([WORDS, ...clear, ...sealed]);
  for (const step of [stream.length, 1, 33_333, 7]) {
    const chunks: Buffer[] = [];
    const [socket, peer] = await connected((chunk, from) => {
      chunks.push(Buffer.from(chunk));
      giveBackChunk(chunk);
      // As ssh2 does with the last packet in clear: before the next byte is looked at.
      if (chunk.equals(clear.at(-1) ?? WORDS)) from.useCipher('aes128-gcm@openssh.com');
    });

    for (let at = 0; at < stream.length; at += step) {
      // Byte by byte only where it matters: what stands in clear.
      const bytes = step < 100 && at > 2_000 ? stream.subarray(at) : stream.subarray(at, at + step);
      if (!peer.write(bytes)) await once(peer, 'drain');
      if (bytes.length > step) break;
    }
    peer.end();
    await once(socket, 'close');

    const packets = chunks.slice(-(clear.length + sealed.length));
    assert.deepEqual(
      packets.map((chunk) => chunk.length),
      [...clear, ...sealed].map((one) => one.length),
      `in steps of ${step}`,
    );
    assert.ok(Buffer.concat(chunks).equals(stream));
  }
});

test('uses memory again that was given back, and never what was kept', async () => {
  const kept: { chunk: Buffer; copy: Buffer }[] = [];
  const memories = new Set<ArrayBufferLike>();
  let count = 0;
  const [socket, peer] = await connected((chunk) => {
    if (chunk.length < 30_000) return;
    count += 1;
    memories.add(chunk.buffer);
    if (count % 50 === 0) kept.push({ chunk, copy: Buffer.from(chunk) });
    else giveBackChunk(chunk);
  });
  peer.write(WORDS);
  await once(socket, 'data');
  socket.useCipher('aes256-gcm@openssh.com');

  for (let sent = 0; sent < 500; sent += 1) {
    if (!peer.write(packet(32_784, TAG_BYTES))) await once(peer, 'drain');
  }
  peer.end();
  await once(socket, 'close');

  assert.equal(count, 500);
  assert.equal(kept.length, 10);
  for (const { chunk, copy } of kept) assert.ok(chunk.equals(copy));
  // Each kept packet takes its memory out of use; all others came in one after the other.
  assert.ok(memories.size <= kept.length + 1, `${memories.size} pieces of memory`);
});

test('hands on as it comes what has no lengths to be read, and what is no SSH at all', async () => {
  const noise = randomBytes(300_000);
  for (const isSsh of [true, false]) {
    const chunks: Buffer[] = [];
    const [socket, peer] = await connected((chunk) => chunks.push(chunk));
    if (isSsh) {
      peer.write(WORDS);
      await once(socket, 'data');
      socket.useCipher('aes128-ctr');
    }
    peer.end(noise);
    await once(socket, 'close');

    assert.ok(Buffer.concat(chunks).equals(isSsh ? Buffer.concat([WORDS, noise]) : noise));
  }
});

test('a length beyond all measure is not waited for', async () => {
  const chunks: Buffer[] = [];
  const [socket, peer] = await connected((chunk) => chunks.push(chunk));
  const absurd = Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 2, 3]);

  peer.end(Buffer.concat([WORDS, absurd]));
  await once(socket, 'close');

  assert.ok(Buffer.concat(chunks).equals(Buffer.concat([WORDS, absurd])));
});

test('sends everything, and empties only buffers that are nothing but the packet', async () => {
  const [socket, peer] = await connected(() => undefined);
  const arrived: Buffer[] = [];
  peer.on('data', (chunk: Buffer) => arrived.push(chunk));
  const own = Buffer.allocUnsafeSlow(40_000).fill(1);
  const shared = Buffer.allocUnsafeSlow(40_000).fill(2);

  socket.write(own);
  socket.write(shared.subarray(0, 20_000));
  socket.write('end');
  socket.end();
  await once(peer, 'end');

  const expected = Buffer.concat([Buffer.alloc(40_000, 1), Buffer.alloc(20_000, 2), Buffer.from('end')]);
  assert.ok(Buffer.concat(arrived).equals(expected));
  assert.equal(own.length, 0);
  assert.equal(shared.length, 40_000);
  peer.destroy();
});
