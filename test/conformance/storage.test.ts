import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openLocalStorage } from '../../server/storage/index.ts';
import { createMemoryDisk, MemoryStorage } from '../fakes/memory-storage.ts';
import { storageConformance } from './storage.ts';

storageConformance('A local folder', async () => {
  const outer = await mkdtemp(path.join(tmpdir(), 'dozo-storage-'));
  const folder = await mkdtemp(path.join(outer, 'root-'));
  return {
    storage: await openLocalStorage({ folder }),
    reopen: () => openLocalStorage({ folder }),
    takeAway: () => rename(folder, `${folder}-away`),
    close: () => rm(outer, { recursive: true }),
  };
});

storageConformance('The memory of a test', async () => {
  const disk = createMemoryDisk();
  return {
    storage: new MemoryStorage(disk),
    reopen: async () => new MemoryStorage(disk),
    takeAway: async () => {
      disk.missing = true;
    },
    close: async () => {},
  };
});
