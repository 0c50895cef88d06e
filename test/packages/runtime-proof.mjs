// Run by the runtime of an installed package, in a root whose own C library cannot run it: prints `proof=all`.
import assert from 'node:assert/strict';
import { execFileSync, fork } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

if (process.argv[2] === 'child') {
  process.send({ execPath: process.execPath, argv0: process.argv[1] });
  process.disconnect();
} else {
  const child = fork(process.argv[1], ['child']);
  const [told] = await once(child, 'message');
  assert.deepEqual(told, { execPath: process.execPath, argv0: process.argv[1] });

  const worker = new Worker("require('node:worker_threads').parentPort.postMessage(6 * 7)", { eval: true });
  assert.deepEqual(await once(worker, 'message'), [42]);

  // Programs of the system keep its library.
  assert.equal(execFileSync('/bin/echo', ['of the system'], { encoding: 'utf8' }), 'of the system\n');

  assert.equal((await lookup('by-file.test', { family: 4 })).address, '192.0.2.5');
  const server = createSocket('udp4');
  server.on('message', (question, from) => {
    const end = question.indexOf(0, 12) + 5;
    const isAddress = question.readUInt16BE(end - 4) === 1;
    const head = Buffer.from(question.subarray(0, 12));
    head.writeUInt16BE(0x8580, 2);
    head.writeUInt16BE(isAddress ? 1 : 0, 6);
    head.fill(0, 8, 12);
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    server.send(Buffer.concat([head, question.subarray(12, end), ...(isAddress ? [answer] : [])]), from.port);
  });
  server.bind(53, '127.0.0.1');
  await once(server, 'listening');
  assert.equal((await lookup('by-server.test', { family: 4 })).address, '192.0.2.7');
  server.close();
  console.log('proof=all');
}
