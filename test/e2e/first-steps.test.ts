import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { oneDisk, Scene, type Named } from './scene.ts';

const MACHINE = 'files';
const OTHER = 'mail';
const ZONE = 'Asia/Tokyo';

let scene: Scene;
let machineId: string;
let repositoryId: string;
let runId: string;

before(async () => {
  scene = await Scene.start({
    machines: [
      oneDisk(MACHINE, { mebibytes: 4, percent: 50, seed: 3 }),
      oneDisk(OTHER, { mebibytes: 1, percent: 50, seed: 4 }),
    ],
    env: { TZ: ZONE },
  });
  const { api, folder } = scene;
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'main') }));
  machineId = (await scene.addHost()).get(MACHINE) ?? '';
  const job = await api.post<Named>('/jobs', { name: 'Nightly', machineIds: [machineId], repositoryId });
  await api.put(`/jobs/${job.id}/schedule`, {
    enabled: true,
    timeZone: 'UTC',
    rules: [{ rule: { kind: 'monthly', on: { kind: 'last-day' }, time: '12:00' } }],
  });
  ({ id: runId } = await api.post<Named>(`/jobs/${job.id}/run`, {}));
  assert.equal(await scene.ended(runId), 'success');
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

test('a machine is chosen by its name, a new schedule goes by the clock of the NAS, the summary changes what can be changed', async () => {
  const { page } = scene;
  await scene.open('/tasks/new');
  await page.getByText(OTHER, { exact: true }).click();
  assert.equal(await page.getByRole('checkbox', { name: OTHER, exact: true }).isChecked(), true);
  await page.getByText(/on datastore “.?ds1.?”/).waitFor();
  await scene.next();
  await scene.until('a proposed name', async () =>
    (await page.getByLabel('Task name', { exact: true }).inputValue()) === OTHER ? true : null,
  );
  await page.locator('.q-stepper__tab', { hasText: scene.say('task.step.schedule') }).click();
  await page.getByText(`Time zone: ${ZONE}, as on the NAS`).waitFor();
  // The times to come move what is below them, also under a click.
  await scene.window.settle();
  await page.locator('.q-stepper__tab', { hasText: scene.say('task.step.summary') }).click();
  await page.getByText(scene.say('task.peopleNone')).waitFor();
  await page.getByRole('button', { name: /^Change: .?Retention/ }).waitFor();
  assert.equal(await page.getByRole('button', { name: /^Change: .?Encryption/ }).count(), 0);
  assert.deepEqual(scene.window.complaints, []);
});

test('where a folder is asked for, the example is one of this NAS', async () => {
  const { page } = scene;
  const nas = await scene.api.get<{ exampleFolder: string }>('/nas');
  assert.match(nas.exampleFolder, /^\/srv\//);
  const examples = async (of: string): Promise<void> => {
    await scene.open('/storage');
    await scene.button('Add storage').click();
    await page.getByText(scene.say('storage.pathExample', { path: `${of}/main` }), { exact: true }).waitFor();
    const field = page.getByLabel('Folder on the NAS', { exact: true });
    assert.equal(await field.getAttribute('placeholder'), `${of}/main`);
    await scene.open(`/restore?machine=${machineId}`);
    await scene.next();
    await page.getByRole('radio', { name: 'A disk as a file', exact: true }).click();
    await scene.next();
    await page
      .getByText(scene.say('restore.pathExample', { path: `${of}/export/disk.img` }), { exact: true })
      .waitFor();
  };
  await examples(nas.exampleFolder);
  await page.route('**/api/v1/nas', (route) => route.fulfill({ json: { ...nas, exampleFolder: '/share/Dozo' } }));
  await examples('/share/Dozo');
  await page.unroute('**/api/v1/nas');
  assert.deepEqual(scene.window.complaints, []);
});

test('what is decided for good is said before, a passphrase can be looked at, and help covers no field', async () => {
  const { page } = scene;
  await scene.open('/storage');
  await scene.button('Add storage').click();
  await page.getByText(scene.say('storage.encryptOnce')).waitFor();
  await scene.fill('Folder on the NAS', join(scene.folder, 'sealed'));
  await page.getByText(scene.say('folder.usable')).waitFor();
  await page.getByRole('checkbox', { name: 'Encrypt', exact: true }).click();
  const passphrase = page.getByLabel('Passphrase', { exact: true });
  await passphrase.fill('correct horse battery');
  assert.equal(await passphrase.getAttribute('type'), 'password');
  await scene.button(scene.say('common.showTyped')).first().click();
  assert.equal(await passphrase.getAttribute('type'), 'text');

  await scene.button(scene.say('help.encryption.title')).click();
  const bubble = page.locator('.help-menu');
  await bubble.waitFor();
  await scene.window.settle();
  const [help, field] = [await bubble.boundingBox(), await passphrase.boundingBox()];
  assert.ok(help !== null && field !== null);
  const isBeside = help.x >= field.x + field.width || help.y + help.height <= field.y;
  assert.ok(isBeside, `${JSON.stringify(help)} covers ${JSON.stringify(field)}`);
  await bubble.getByText(scene.say('help.encryption.text')).click();
  await bubble.waitFor({ state: 'detached' });
  assert.deepEqual(scene.window.complaints, []);
});

test('a page begins at its top, and who goes back finds it as it was left', async () => {
  const { page } = scene;
  const scrolled = (): Promise<number> => page.evaluate<number>('scrollY');
  await page.setViewportSize({ width: 1280, height: 400 });
  try {
    await scene.open('/storage');
    await page.mouse.wheel(0, 5_000);
    await scene.until('a page that is scrolled', async () => ((await scrolled()) > 100 ? true : null));
    const left = await scrolled();
    await scene.link('Overview').click();
    await page.getByRole('heading', { name: 'Overview', exact: true }).waitFor();
    await scene.window.settle();
    assert.equal(await scrolled(), 0);
    await page.goBack();
    await scene.until('the place that was left', async () => (Math.abs((await scrolled()) - left) < 2 ? true : null));
  } finally {
    await page.setViewportSize({ width: 1280, height: 800 });
  }
  assert.deepEqual(scene.window.complaints, []);
});

test('a run says what it is, and how much of its log is shown', async () => {
  const { page } = scene;
  await scene.open(`/activities/${runId}`);
  await page.getByRole('heading', { name: /^Backup “.?Nightly.?”$/ }).waitFor();
  const { lines } = await scene.api.get<{ lines: unknown[] }>(`/runs/${runId}/log`);
  await page.getByRole('tab', { name: `Log (${lines.length})`, exact: true }).click();
  await page.getByLabel(scene.say('common.search'), { exact: true }).fill('no line says this');
  await page.getByText(`0 of ${lines.length} lines`).waitFor();
  assert.deepEqual(scene.window.complaints, []);
});

test('health is one verdict; what has versions in the trash only is told so, and the trash is near', async () => {
  const { page } = scene;
  const verdict = page.locator('.verdict');
  await scene.open('/');
  await verdict.getByText(scene.say('overview.allWell'), { exact: true }).waitFor();
  // Nobody wants this one protected: that is said, and is no fault.
  await page.getByText('1 virtual machine without a task').waitFor();
  // No NAS whose notifications could tell, and no mail server: that is said as long as nothing else works.
  await scene.link(scene.say('overview.nobodyTold')).click();
  await page.getByRole('heading', { name: scene.say('recipients.title'), exact: true }).waitFor();
  const { id: monitorId } = await scene.api.post<Named>('/notifications/recipients', {
    name: 'monitor',
    channel: { kind: 'webhook', format: 'json', url: 'http://127.0.0.1:9/' },
  });
  await scene.open('/');
  await verdict.getByText(scene.say('overview.allWell'), { exact: true }).waitFor();
  assert.equal(await scene.link(scene.say('overview.nobodyTold')).count(), 0);
  await scene.api.delete(`/notifications/recipients/${monitorId}`);
  await scene.open('/storage');
  await scene.link('Trash').click();
  await page.getByText('The trash is empty').waitFor();

  const { points } = await scene.api.get<{ points: Named[] }>(`/points?machineId=${machineId}`);
  await scene.api.post('/points/delete', { repositoryId, pointIds: points.map(({ id }) => id) });
  await scene.open('/machines');
  await scene.link('all in the trash').click();
  await scene.link('Open the trash').waitFor();
  await scene.open('/');
  await verdict.getByText('1 thing to look at', { exact: true }).waitFor();
  assert.deepEqual(scene.window.complaints, []);
});

test('who goes elsewhere while a recovery key is shown is asked first, and the guide waits for it', async () => {
  const { page } = scene;
  const words = page.locator('ol.words li');
  const question = page.getByRole('dialog').filter({ hasText: scene.say('keys.leave') });
  await scene.open('/welcome');
  await page.locator('.q-stepper__tab', { hasText: scene.say('guide.storage') }).click();
  await scene.fill('Folder on the NAS', join(scene.folder, 'shown once'));
  await page.getByRole('checkbox', { name: 'Encrypt', exact: true }).click();
  await scene.fill('Passphrase', 'correct horse battery');
  await scene.fill('Passphrase again', 'correct horse battery');
  await scene.button('Make storage').click();
  await words.first().waitFor();
  assert.equal(await page.getByText(scene.say('guide.skip'), { exact: true }).count(), 0);
  assert.equal(await page.locator('.q-stepper__tab--navigation').count(), 0, 'no step leads past the key');
  await scene.link('Storage').click();
  await scene.button(scene.say('common.stay'), question).click();
  await question.waitFor({ state: 'detached' });
  assert.equal(await words.count(), 24);
  await scene.link('Storage').click();
  await scene.button(scene.say('keys.leaveGo'), question).click();
  await page.getByRole('heading', { name: /^shown once/ }).waitFor();
  assert.deepEqual(scene.window.complaints, []);
});

test('a mail recipient without a mail server is said to get nothing, and what was typed is not lost by a slip', async () => {
  const { page } = scene;
  const lack = page.getByText(scene.say('recipients.noMailServer'), { exact: true });
  await scene.open('/settings?tab=notifications');
  await scene.button(scene.say('recipients.add')).click();
  const dialog = page.getByRole('dialog', { name: scene.say('recipients.add'), exact: true });
  await dialog.getByLabel('Name', { exact: true }).fill('Office');
  await dialog.getByLabel(scene.say('recipients.addresses'), { exact: true }).fill('office@example.com');
  await dialog.getByText(scene.say('recipients.noMailServer'), { exact: true }).waitFor();
  await scene.button('Save', dialog).click();
  await dialog.waitFor({ state: 'detached' });
  await lack.waitFor();
  await page.getByLabel(scene.say('mail.host'), { exact: true }).fill('mail.example.com');
  await page.getByLabel(scene.say('mail.from'), { exact: true }).fill('dozo@example.com');
  await scene.link('Overview').click();
  await scene.button(scene.say('common.stay')).click();
  await scene.button('Save').click();
  await page.getByText(scene.say('common.saved'), { exact: true }).waitFor();
  assert.equal(await lack.count(), 0);
  await scene.link('Overview').click();
  await page.getByRole('heading', { name: 'Overview', exact: true }).waitFor();
  assert.deepEqual(scene.window.complaints, []);
});

test('what was typed into other settings is not lost by a slip either', async () => {
  const { page } = scene;
  const question = page.getByRole('dialog');
  const stay = async (): Promise<void> => {
    await scene.button(scene.say('common.stay'), question).click();
    await question.waitFor({ state: 'detached' });
  };
  await scene.open('/settings?tab=limits');
  await page.getByLabel(scene.say('settings.trashDays'), { exact: true }).fill('15');
  await scene.link('Overview').click();
  await stay();
  await page.getByRole('tab', { name: scene.say('settings.tab.account'), exact: true }).click();
  await stay();
  assert.equal(await page.getByLabel(scene.say('settings.trashDays'), { exact: true }).inputValue(), '15');
  await scene.link('Overview').click();
  await scene.button(scene.say('common.leaveUnsaved'), question).click();
  await page.getByRole('heading', { name: 'Overview', exact: true }).waitFor();
  assert.deepEqual(scene.window.complaints, []);
});
