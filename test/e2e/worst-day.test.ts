import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFile, copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { MIB } from '../../server/runtime/index.ts';
import { oneDisk, RUN_MS, Scene, type Named, type Run } from './scene.ts';

const MACHINE = 'files';
const PASSPHRASE = 'correct horse battery';
let scene: Scene;
let machineId: string;
let mainId: string;
let secondId: string;
let jobId: string;
/** A copy of the machine's disk, which nobody writes to. */
let original: string;

before(async () => {
  scene = await Scene.start({ machines: [oneDisk(MACHINE, { mebibytes: 16, percent: 50, seed: 7 })] });
  const { api, folder } = scene;
  original = join(folder, 'original');
  await copyFile(await scene.diskOnHost(MACHINE), original);
  ({ id: mainId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'main') }));
  const second = { name: 'second', path: join(folder, 'second'), passphrase: PASSPHRASE };
  ({ id: secondId } = await api.post<Named>('/repositories', second));
  machineId = (await scene.addHost()).get(MACHINE) ?? '';
  ({ id: jobId } = await api.post<Named>('/jobs', {
    name: 'Nightly',
    machineIds: [machineId],
    repositoryId: mainId,
    options: { fullRead: true },
  }));
  const run = await api.post<Named>(`/jobs/${jobId}/run`, {});
  assert.equal(await scene.ended(run.id), 'success');
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

/** Versions of a storage; with `trash=true` those in its trash. */
async function versions(repositoryId: string, query = ''): Promise<{ id: string; lockedUntilMs: number | null }[]> {
  return (
    await scene.api.get<{ points: { id: string; lockedUntilMs: number | null }[] }>(
      `/points?repositoryId=${repositoryId}&${query}`,
    )
  ).points;
}

async function runsOf(kind: string): Promise<Run[]> {
  return (await scene.api.get<{ runs: Run[] }>(`/runs?kind=${kind}`)).runs;
}

/** So slow that what runs now does not end before it is allowed to. */
async function holdBack(isSlow: boolean): Promise<void> {
  const throttle = isSlow ? { timeZone: 'UTC', limits: [], otherwise: 0.1 } : null;
  await scene.api.patch('/settings', { throttle });
}

/** The disk of a version, byte for byte as the machine had it. */
async function assertWhole(pointId: string, name: string): Promise<void> {
  const path = join(scene.folder, name);
  const run = await scene.api.post<Named>('/exports', { pointId, diskKey: 'scsi0:0', path });
  assert.equal(await scene.ended(run.id), 'success');
  assert.equal(await firstDifference(path, original), null);
}

async function openMenuOf(name: string): Promise<void> {
  await scene.button(scene.say('storage.actionsOf', { name })).click();
}

/** An encrypted storage with versions: another NAS might have made it. */
async function forgetAndTakeUp(name: string): Promise<void> {
  const { page, api } = scene;
  const path = join(scene.folder, name);
  await openMenuOf(name);
  await page.getByText(scene.say('storage.forget'), { exact: true }).click();
  await scene.button('Remove', page.getByRole('dialog')).click();
  await page.getByRole('heading', { name }).waitFor({ state: 'detached' });
  await scene.open(`/restore?machine=${machineId}`);
  await page.getByRole('radio').first().waitFor();
  assert.equal(await page.getByRole('radio').count(), 1, 'versions of a storage that is not known are not offered');

  await scene.open('/storage');
  await scene.button('Add storage').click();
  const form = page.getByRole('dialog');
  await form.getByRole('radio', { name: scene.say('storage.adopt'), exact: true }).click();
  await scene.fill('Folder on the NAS', path);
  for (const wrong of ['', 'incorrect horse battery']) {
    await scene.fill(scene.say('storage.key'), wrong);
    await scene.button(scene.say('storage.takeUp'), form).click();
    await form.getByRole('alert').waitFor();
    assert.match(await form.getByRole('alert').innerText(), wrong === '' ? /encrypted/i : /key|passphrase/i);
  }
  await scene.window.picture('take-up-refused');
  await scene.fill(scene.say('storage.key'), PASSPHRASE);
  await scene.button(scene.say('storage.takeUp'), form).dblclick();
  await form.waitFor({ state: 'detached' });
  await page.getByRole('heading', { name }).waitFor();
  const known = (await api.get<Named[]>('/repositories')).filter((repository) => repository.name === name);
  assert.equal(known.length, 1, 'a double click takes it up once');
  secondId = known[0]?.id ?? '';
  await scene.open(`/storage/${secondId}`);
  await page.locator('[data-row]').waitFor();
  assert.equal((await versions(secondId)).length, 1);
  // That the first key did not open it.
  scene.window.complaints.length = 0;
}

test('versions are copied to a second storage once, and come back from there', async () => {
  const { page } = scene;
  await scene.open('/storage');
  await openMenuOf('main');
  await page.getByText('Copy to another storage').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('radio', { name: 'second', exact: true }).click();
  await scene.window.picture('copy');
  assert.deepEqual(await scene.window.barriers(), []);
  await scene.button('Start copying', dialog).dblclick();
  assert.match(await scene.runEnded(), /Success/);
  await page.getByText('1 version copied and compared').waitFor();
  await scene.window.picture('copy-run');
  assert.deepEqual(await scene.window.barriers(), []);
  assert.equal((await runsOf('copy')).length, 1, 'a double click copies once');
  await page.goBack();
  await page.goForward();
  assert.equal((await runsOf('copy')).length, 1, 'going back and forth copies nothing');
  const [copy] = await versions(secondId);

  await scene.open(`/storage/${mainId}`);
  await page.getByRole('checkbox').last().click();
  await scene.button('Copy').click();
  await scene.button('Start copying').click();
  assert.match(await scene.runEnded(), /Success/);
  await page.getByText('1 version was there already.').waitFor();
  assert.equal((await versions(secondId)).length, 1);
  await scene.open('/storage');
  await page.getByRole('heading', { name: 'Latest copies' }).waitFor();
  assert.equal(await page.getByText('main → second').count(), 2);
  await forgetAndTakeUp('second');

  await scene.open(`/restore?machine=${machineId}`);
  await page.getByRole('radio', { name: /second/ }).click();
  await scene.next();
  await scene.next();
  await scene.fill('Name of the new virtual machine', 'from the copy');
  await scene.next();
  await scene.next();
  await scene.next();
  await page.locator('dd', { hasText: 'second' }).waitFor();
  await scene.button('Restore now').dblclick();
  assert.match(await scene.runEnded(), /Success/);
  assert.equal((await runsOf('restore')).length, 1, 'a double click restores once');
  assert.equal(await firstDifference(await scene.diskOnHost('from the copy'), original), null);
  await assertWhole(copy?.id ?? '', 'copied.img');
  assert.deepEqual(scene.window.complaints, []);
});

test('a restore that is cancelled leaves the original as it was', async () => {
  const { page, lab } = scene;
  const before = (await lab.state()).vms.map(({ id, name, vmxPath }) => ({ id, name, vmxPath }));
  await holdBack(true);
  await scene.open(`/restore?machine=${machineId}`);
  await scene.next();
  await page.getByRole('radio', { name: 'Replace the original', exact: true }).click();
  for (let step = 0; step < 4; step += 1) await scene.next();
  await page.getByRole('checkbox', { name: 'I have understood this.', exact: true }).click();
  await scene.button('Restore now').click();
  await page.getByText('Writing').first().waitFor({ timeout: RUN_MS });
  await scene.window.picture('restore-live');
  // It goes on without the server, and the window with it once there is one again.
  const { id } = await scene.shownRun();
  await scene.product.killServer();
  await page.getByText(scene.say('nav.reconnecting')).waitFor();
  await page.getByText('Writing').first().waitFor();
  await scene.window.picture('restore-without-server');
  await scene.product.start();
  await page.getByText(scene.say('nav.reconnecting')).waitFor({ state: 'detached' });
  await page.getByText('Writing').first().waitFor();
  assert.equal((await scene.shownRun()).id, id);
  assert.equal((await runsOf('restore')).filter(({ state }) => state === 'running').length, 1);
  scene.window.complaints.length = 0;
  await scene.button('Cancel run').click();
  await scene.button('Cancel run', page.getByRole('dialog')).click();
  assert.match(await scene.runEnded(), /Cancelled/);
  await holdBack(false);

  const now = (await lab.state()).vms.map(({ id, name, vmxPath }) => ({ id, name, vmxPath }));
  assert.deepEqual(now, before, 'the same machines, under the same ids and paths');
  assert.equal(await firstDifference(await scene.diskOnHost(MACHINE), original), null);
  assert.deepEqual(scene.window.complaints, []);
});

test('a host that is lost in mid-run is found again, and the version is whole', async () => {
  const { page, lab } = scene;
  const healthy = (await lab.state()).switches;
  await holdBack(true);
  await scene.open('/tasks');
  await scene.button('Back up now').click();
  await page.getByText('Transferring').first().waitFor({ timeout: RUN_MS });
  await page
    .getByText(`${scene.say('explain.bottleneck')}: ${scene.say('bottleneck.limit')}`, { exact: true })
    .waitFor();
  await lab.set({ ssh: 'off', https: 'off' });
  assert.ok((await lab.killSessions()) > 0, 'something was being read');
  const { id } = await scene.shownRun();
  const [host] = await scene.api.get<Named[]>('/hosts');
  await assert.rejects(scene.api.get(`/hosts/${host?.id ?? ''}/machines?refresh=true`));
  await scene.open('/');
  await page.getByText(scene.say('overview.hostDown', { name: 'lab' })).waitFor();
  await scene.window.picture('host-lost');
  assert.equal((await scene.api.get<Run>(`/runs/${id}`)).finishedAtMs, null, 'the run waits for its host');
  await lab.set(healthy);
  await holdBack(false);
  await scene.open(`/activities/${id}`);
  assert.match(await scene.runEnded(), /Success|warnings/);
  assert.deepEqual((await lab.state()).vms.find(({ name }) => name === MACHINE)?.snapshots ?? [], []);
  const [newest] = await versions(mainId);
  assert.equal((await versions(mainId)).length, 2);
  await assertWhole(newest?.id ?? '', 'after-loss.img');
  scene.window.complaints.length = 0;
});

test('a deletion is taken back by the button of its message', async () => {
  const { page } = scene;
  const before = (await versions(mainId)).map(({ id }) => id);
  await scene.open(`/storage/${mainId}`);
  await page.getByRole('checkbox').first().click();
  await scene.button('Delete').click();
  await scene.button('Move to the trash', page.getByRole('dialog')).click();
  await page.getByText('1 version is in the trash.').waitFor();
  await scene.button('Undo').click();
  await scene.until('the version is back', async () => {
    const now = (await versions(mainId)).map(({ id }) => id);
    return now.join() === before.join() ? true : null;
  });
  assert.equal((await versions(mainId, 'trash=true')).length, 0);
});

test('a retention says what it would let go of now, before it is saved', async () => {
  const { page } = scene;
  await scene.open(`/tasks/${jobId}`);
  await page.getByText('Retention', { exact: true }).first().click();
  await page.getByRole('radio', { name: 'The latest 10', exact: true }).click();
  await page.getByText('All versions that are there now stay.').waitFor();
  await page.getByRole('radio', { name: 'By my own rules', exact: true }).click();
  await page.getByLabel('Latest versions', { exact: true }).fill('1');
  await page.getByText(/Of the versions that are there now, 1 would go to the trash \(1 stay\)/).waitFor();
  await scene.window.picture('retention-effect');
  assert.deepEqual(await scene.window.barriers(), []);
  assert.equal((await versions(mainId)).length, 2, 'nothing has gone yet');
  assert.equal((await versions(mainId, 'trash=true')).length, 0);
});

test('maintenance lets go for good what its time in the trash is over for', async () => {
  const { page } = scene;
  const [, oldest] = await versions(mainId);
  await scene.api.post('/points/delete', { pointIds: [oldest?.id], repositoryId: mainId, trashDays: 0 });
  await scene.open('/storage');
  const card = page.locator('article').filter({ has: page.getByRole('heading', { name: 'main', exact: true }) });
  await card.getByText('1 version in the trash.').waitFor();
  await scene.button('Maintain now', card).dblclick();
  assert.match(await scene.runEnded(), /Success/);
  await page.getByText('1 version removed for good').waitFor();
  assert.equal((await runsOf('maintenance')).length, 1, 'a double click maintains once');
  assert.equal((await versions(mainId, 'trash=true')).length, 0);
  const [kept] = await versions(mainId);
  await assertWhole(kept?.id ?? '', 'after-maintenance.img');
});

test('a locked version cannot be deleted, and says until when', async () => {
  const { page } = scene;
  await scene.open(`/storage/${mainId}`);
  await page.getByRole('checkbox').first().click();
  await scene.button('Lock for 30 days').click();
  await scene.button('Lock for 30 days', page.getByRole('dialog')).click();
  await page.getByText(/locked until/).waitFor();
  await scene.window.picture('locked');
  const [locked] = await versions(mainId);
  assert.ok((locked?.lockedUntilMs ?? 0) > Date.now() + 29 * 86_400_000);

  await page.getByRole('checkbox').first().click();
  await scene.button('Delete').click();
  await scene.button('Move to the trash', page.getByRole('dialog')).click();
  await page.getByRole('alert').getByText(/lock/i).first().waitFor();
  assert.equal((await versions(mainId)).length, 1);
  assert.equal((await versions(mainId, 'trash=true')).length, 0);
});

test('a host that hangs is told after a minute, and the run goes on by itself once it answers', async () => {
  const { page, lab } = scene;
  await lab.set({ hang: true });
  await scene.open('/tasks');
  const begunAtMs = Date.now();
  await scene.button('Back up now').click();
  const still = page.getByText(/^Nothing has moved since/);
  await still.waitFor({ timeout: RUN_MS });
  assert.ok(Date.now() - begunAtMs >= 60_000, 'a minute is given');
  await scene.window.picture('host-hangs');
  assert.deepEqual(await scene.window.barriers(), []);
  await lab.set({ hang: false });
  await still.waitFor({ state: 'detached' });
  assert.match(await scene.runEnded(), /Success/);
  const [newest] = await versions(mainId);
  await assertWhole(newest?.id ?? '', 'after-hang.img');
  assert.deepEqual(scene.window.complaints, []);
});

test('a storage that is full is told on every screen, with what to do, until a run was good again', async () => {
  const { page, api, folder } = scene;
  const volume = join(folder, 'small');
  const ballast = join(volume, 'ballast');
  await mkdir(volume);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'dozo-small', volume]);
  try {
    const { id: repositoryId } = await api.post<Named>('/repositories', { name: 'small', path: join(volume, 'dozo') });
    const job = { name: 'To the small one', machineIds: [machineId], repositoryId, options: { fullRead: true } };
    await api.post('/jobs', job);
    for (const bytes of [MIB, 4096]) {
      // Until nothing fits any more.
      while (
        await appendFile(ballast, Buffer.alloc(bytes, 1)).then(
          () => true,
          () => false,
        )
      );
    }
    const runNow = async (): Promise<void> => {
      await scene.open('/tasks');
      const task = page.locator('article').filter({ has: page.getByRole('heading', { name: job.name, exact: true }) });
      await scene.button('Back up now', task).click();
    };
    await runNow();
    assert.match(await scene.runEnded(), /Failed/);
    const { id: runId } = await scene.shownRun();
    const told = await page.getByRole('alert').first().innerText();
    assert.match(told, /full|no room/i);
    assert.match(told, /free|shorten|delete/i, 'what to do is said');
    await scene.window.picture('storage-full-run');

    await scene.open('/');
    const attention = page
      .locator('section')
      .filter({ has: page.getByRole('heading', { name: scene.say('overview.attention') }) });
    const failing = attention.getByRole('list').getByRole('link', { name: MACHINE, exact: true });
    await failing.click();
    await page.waitForURL(new RegExp(`#/activities/${runId}$`));
    await scene.open('/machines');
    await page.getByRole('row', { name: MACHINE }).getByRole('link', { name: 'Failing' }).click();
    await page.waitForURL(new RegExp(`#/activities/${runId}$`));

    await rm(ballast);
    await runNow();
    assert.match(await scene.runEnded(), /Success/);
    await scene.open('/machines');
    await page.getByRole('row', { name: MACHINE }).getByText('Protected').waitFor();
    await scene.open('/');
    assert.equal(await failing.count(), 0);
    const [made] = await versions(repositoryId);
    await assertWhole(made?.id ?? '', 'after-full.img');
    assert.deepEqual(scene.window.complaints, []);
  } finally {
    execFileSync('umount', ['-l', volume]);
  }
});
