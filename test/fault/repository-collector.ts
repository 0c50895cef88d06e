import { writeSync } from 'node:fs';
import { openRepository } from '../../server/repository/index.ts';
import { openLocalStorage, type Storage } from '../../server/storage/index.ts';

/**
 * Deletes all but the newest versions and collects, again and again; ends by itself after a few turns, or is killed.
 * Arguments: the folder, and before which operation on the storage, counted from the first collection, it kills
 * itself; 0: not at all. Prints `open`, `deletes VERSION` before each deletion, and `removed PACKS` after each turn.
 */
const [folder = '', killBefore = '0'] = process.argv.slice(2);
const TURNS = 4;
const KEPT = 3;
let operations = -1;

/** One line at once: what was said before a kill was said. */
function say(line: string): void {
  writeSync(1, `${line}\n`);
}

function step(): void {
  if (operations < 0) return;
  operations += 1;
  if (operations === Number(killBefore)) process.kill(process.pid, 'SIGKILL');
}

function counted(storage: Storage): Storage {
  const { publish, create, read, exists, listNames, persist, remove } = storage;
  return Object.assign(storage, {
    publish: (...args: Parameters<typeof publish>) => (step(), publish.apply(storage, args)),
    create: (...args: Parameters<typeof create>) => (step(), create.apply(storage, args)),
    read: (...args: Parameters<typeof read>) => (step(), read.apply(storage, args)),
    exists: (...args: Parameters<typeof exists>) => (step(), exists.apply(storage, args)),
    listNames: (...args: Parameters<typeof listNames>) => (step(), listNames.apply(storage, args)),
    persist: (...args: Parameters<typeof persist>) => (step(), persist.apply(storage, args)),
    remove: (...args: Parameters<typeof remove>) => (step(), remove.apply(storage, args)),
  });
}

const repository = await openRepository({ storage: counted(await openLocalStorage({ folder })), threads: 0 });
say('open');
for (let turn = 0; turn < TURNS; turn += 1) {
  const points = await repository.listPoints();
  for (const { pointId, manifest } of points.slice(0, -KEPT)) {
    const { version } = manifest?.evidence as { version: number };
    say(`deletes ${version}`);
    await repository.deletePoint(pointId, { keepUntilMs: Date.now() - 1, reason: 'rule' });
  }
  operations = Math.max(0, operations);
  const { removedPacks } = await repository.collect({ patienceMs: 5_000, liveShareMin: 0.9 });
  say(`removed ${removedPacks}`);
}
await repository.close();
