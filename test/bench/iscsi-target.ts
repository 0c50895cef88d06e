/**
 * Serves a raw file, or takes a disk into a repository, for `iscsi.ts`. Standard input: one line of JSON; prints the
 * port once it answers. Ends with standard input (file), or when the disk is committed (ingest).
 */
import { mkdir, rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { createIngestDisk, openFileDisk, startIscsiServer, type BackingDisk } from '../../server/iscsi/index.ts';
import { createRepository } from '../../server/repository/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';

export interface TargetOrder {
  kind: 'file' | 'ingest';
  /** The image, or the folder of a repository to make. */
  path: string;
  sizeBytes: number;
  target: string;
  initiators: string[];
  user: string;
  secret: string;
}

const lines = createInterface({ input: process.stdin });
const order = JSON.parse(await new Promise<string>((resolve) => lines.once('line', resolve))) as TargetOrder;
const ended = Promise.withResolvers<void>();

const server = await startIscsiServer({ host: '127.0.0.1', port: 0 });
if (order.kind === 'file') {
  lines.once('close', () => ended.resolve());
  serve(await openFileDisk(order.path, { writable: true }));
  await ended.promise;
} else await ingest();
await server.close();
// Standard input would keep the process alive.
process.stdin.destroy();

function serve(disk: BackingDisk): void {
  const { target, initiators, user, secret } = order;
  server.addTarget({
    name: target,
    access: initiators.map((initiatorName) => ({ initiatorName, chapUser: user, chapSecret: secret })),
    disks: [{ disk, seed: 'bench' }],
    onSessionEnd: ({ orderly }) => {
      if (order.kind === 'ingest' && orderly) ended.resolve();
    },
  });
  console.log(server.port);
}

async function ingest(): Promise<void> {
  await rm(order.path, { recursive: true, force: true });
  await mkdir(order.path);
  const repository = await createRepository({ storage: await openLocalStorage({ folder: order.path }) });
  const session = await repository.startWrite({ sessionId: 'bench' });
  const writer = await session.openDisk({ key: 'd0', sizeBytes: order.sizeBytes, base: null });
  const disk = createIngestDisk(writer, order.sizeBytes);
  serve(disk);
  await ended.promise;
  await disk.finish();
  await writer.finish();
  await session.commit({
    machineId: 'bench',
    machineName: 'bench',
    createdAtMs: Date.now(),
    state: 'complete',
    stateReasons: [],
    previousPointId: null,
    disks: [{ key: 'd0', changeToken: null, facts: null }],
    files: [],
    machine: null,
    evidence: null,
  });
  await repository.close();
}
