/**
 * Runs libiscsi's whole suite against every kind of disk and prints what became of it: the table and lists of
 * docs/iscsi.md. `node test/iscsi/suite-report.ts`; needs the packages of `scripts/setup test`.
 */
import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createIngestDisk, openFileDisk, openOverlayDisk, serveReader } from '../../server/iscsi/index.ts';
import { createRepository } from '../../server/repository/index.ts';
import { MemoryStorage } from '../fakes/memory-storage.ts';
import { commitDisk } from '../fakes/small-repository.ts';
import { diskContent, withTarget, type TargetOptions } from './scene.ts';
import { runSuite, type SuiteResult } from './suite.ts';

const DISK_BYTES = 40 * 1024 * 1024;

const repository = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: 65_536, threads: 0 });
const { pointId } = await commitDisk(repository, 'stored', diskContent(DISK_BYTES, 'suite'));
const point = await (await repository.openPoint(pointId)).openDisk('d0');
const session = await repository.startWrite({ sessionId: 'suite' });

const DISKS: [name: string, open: TargetOptions['open']][] = [
  [
    'image file',
    async (folder) => {
      const file = path.join(folder, 'disk.img');
      await writeFile(file, '');
      await truncate(file, DISK_BYTES);
      return openFileDisk(file, { writable: true });
    },
  ],
  ['restore point, read-only', async () => serveReader(point)],
  [
    'overlay over a restore point',
    (folder) => openOverlayDisk({ path: path.join(folder, 'overlay'), base: point, baseIdentity: 'point' }),
  ],
  [
    'ingest disk over a previous version',
    async () => createIngestDisk(await session.openDisk({ key: 'd0', sizeBytes: DISK_BYTES, base: point }), DISK_BYTES),
  ],
];

const results: SuiteResult[] = [];
console.log('| Backing disk | Passed | Skipped | Failed |\n| --- | ---: | ---: | ---: |');
for (const [name, open] of DISKS) {
  await withTarget({ open }, async ({ url }) => {
    const result = await runSuite(url);
    results.push(result);
    console.log(`| ${name} | ${result.passed.length} | ${result.skipped.length} | ${result.failed.length} |`);
  });
}
await session.abort();
await repository.close();

for (const [index, { failed, skipped }] of results.entries()) {
  console.log(`\n${DISKS[index]?.[0] ?? ''}\n\nfailed: ${failed.join(', ') || 'none'}\n`);
  for (const [reason, tests] of Map.groupBy(skipped, (one) => one.reason))
    console.log(`- ${reason} ${tests.map(({ test }) => test).join(', ')}`);
}
