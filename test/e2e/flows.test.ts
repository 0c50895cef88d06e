import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { TOTP } from 'otpauth';
import type { Locator } from 'playwright-core';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { openWindow } from './browser.ts';
import { oneDisk, RUN_MS, Scene, type Named } from './scene.ts';
import { TASK_STEPS } from './task-steps.ts';

const MACHINE = 'files';
/** How long the window offers to undo a deletion. */
const UNDO_MS = 60_000;

let scene: Scene;
/** Of `admin`, as it is now. */
let password: string;
let machineId: string;
let repositoryId: string;
let jobId: string;
/** A copy of the machine's disk as it was before its backup. */
let original: string;

before(async () => {
  scene = await Scene.start({ machines: [oneDisk(MACHINE, { mebibytes: 16, percent: 50, seed: 7 })] });
  const { api, folder, lab } = scene;
  original = (await lab.captureTruth(await scene.lab.vmId(MACHINE), 'before'))['scsi0:0'] ?? '';
  password = scene.product.password;
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'repository') }));
  machineId = (await scene.addHost()).get(MACHINE) ?? '';
  ({ id: jobId } = await api.post<Named>('/jobs', { name: 'Nightly', machineIds: [machineId], repositoryId }));
  const run = await api.post<Named>(`/jobs/${jobId}/run`, {});
  assert.equal(await scene.ended(run.id), 'success');
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

test('a version goes to the trash after a question that names it, and comes back', async () => {
  const { page } = scene;
  const count = async (query: string): Promise<number> =>
    (await scene.api.get<{ points: unknown[] }>(`/points?machineId=${machineId}${query}`)).points.length;
  const before = await count('');
  await scene.open(`/storage/${repositoryId}`);
  await page.getByRole('checkbox').last().click();
  await scene.button('Delete').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(/goes to the trash/).waitFor();
  assert.match(await dialog.innerText(), new RegExp(`The version of “.?${MACHINE}.?” from \\d.+ goes to the trash`));
  assert.match(await dialog.innerText(), new RegExp(`No storage has another version of “.?${MACHINE}.?”`));
  await scene.window.picture('trash-delete');
  await scene.button('Cancel', dialog).click();
  await dialog.waitFor({ state: 'detached' });
  assert.equal(await count(''), before, 'what was asked and not answered is not done');
  await scene.button('Delete').click();
  await dialog.getByRole('button', { name: 'Move to the trash', exact: true }).click();
  await page.getByText('1 version is in the trash.').waitFor();
  assert.equal(await count(''), before - 1);
  assert.equal(await count('&trash=true'), 1);

  // It was the only one: that is no storage that nothing was backed up to.
  await page.getByText('All versions are in the trash', { exact: true }).waitFor();
  await scene.window.picture('all-in-trash');
  await page.getByRole('tab', { name: 'Trash', exact: true }).click();
  await page.getByText('Goes for good after').waitFor();
  // An offer made for the other list covers nothing here.
  await page.getByText('1 version is in the trash.').waitFor({ state: 'detached' });
  await scene.open(`/restore?machine=${machineId}`);
  await page.getByText('All versions are in the trash', { exact: true }).waitFor();
  await scene.link('Open the trash').click();
  await page.getByText('Goes for good after').waitFor();
  await scene.window.picture('trash');
  await page.getByRole('checkbox').last().click();
  await scene.button('Bring back').click();
  // The message about it stays for seconds only.
  await scene.until('the version is back', async () => ((await count('')) === before ? true : null));
  assert.deepEqual(scene.window.complaints, []);
});

test('an offer to undo a deletion goes with the page that made it', async () => {
  const { page } = scene;
  await scene.open(`/storage/${repositoryId}`);
  await page.getByRole('checkbox').last().click();
  await scene.button('Delete').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Move to the trash', exact: true }).click();
  const offer = page.getByText('1 version is in the trash.');
  await offer.waitFor();
  await page.evaluate("location.hash = '#/tasks'");
  await offer.waitFor({ state: 'detached', timeout: UNDO_MS / 2 });
  const trash = await scene.api.get<{ points: Named[] }>(`/points?machineId=${machineId}&trash=true`);
  await scene.api.post('/points/undelete', { repositoryId, pointIds: trash.points.map(({ id }) => id) });
});

test('on a phone each step of a wizard begins in sight, and so are the buttons of a long form', async () => {
  const { page } = scene;
  const HEIGHT = 800;
  const isInSight = async (element: Locator, topmost: number): Promise<boolean> => {
    const box = await element.boundingBox();
    return box !== null && box.y >= topmost && box.y + box.height <= HEIGHT;
  };
  await page.setViewportSize({ width: 400, height: HEIGHT });
  try {
    await scene.open('/tasks/new');
    const bar = await page.getByRole('banner').boundingBox();
    assert.ok(bar !== null);
    await page.getByRole('checkbox').first().click();
    for (const step of TASK_STEPS.slice(1)) {
      await scene.next();
      const head = page.locator('.q-stepper__tab--active', { hasText: scene.say(`task.step.${step}`) });
      await head.waitFor();
      await scene.window.settle();
      await scene.until(`${step} in sight`, async () => ((await isInSight(head, bar.height)) ? true : null));
      await scene.window.picture(`phone-step-${step}`);
    }
    await scene.open('/machines');
    await scene.button(scene.say('host.addHost')).click();
    await scene.fill('Address', '127.0.0.1');
    await scene.fill('Password', 'anything');
    await page.getByText('More settings').click();
    await scene.fill('SSH port', '1');
    await scene.fill('HTTPS port', '1');
    await scene.button('Check connection').click();
    await page.getByRole('alert').waitFor();
    assert.ok(await isInSight(scene.button('Check connection'), 0));
  } finally {
    await page.setViewportSize({ width: 1280, height: 800 });
  }
  assert.deepEqual(scene.window.complaints, []);
});

test('on a phone the machines are seen first, and what can be done with chosen ones stays in sight', async () => {
  const { page } = scene;
  const size = { width: 390, height: 844 };
  await page.setViewportSize(size);
  try {
    await scene.open('/machines');
    const box = scene.boxOf(MACHINE);
    const first = await box.boundingBox();
    assert.ok(first !== null && first.y < size.height / 3, `${JSON.stringify(first)} is far down`);
    await box.click();
    const restore = await scene.button(scene.say('restore.restore')).boundingBox();
    assert.ok(restore !== null && restore.y + restore.height <= size.height);
    const row = await box.boundingBox();
    assert.equal(row?.y, first.y, 'the row stays under the finger');
    await scene.window.picture('phone-machines-chosen');
    assert.deepEqual(await scene.window.barriers(), []);
    await scene.button(scene.say('machine.filter')).click();
    await page.getByLabel(scene.say('machine.sortBy'), { exact: true }).waitFor();
    const host = scene.button(/lab$/);
    await host.click();
    await page
      .getByRole('group', { name: scene.say('host.hosts'), exact: true })
      .getByText('lab')
      .click();
    await page.getByRole('group', { name: scene.say('host.hosts'), exact: true }).waitFor({ state: 'detached' });
    await scene.window.picture('phone-machines-filters');
    assert.deepEqual(await scene.window.barriers(), []);

    await scene.open('/settings');
    await page.getByLabel(scene.say('settings.section'), { exact: true }).click();
    await page.getByRole('option', { name: scene.say('settings.tab.limits'), exact: true }).click();
    await page.getByLabel(scene.say('settings.trashDays'), { exact: true }).waitFor();
    await page.waitForURL(/tab=limits$/);
  } finally {
    await page.setViewportSize({ width: 1280, height: 800 });
  }
  assert.deepEqual(scene.window.complaints, []);
});

test('from the restore of a machine to its versions in the storage, and from there to all', async () => {
  const { page } = scene;
  await scene.open(`/restore?machine=${machineId}`);
  await scene.link(scene.say('restore.manage', { name: 'main' })).click();
  await page.waitForURL(new RegExp(`/storage/${repositoryId}\\?machine=${machineId}`));
  const chip = page.locator('.q-chip', { hasText: MACHINE });
  await chip.waitFor();
  await page.getByRole('checkbox').last().waitFor();
  await scene.button('All', chip).click();
  await page.waitForURL(new RegExp(`/storage/${repositoryId}$`));
  await page.getByRole('checkbox').last().waitFor();
  assert.deepEqual(scene.window.complaints, []);
});

test('a version that is not listed yet when its restore is opened appears by itself', async () => {
  const { page, api } = scene;
  const { points } = await api.get<{ points: Named[] }>(`/points?machineId=${machineId}`);
  const nothing = { json: { points: [], next: null } };
  await page.route('**/api/v1/points?machineId=*', (route) => route.fulfill(nothing), { times: 1 });
  await scene.open(`/restore?machine=${machineId}&point=${points[0]?.id ?? ''}`);
  await page.getByText('No versions', { exact: true }).waitFor();
  await api.post(`/repositories/${repositoryId}/refresh`, {});
  await page.getByText('Complete', { exact: true }).waitFor();
  assert.equal(await scene.button('Next').isEnabled(), true);
  assert.deepEqual(scene.window.complaints, []);
});

test('a version takes the place of the original, byte for byte', async () => {
  const { page } = scene;
  // What was written after the backup is to be gone.
  const vmId = await scene.lab.vmId(MACHINE);
  await scene.lab.power(vmId, 'on');
  await scene.lab.writeAt(vmId, 'scsi0:0', [{ offsetBytes: 4096, data: Buffer.alloc(4096, 0x5a) }]);
  await scene.lab.power(vmId, 'off');
  assert.notEqual(await firstDifference(await scene.diskOnHost(MACHINE), original), null);

  await scene.open(`/restore?machine=${machineId}`);
  await scene.next();
  await page.getByRole('radio', { name: 'Replace the original', exact: true }).click();
  await scene.next();
  await scene.next();
  await scene.next();
  await page.getByText('will be replaced').waitFor();
  await page.getByText(scene.say('restore.noEstimate'), { exact: true }).waitFor();
  await scene.window.picture('restore-replace-check');
  await scene.next();
  assert.equal(await scene.button('Restore now').isDisabled(), true, 'it must be said that this is understood');
  await page.getByRole('checkbox', { name: 'I have understood this.', exact: true }).click();
  await scene.button('Restore now').click();
  assert.match(await scene.runEnded(), /Success/);
  assert.equal(await firstDifference(await scene.diskOnHost(MACHINE), original), null);
  assert.equal((await scene.lab.state()).vms.filter(({ name }) => name === MACHINE).length, 1);
  assert.deepEqual(scene.window.complaints, []);
});

test('before a restore it is said how long it will take, by what the last one took', async () => {
  const { page, api } = scene;
  const { runs } = await api.get<{ runs: Named[] }>('/runs?kind=restore&state=success');
  assert.equal(runs.length, 1);
  const { parts } = await api.get<{
    parts: { result: { writtenBytes: number; startedAtMs: number; finishedAtMs: number } }[];
  }>(`/runs/${runs[0]?.id ?? ''}`);
  const { writtenBytes = 0, startedAtMs = 0, finishedAtMs = 0 } = parts[0]?.result ?? {};
  const { points } = await api.get<{ points: { sizeBytes: number }[] }>(`/points?machineId=${machineId}`);
  const sizeBytes = points[0]?.sizeBytes ?? 0;
  assert.ok(writtenBytes > 0 && sizeBytes > 0);
  const seconds = (sizeBytes * (finishedAtMs - startedAtMs)) / 1000 / writtenBytes;

  await scene.open(`/restore?machine=${machineId}`);
  for (let step = 0; step < 4; step += 1) await scene.next();
  const told = await page.getByText(/^About .+ at most, for .+, by what the last restore took\.$/).innerText();
  const [, minutes = 0, rest = 0, size] =
    /^About (?:(\d+)\smins?)?\s?(?:(\d+)\ssecs?)? at most, for (16\sMB),/.exec(told) ?? [];
  assert.ok(size !== undefined, told);
  assert.equal(Number(minutes) * 60 + Number(rest), Math.max(1, Math.round(seconds)), told);
  await scene.window.picture('restore-estimate');
  assert.deepEqual(scene.window.complaints, []);
});

test('a disk is written to a file, byte for byte', async () => {
  const { page } = scene;
  const path = join(scene.folder, 'disk.img');
  await scene.open(`/restore?machine=${machineId}`);
  await scene.next();
  await page.getByRole('radio', { name: 'A disk as a file', exact: true }).click();
  await scene.next();
  await scene.fill('File on the NAS', path);
  await scene.next();
  await scene.button('Write file').click();
  assert.match(await scene.runEnded(), /Success/);
  assert.equal(await firstDifference(path, original), null);
});

test('a storage says what saves its room, and whose versions take it', async () => {
  const { page } = scene;
  const { stats } = await scene.api.get<{ stats: { nominalBytes: number; reduction: Record<string, number> } }>(
    `/repositories/${repositoryId}`,
  );
  const { unreadBytes = 0, skippedBytes = 0, zeroBytes = 0, duplicateBytes = 0, compressedBytes = 0 } = stats.reduction;
  const { points } = await scene.api.get<{ points: { disks: { storedBytes: number }[] }[] }>('/points');
  const addedBytes = points.flatMap(({ disks }) => disks).reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  // Of what was read in full once, nothing is lost between the parts.
  assert.equal(
    unreadBytes + skippedBytes + zeroBytes + duplicateBytes + compressedBytes + addedBytes,
    stats.nominalBytes,
  );
  assert.ok(unreadBytes + zeroBytes > 0 && compressedBytes > 0, JSON.stringify(stats));
  await scene.open('/storage');
  for (const part of [
    'This storage',
    'Saved by compression',
    'Known already',
    'Empty areas',
    'Not read (unchanged or unused)',
  ]) {
    await page.locator('li', { hasText: part }).locator('strong').first().waitFor();
  }
  const card = await page.locator('article').first().innerText();
  assert.equal(card.match(/\bfree\b/gi)?.length, 1, 'how much is free is told once');
  const row = page.getByRole('row', { name: MACHINE });
  assert.match(await row.innerText(), new RegExp(`${MACHINE}\\s+${points.length}\\s+16\\sMB\\s+[0-9.]+\\s[KM]B`));
  await scene.window.picture('storage-usage');
  await row.getByRole('link').click();
  await page.getByText(`Versions in`).first().waitFor();
  await page.getByRole('checkbox').first().waitFor();
  assert.equal(await page.getByRole('checkbox').count(), points.length);
  assert.deepEqual(scene.window.complaints, []);
});

test('a storage is checked, forgotten and taken up again with its versions', async () => {
  const { page } = scene;
  await scene.open('/storage');
  await scene.button('Check now').click();
  assert.match(await scene.runEnded(), /Success/);
  await page.getByText('No damage found.').waitFor();

  const spare = join(scene.folder, 'spare');
  const { id } = await scene.api.post<Named>('/repositories', { name: 'spare', path: spare });
  await scene.api.delete(`/repositories/${id}`);
  await scene.open('/storage');
  await scene.button('Add storage').click();
  await scene.fill('Folder on the NAS', spare);
  await scene.button('Make storage').click();
  // There is one already: that is said, and offered.
  await scene.button('Take up the one that is there').click();
  await page.getByRole('heading', { name: 'spare' }).waitFor();
  scene.window.complaints.length = 0;
});

test('two windows edit a task: the second is told, and takes over what the first has made of it', async () => {
  const other = await openWindow('en-GB');
  try {
    await scene.open(`/tasks/${jobId}`);
    await scene.page.getByText('Name', { exact: true }).first().waitFor();
    const first = other.page;
    await first.goto(scene.product.url);
    await first.getByLabel('Password', { exact: true }).fill(scene.product.password);
    await first.getByRole('button', { name: 'Sign in', exact: true }).click();
    await first.locator('nav').first().waitFor();
    await first.goto(`${scene.product.url}/#/tasks/${jobId}`);
    await first.getByText('Name', { exact: true }).first().click();
    await first.getByLabel('Task name', { exact: true }).fill('Renamed');
    await first.getByRole('button', { name: 'Save', exact: true }).first().click();
    await first.waitForURL(/#\/tasks$/);
  } finally {
    await other.close();
  }
  const { page } = scene;
  await page.getByText('Name', { exact: true }).first().click();
  await page.getByLabel('Task name', { exact: true }).fill('Mine');
  await scene.button('Save').first().click();
  await page.getByText('Somebody else has changed this task').waitFor();
  assert.equal((await scene.api.get<Named>(`/jobs/${jobId}`)).name, 'Renamed');
  await scene.button('Load the current version').click();
  const name = page.getByLabel('Task name', { exact: true });
  await scene.until('the name is theirs', async () => ((await name.inputValue()) === 'Renamed' ? true : null));
  await name.fill('Nightly');
  await scene.button('Save').first().click();
  await page.waitForURL(/#\/tasks$/);
  assert.equal((await scene.api.get<Named>(`/jobs/${jobId}`)).name, 'Nightly');
  scene.window.complaints.length = 0;
});

test('a name is proposed for a task, also when what was chosen is known late', async () => {
  const { page } = scene;
  const asked = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  await page.route(/\/machines\?ids=/, async (route) => {
    asked.resolve();
    await answered.promise;
    await route.continue();
  });
  await scene.open('/tasks/new');
  await page.getByRole('checkbox', { name: MACHINE, exact: true }).click();
  await asked.promise;
  await scene.next();
  const name = page.getByLabel('Task name', { exact: true });
  await name.waitFor();
  assert.equal(await name.inputValue(), '');

  answered.resolve();
  await scene.until('a name is there', async () => ((await name.inputValue()) === MACHINE ? true : null));
  await scene.next();
  await page.getByRole('radio', { name: 'main', exact: true }).waitFor();
  await page.unroute(/\/machines\?ids=/);
  assert.deepEqual(scene.window.complaints, []);
});

test('a run that begins while it is asked for is not shown as waiting', async () => {
  const { page } = scene;
  const address = /\/api\/v1\/runs\/[0-9a-f]{16}$/;
  // The answer is from before the run was at work; what was told of it meanwhile is newer.
  await page.route(
    address,
    async (route) => {
      const response = await route.fetch();
      await scene.ended(address.exec(route.request().url())?.[0].slice(-16) ?? '');
      await route.fulfill({ response });
    },
    { times: 1 },
  );
  await scene.open('/tasks');
  await scene.button('Back up now').click();
  assert.match(await scene.runEnded(), /Success/);
  assert.deepEqual(scene.window.complaints, []);
});

test('a double click starts one run; a run is cancelled and leaves the host as it was', async () => {
  const { page } = scene;
  const count = async (): Promise<number> =>
    (await scene.api.get<{ runs: unknown[] }>(`/runs?jobId=${jobId}`)).runs.length;
  const before = await count();
  // So slow that there is time to cancel it.
  const job = await scene.api.get<Record<string, unknown> & { revision: number }>(`/jobs/${jobId}`);
  const { machineIds, revision } = job;
  const throttle = { timeZone: 'UTC', limits: [], otherwise: 0.1 };
  const options = { fullRead: true, throttle };
  await scene.api.put(`/jobs/${jobId}`, { name: 'Nightly', machineIds, repositoryId, options, revision });
  await scene.open('/tasks');
  await scene.button('Back up now').dblclick();
  await page.waitForURL(/#\/activities\/[0-9a-f]{16}/);
  assert.equal(await count(), before + 1);
  await page.goBack();
  await page.goForward();
  assert.equal(await count(), before + 1, 'going back and forth starts nothing');
  await page.getByText('Transferring').waitFor({ timeout: RUN_MS });
  await scene.window.picture('run-live');
  await scene.button('Cancel run').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel run', exact: true }).click();
  assert.match(await scene.runEnded(), /Cancelled/);
  assert.deepEqual((await scene.lab.state()).vms.find(({ name }) => name === MACHINE)?.snapshots ?? [], []);
});

test('a session that was lost leads back to the same place; a server that restarts is reached again', async () => {
  const { page } = scene;
  await scene.open('/storage');
  await scene.window.context.clearCookies();
  await scene.open('/storage');
  await scene.logIn(scene.product.password);
  await page.getByRole('heading', { name: 'Storage', exact: true }).waitFor();
  assert.match(page.url(), /#\/storage$/);

  await scene.product.killServer();
  await page.getByText('Reconnecting').waitFor();
  await scene.product.start();
  await page.getByText('Reconnecting').waitFor({ state: 'detached' });
  await scene.api.post<Named>('/repositories', { name: 'made meanwhile', path: join(scene.folder, 'meanwhile') });
  await page.getByRole('heading', { name: 'made meanwhile' }).waitFor();
  scene.window.complaints.length = 0;
});

test('a webhook is added and tested', async () => {
  const { page } = scene;
  const received: string[] = [];
  const hook = createServer((request, response) => {
    request.on('data', (part: Buffer) => received.push(part.toString()));
    request.on('end', () => response.end());
  });
  await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve));
  try {
    await scene.open('/settings?tab=notifications');
    await scene.button('Add recipient').click();
    await scene.fill('Name', 'hook <b>');
    await page.getByRole('radio', { name: 'Webhook', exact: true }).click();
    await scene.fill('Address of the webhook', `http://127.0.0.1:${(hook.address() as AddressInfo).port}/secret`);
    await scene.window.picture('recipient');
    await page.getByRole('dialog').getByRole('button', { name: 'Save', exact: true }).click();
    const row = page.locator('.q-item', { hasText: 'hook <b>' });
    await row.getByRole('button', { name: 'Test', exact: true }).click();
    await row.getByText('The test was sent.').waitFor();
    assert.ok(received.join('').length > 0);
  } finally {
    hook.close();
  }
  assert.deepEqual(scene.window.complaints, []);
});

test('a token, a new user, a new password', async () => {
  const { page } = scene;
  await scene.open('/settings');
  await scene.fill('Name of the program', 'monitor');
  await page.getByLabel('Your password', { exact: true }).last().fill(scene.product.password);
  await scene.button('Make token').click();
  await page.getByText('Copy the token now').waitFor();
  const token = await page.locator('.made .mono').innerText();
  const asked = JSON.stringify([
    `${scene.product.url}/api/v1/overview`,
    { credentials: 'omit', headers: { authorization: `Bearer ${token}` } },
  ]);
  const ask = (): Promise<number> => page.evaluate<number>(`fetch(...${asked}).then(({ status }) => status)`);
  assert.equal(await ask(), 200);
  const row = page.locator('.token', { hasText: 'monitor' });
  await scene.button('Revoke', row).click();
  await scene.button('Revoke', page.getByRole('dialog')).click();
  await row.waitFor({ state: 'detached' });
  assert.equal(await ask(), 401);
  scene.window.complaints.length = 0;

  await scene.open('/settings?tab=users');
  await scene.button('Add user').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('User name', { exact: true }).fill('kuroda');
  await dialog.getByRole('radio', { name: 'Viewer', exact: true }).click();
  await dialog.getByLabel('New password', { exact: true }).fill('only looking 1');
  await scene.window.picture('user');
  await dialog.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText('kuroda').waitFor();

  const fresh = 'another password 2';
  await scene.open('/settings');
  await scene.fill('Current password', scene.product.password);
  await scene.fill('New password', fresh);
  await scene.fill('New password again', fresh);
  await scene.button('Change password').click();
  await page.getByText('The password is changed.').waitFor();
  await scene.window.context.clearCookies();
  scene.window.complaints.length = 0;
  await scene.open('/settings');
  await scene.fill('User name', 'kuroda');
  await scene.logIn('only looking 1');
  await page.getByRole('heading', { name: 'Settings', exact: true }).waitFor();
  // What a viewer may not do is not there.
  assert.equal(await page.getByRole('tab', { name: 'Users', exact: true }).count(), 0);
  await scene.window.context.clearCookies();
  await scene.open('/');
  await scene.fill('User name', 'admin');
  await scene.logIn(fresh);
  password = fresh;
  await page.getByRole('heading', { name: 'Overview', exact: true }).waitFor();
});

test('an encrypted storage hands out its recovery key once, and the words open it', async () => {
  const { page } = scene;
  await scene.open('/storage');
  await scene.button('Add storage').click();
  await scene.fill('Folder on the NAS', join(scene.folder, 'sealed'));
  await page.getByRole('checkbox', { name: 'Encrypt', exact: true }).click();
  await scene.fill('Passphrase', 'correct horse battery');
  await scene.fill('Passphrase again', 'correct horse batterz');
  await page.getByText('The two differ.').waitFor();
  assert.equal(await scene.button('Make storage').isDisabled(), true, 'a slip is noticed before it is too late');
  await scene.fill('Passphrase again', 'correct horse battery');
  await scene.button('Make storage').click();
  await page.getByText('shown this once only').waitFor();
  await scene.window.picture('recovery-key');
  const words = await page.locator('ol.words li').allInnerTexts();
  assert.equal(words.length, 24);
  assert.equal(await scene.button('Next').isDisabled(), true, 'the words must be put away first');
  await page.keyboard.press('Escape');
  assert.equal(await scene.button('Close').count(), 0, 'no slip closes what is shown once only');
  assert.equal(await page.locator('ol.words li').count(), 24);
  await page.getByRole('checkbox', { name: /I have printed/ }).click();
  await scene.button('Next').click();
  const card = page.locator('article', { hasText: 'sealed' });
  await scene.window.settle();
  assert.deepEqual(await scene.window.misfits(), [], 'three panels side by side hold what is in them');
  await card.getByRole('button', { name: 'Keys', exact: true }).click();
  await scene.fill('Passphrase or recovery key', 'these are not the words');
  await scene.button('Try').click();
  await page.getByRole('dialog').getByRole('alert').waitFor();
  await scene.fill('Passphrase or recovery key', words.join(' '));
  await scene.button('Try').click();
  await page.getByText('The key opens the storage').waitFor();
  await scene.window.picture('keys');
  scene.window.complaints.length = 0;
});

test('two-step sign-in is set up, and a recovery code lets in without the app', async () => {
  const { page } = scene;
  await scene.open('/settings');
  await page.getByLabel('Your password', { exact: true }).first().fill(password);
  await scene.button('Set up').click();
  await page.getByRole('img', { name: 'QR code for the authenticator app' }).waitFor();
  await scene.window.picture('second-factor');
  const secret = await page.locator('.panel .mono').first().innerText();
  await page.getByLabel('One-time code', { exact: true }).first().fill(new TOTP({ secret }).generate());
  await scene.button('Switch on').click();
  await page.getByText('Keep these recovery codes').waitFor();
  const code = (await page.locator('ul.codes li').allInnerTexts())[0] ?? '';
  const question = page.getByRole('dialog').filter({ hasText: scene.say('factor.leave') });
  await scene.link('Overview').click();
  await scene.button(scene.say('common.stay'), question).click();
  await question.waitFor({ state: 'detached' });
  await scene.button('I have kept them').click();
  await page.getByText('Two-step sign-in is on.').waitFor();

  await scene.window.context.clearCookies();
  await scene.open('/settings');
  await scene.fill('Password', password);
  await scene.button('Sign in').click();
  await scene.fill('One-time code', code);
  await scene.button('Sign in').click();
  await page.getByText('Two-step sign-in is on.').waitFor();
  scene.window.complaints.length = 0;
});
