/**
 * Serves an image file in a process of its own, to be killed. Standard input: one line of JSON
 * (`{ path, port }`); prints the port once it answers.
 */
import { createInterface } from 'node:readline';
import { openFileDisk, startIscsiServer } from '../../server/iscsi/index.ts';
import { INITIATORS, SECRET, TARGET, USER } from './scene.ts';

const line = await new Promise<string>((resolve) => createInterface({ input: process.stdin }).once('line', resolve));
const { path, port } = JSON.parse(line) as { path: string; port: number };
const server = await startIscsiServer({ host: '127.0.0.1', port });
server.addTarget({
  name: TARGET,
  access: INITIATORS.map((initiatorName) => ({ initiatorName, chapUser: USER, chapSecret: SECRET })),
  disks: [{ disk: await openFileDisk(path, { writable: true }), seed: 'child' }],
});
console.log(server.port);
