import assert from 'node:assert/strict';
import { copyFileSync, globSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DebianPackage } from '../../scripts/package/pins.ts';
import { fetchLibrary } from '../../scripts/package/sources.ts';
import type { BackupScene } from './backup-scene.ts';
import { architectureOf } from './machine.ts';
import type { NasRoot } from './nas-root.ts';
import type { RunView, WindowApi } from './window-api.ts';

const DAY_MS = 24 * 3600 * 1000;
const MINUTE_MS = 60_000;
/** Beyond what clocks of machines that share a repository may differ by; another time of the day. */
const BACK_MS = 3.5 * DAY_MS;
/** Debian's C library, which is the package's too, puts its own processor's folder for `$LIB`. */
const LIBRARY = (folder: string): string => `/usr/${folder}/faketime.so`;
/** For a processor that is emulated: that of the machine is installed. */
const FAKETIME: DebianPackage = {
  name: 'libfaketime',
  pool: 'f/faketime',
  version: '0.9.10-2.1',
  licence: 'GPL-2.0-only',
  sha256: {
    amd64: 'b09481e7690680966005330c3f907bba4b5eefc35e1faaea4783cc55655d1150',
    arm64: '2e09e24e85c77bdc555a04b4a6dd4523092066135d08ef233396e8f984a3daf2',
  },
  files: ['libfaketimeMT.so.1'],
};
const OFFSET = 'tmp/clock';

/**
 * The clock of an installed package: libfaketime below each of its programs but the queue, which is static and goes by
 * the clock of this machine. How long something takes stays true, as where somebody sets the clock of a NAS.
 */
export class SetClock {
  readonly #root: NasRoot;
  /** For the scripts of the package. */
  readonly environment = {
    LD_PRELOAD: LIBRARY('$LIB'),
    FAKETIME_TIMESTAMP_FILE: `/${OFFSET}`,
    // Each process would else find a clock that was set up to a second later than the others.
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    NO_FAKE_STAT: '1',
  };

  constructor(root: NasRoot) {
    this.#root = root;
    const [library] = globSync('/usr/lib/*/faketime/libfaketimeMT.so.1');
    if (library === undefined) throw new Error('libfaketime is missing');
    // Before anything runs there: libraries in use are not to be written.
    root.bring(library, LIBRARY('lib/x86_64-linux-gnu'));
    if (root.machine === 'aarch64') {
      const { folder } = fetchLibrary(FAKETIME, architectureOf(root.machine), { allowsNewer: true });
      const name = 'lib/aarch64-linux-gnu';
      mkdirSync(dirname(root.path(LIBRARY(name))), { recursive: true });
      copyFileSync(join(folder, `usr/${name}/faketime/libfaketimeMT.so.1`), root.path(LIBRARY(name)));
    }
    this.set(0);
  }

  /** @param offsetMs against the clock of the machine that tests run on */
  set(offsetMs: number): void {
    writeFileSync(this.#root.path(OFFSET), `${offsetMs < 0 ? '-' : '+'}${Math.abs(offsetMs) / 1000}`);
  }
}

/** Sets the clock back by days under a package that is at work, and right again. Nothing of it is lost by that. */
export async function assertSurvivesClock(
  api: WindowApi,
  clock: SetClock,
  options: {
    scene: BackupScene;
    hostId: string;
    jobId: string;
    repositoryId: string;
    password: string;
    restart: () => Promise<void>;
  },
): Promise<void> {
  const { scene, hostId, jobId, repositoryId, password, restart } = options;
  // By a new session each time: its end is counted from now. The browser goes by its own clock, and keeps it.
  const isRight = async (): Promise<boolean> => {
    const { expiresAtMs } = await api.post<{ expiresAtMs: number }>('/session', { user: 'admin', password });
    await api.answers();
    return Math.abs(expiresAtMs - Date.now()) < 2 * DAY_MS;
  };
  const pointsOf = async (): Promise<string[]> =>
    (await api.get<{ points: { id: string }[] }>('/points?limit=100')).points.map(({ id }) => id).sort();
  const maintain = async (): Promise<RunView> =>
    api.ended(await api.post<{ id: string }>(`/repositories/${repositoryId}/maintenance`, {}));
  // Writes down what there is, and when.
  assert.equal((await maintain()).state, 'success');
  const before = await pointsOf();
  assert.ok(before.length > 0);

  // The clock will come by a time that the schedule names some seconds after it was set.
  const backMs = BACK_MS + ((Date.now() - BACK_MS) % MINUTE_MS) - (MINUTE_MS - 10_000);
  const timeOf = (minutes: number): string =>
    new Date(Date.now() - backMs + minutes * MINUTE_MS).toISOString().slice(11, 16);
  const rules = Array.from({ length: 20 }, (_, index) => ({ rule: { kind: 'daily', time: timeOf(index + 1) } }));
  await api.put(`/jobs/${jobId}/schedule`, { timeZone: 'UTC', rules });

  clock.set(-backMs);
  await api.until('the clock that was set back', async () => ((await isRight()) ? null : true));
  const scheduled = await api.until('a run of the schedule', async () => {
    const { runs } = await api.get<{ runs: { id: string; startedBy: string }[] }>(`/runs?jobId=${jobId}`);
    return runs.find(({ startedBy }) => startedBy === 'schedule') ?? null;
  });
  await api.put(`/jobs/${jobId}/schedule`, { timeZone: 'UTC', rules, enabled: false });
  const pointId = scene.pointOf(await api.ended(scheduled));
  await scene.assertRestores(api, { pointId, hostId, name: 'of the past' });

  const refused = await maintain();
  assert.notEqual(refused.state, 'success');
  assert.match(JSON.stringify(refused), /REPOSITORY_CLOCK_BACK/);
  assert.match(JSON.stringify(refused), /Set the clock of the NAS right/);
  assert.deepEqual(await pointsOf(), [...before, pointId].sort());

  await restart();
  await api.answers();
  assert.ok(!(await isRight()));

  clock.set(0);
  await api.until('the clock that is right again', async () => ((await isRight()) ? true : null));
  await api.answers();
  assert.equal((await maintain()).state, 'success');
  assert.deepEqual(await pointsOf(), [...before, pointId].sort());
}
