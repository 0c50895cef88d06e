import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Locator } from 'playwright-core';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { LAB_PASSWORD, oneDisk, Scene, type Named } from './scene.ts';

const MACHINES = ['web', 'mail'];
/** More than there are before the last thing of a step. */
const TABS_MAX = 80;
/** Around what has the focus: where its mark may be drawn. */
const MARK_PX = 6;

interface Job extends Named {
  machineIds: string[];
  options: { quiesce: string; retention: unknown };
  schedule: unknown;
}

let scene: Scene;
let repositoryId: string;
let machineId: string;
let jobId: string;
let runId: string;
/** A copy of the disk of `web`, which nobody writes to. */
let original: string;

before(async () => {
  scene = await Scene.start({
    machines: MACHINES.map((name, seed) => oneDisk(name, { mebibytes: 1, percent: 50, seed })),
  });
  const { api, folder } = scene;
  original = join(folder, 'original');
  await copyFile(await scene.diskOnHost('web'), original);
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'main') }));
  machineId = (await scene.addHost()).get('web') ?? '';
  ({ id: jobId } = await api.post<Named>('/jobs', { name: 'First', machineIds: [machineId], repositoryId }));
  ({ id: runId } = await api.post<Named>(`/jobs/${jobId}/run`, {}));
  assert.equal(await scene.ended(runId), 'success');
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

test('a session that ends in the middle of a wizard takes nothing along that was typed', async () => {
  const { page } = scene;
  await scene.open('/tasks/new');
  await box('mail').click();
  await scene.next();
  await scene.fill('Task name', 'Typed before');
  await toStep('summary');
  await page.getByRole('checkbox', { name: 'Back up now', exact: true }).click();
  await scene.window.context.clearCookies();
  // Whatever asks the server first is told that nobody is signed in: this, or news of something else.
  await scene.button('Save').dispatchEvent('click');
  const dialog = page.getByRole('dialog', { name: 'Please sign in again', exact: true });
  await dialog.waitFor();
  await scene.window.picture('session-ended');
  assert.deepEqual(await scene.window.barriers(), []);
  assert.equal(await dialog.getByLabel('User name', { exact: true }).inputValue(), 'admin');
  const password = dialog.getByLabel('Password', { exact: true });
  await password.fill('not the password');
  await scene.button('Sign in', dialog).click();
  await dialog.getByRole('alert').waitFor();
  await password.fill(scene.product.password);
  await scene.button('Sign in', dialog).click();
  await page.waitForURL(/#\/tasks$/);
  await dialog.waitFor({ state: 'detached' });
  const made = (await jobs()).filter(({ name }) => name === 'Typed before');
  assert.equal(made.length, 1, 'what was being saved is saved, once');
  // News come again.
  await scene.api.post('/jobs', { name: 'Made elsewhere', machineIds: [machineId], repositoryId });
  await page.getByRole('heading', { name: 'Made elsewhere', exact: true }).waitFor();
  scene.window.complaints.length = 0;
});

test('a task that is being made is there after a load of the page at any step, and back goes one step back', async () => {
  const { page } = scene;
  await scene.open('/tasks/new');
  await box('web').click();
  await page.reload();
  await scene.window.settle();
  assert.equal(await box('web').isChecked(), true);
  await scene.next();
  await scene.fill('Task name', 'Typed once');
  await scene.next();
  await atStep('destination');
  await page.goBack();
  await atStep('name');
  assert.equal(await page.getByLabel('Task name', { exact: true }).inputValue(), 'Typed once');
  await page.goForward();
  await atStep('destination');
  await toStep('options');
  await page.getByRole('radio', { name: 'Do not touch the guest', exact: true }).click();
  for (const step of ['options', 'check', 'schedule', 'retention', 'people', 'summary']) {
    await toStep(step);
    await page.reload();
    await scene.window.settle();
    await atStep(step);
  }
  await scene.button('Back').last().click();
  await atStep('people');
  await page.goForward();
  await atStep('summary');
  await page.getByText('Typed once', { exact: true }).waitFor();
  await page.getByRole('checkbox', { name: 'Back up now', exact: true }).click();
  await scene.button('Save').dblclick();
  await page.waitForURL(/#\/tasks$/);
  const [made, ...others] = (await jobs()).filter(({ name }) => name === 'Typed once');
  assert.equal(others.length, 0);
  assert.deepEqual(made?.machineIds, [machineId]);
  assert.equal(made.options.quiesce, 'off');
  assert.notEqual(made.schedule, null);

  await scene.open('/tasks/new');
  await atStep('machines');
  assert.equal(await box('web').isChecked(), false, 'a new beginning is one');
  await scene.open('/tasks/new?step=summary');
  await atStep('machines');
  assert.deepEqual(scene.window.complaints, []);
});

test('a name that is proposed late gives way to what is typed', async () => {
  const { page } = scene;
  const asked = Promise.withResolvers<undefined>();
  const typing = Promise.withResolvers<undefined>();
  await page.route(/\/jobs\?.*search=web/, async (route) => {
    asked.resolve(undefined);
    await typing.promise;
    await route.continue();
  });
  await scene.open('/tasks/new');
  await box('web').click();
  await scene.next();
  await asked.promise;
  const field = page.getByLabel('Task name', { exact: true });
  await field.focus();
  typing.resolve(undefined);
  await scene.until('a name is proposed', async () => ((await field.inputValue()) === '' ? null : true));
  await page.keyboard.type('My own');
  assert.equal(await field.inputValue(), 'My own');
  await page.unrouteAll({ behavior: 'wait' });
});

test('a restore that is being set up is there after a load of the page, also in another language', async () => {
  const { page } = scene;
  await scene.open(`/restore?machine=${machineId}`);
  await scene.next();
  await scene.next();
  const name = page.getByLabel('Name of the new virtual machine', { exact: true });
  await name.fill('typed name');
  await page.reload();
  await scene.window.settle();
  assert.equal(await name.inputValue(), 'typed name');
  await page.goBack();
  await page.getByRole('radio', { name: 'As a new virtual machine', exact: true }).waitFor();
  await page.goForward();
  await scene.next();
  await page.getByRole('checkbox').last().click();
  await scene.next();
  await scene.next();
  const useLanguage = (language: string): Promise<void> =>
    page.evaluate((chosen) => {
      const known = JSON.parse(localStorage.getItem('dozo-preferences') ?? '{}') as object;
      localStorage.setItem('dozo-preferences', JSON.stringify({ ...known, language: chosen }));
    }, language);
  await useLanguage('de');
  await page.reload();
  await scene.window.settle();
  await page.getByText('typed name', { exact: true }).waitFor();
  assert.equal(await page.getByRole('checkbox').first().isChecked(), true, 'to be switched on, as it was said');
  await scene.button('Jetzt wiederherstellen').waitFor();
  await useLanguage('en');
  await page.reload();
  await scene.button('Restore now').dblclick();
  assert.match(await scene.runEnded(), /Success/);
  const { runs } = await scene.api.get<{ runs: unknown[] }>('/runs?kind=restore');
  assert.equal(runs.length, 1, 'a double click restores once');
  const restored = (await scene.lab.state()).vms.find((machine) => machine.name === 'typed name');
  assert.equal(restored?.powerState, 'poweredOn');
  await page.goBack();
  await page.getByText('Complete', { exact: true }).waitFor();
  assert.equal(await scene.button('Restore now').count(), 0, 'back from a run begins anew');
  assert.deepEqual(scene.window.complaints, []);
});

test('the language is switched in the middle of a wizard: what was typed stays, and one run comes of it', async () => {
  const { page, api } = scene;
  const switchLanguage = async (label: string, language: string): Promise<void> => {
    await page.locator('nav a[href="#/settings"]').click();
    await page.getByLabel(label, { exact: true }).click();
    await page.getByRole('option', { name: language, exact: true }).click();
    await page.locator(`html[lang=${language === 'English' ? 'en' : 'de'}]`).waitFor({ state: 'attached' });
    await page.goBack();
  };
  await scene.open('/tasks/new');
  await box('mail').click();
  await scene.next();
  await scene.fill('Task name', 'In two languages');
  await toStep('options');
  await page.getByRole('radio', { name: 'Do not touch the guest', exact: true }).click();
  await switchLanguage('Language', 'Deutsch');
  const off = page.getByRole('radio', { name: 'Sichern, ohne das Gastsystem zur Ruhe zu bringen', exact: true });
  await off.waitFor();
  assert.equal(await off.isChecked(), true);
  await scene.button('Weiter').click();
  await page.locator('.q-stepper__tab--active', { hasText: 'Prüfung' }).waitFor();
  await switchLanguage('Sprache', 'English');
  await atStep('check');
  await toStep('summary');
  await page.getByText('In two languages', { exact: true }).waitFor();
  await scene.button('Save and back up now').dblclick();
  assert.match(await scene.runEnded(), /Success/);
  const [made, ...others] = (await jobs()).filter(({ name }) => name === 'In two languages');
  assert.equal(others.length, 0);
  assert.equal(made?.options.quiesce, 'off');
  await page.goBack();
  await scene.window.settle();
  await page.goForward();
  await scene.runEnded();
  const { runs } = await api.get<{ runs: unknown[] }>(`/runs?jobId=${made.id}`);
  assert.equal(runs.length, 1, 'neither a double click nor the way back starts another one');
  assert.deepEqual(scene.window.complaints, []);
});

test('in another time zone instants are told by the reader, times of day by the zone that they were set in', async () => {
  const { api, window, product } = scene;
  const timeZone = 'Asia/Tokyo';
  const day = Math.min(new Date(Date.now() + 15 * 86_400_000).getUTCDate(), 28);
  const rule = { kind: 'monthly', on: { kind: 'day', day }, time: '22:00' };
  const job = { name: 'Far away', machineIds: [machineId], repositoryId };
  const { id } = await api.post<Named>('/jobs', job);
  await api.put(`/jobs/${id}/schedule`, { timeZone, rules: [{ rule }] });
  const { nextRuns } = await api.get<{ nextRuns: { jobId: string; atMs: number }[] }>('/overview');
  const { startedAtMs } = await api.get<{ startedAtMs: number }>(`/runs/${runId}`);
  const told = (atMs: number, zone: string): string =>
    new Intl.DateTimeFormat('en-GB', {
      ...{ year: 'numeric', month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit' },
      timeZone: zone,
    }).format(atMs);
  const nextAtMs = nextRuns.find(({ jobId: of }) => of === id)?.atMs ?? 0;
  assert.match(told(nextAtMs, timeZone), /22:00$/);

  const context = await window.browser.newContext({
    ignoreHTTPSErrors: true,
    storageState: await window.context.storageState(),
    locale: 'en-GB',
    timezoneId: 'America/New_York',
  });
  try {
    const page = await context.newPage();
    await page.goto(`${product.url}/#/tasks`);
    const card = page.locator('article').filter({ has: page.getByRole('heading', { name: job.name, exact: true }) });
    await card.getByText(`Next: ${told(nextAtMs, 'America/New_York')}`, { exact: true }).waitFor();
    await page.goto(`${product.url}/#/activities/${runId}`);
    await page.getByText(told(startedAtMs, 'America/New_York'), { exact: true }).first().waitFor();
    await page.goto(`${product.url}/#/tasks/${id}?step=schedule`);
    await page.getByText(`Time zone: ${timeZone}`).waitFor();
    assert.equal(await page.getByLabel('Time', { exact: true }).inputValue(), '22:00');
    await scene.button('Use America/New_York', page).waitFor();
    await page.goto(`${product.url}/#/tasks/${id}?step=summary`);
    await page.getByText(`Time zone: ${timeZone}`).waitFor();
    await page.goto(`${product.url}/#/tasks/${id}?step=name`);
    await page.getByLabel('Task name', { exact: true }).fill('Far away, renamed');
    await scene.button('Save', page).first().click();
    await page.waitForURL(/#\/tasks$/);
  } finally {
    await context.close();
  }
  const saved = await api.get<{ name: string; schedule: { timeZone: string; rules: { rule: object }[] } }>(
    `/jobs/${id}`,
  );
  assert.equal(saved.name, 'Far away, renamed');
  assert.equal(saved.schedule.timeZone, timeZone, 'who saves from elsewhere moves nothing');
  assert.deepEqual(saved.schedule.rules[0]?.rule, rule);
  await api.delete(`/jobs/${id}`);
});

test('an address leads there after signing in', async () => {
  const { page } = scene;
  const { points } = await scene.api.get<{ points: Named[] }>('/points');
  for (const path of [
    `/tasks/${jobId}?step=retention`,
    `/restore?machine=${machineId}`,
    `/activities/${runId}`,
    `/storage/${repositoryId}?machine=${machineId}`,
    `/versions/${points[0]?.id ?? ''}/files`,
    '/settings?tab=audit',
  ]) {
    await scene.window.context.clearCookies();
    await scene.open(path);
    await scene.logIn(scene.product.password);
    await page.waitForURL((url) => url.hash.startsWith(`#${path}`));
  }
  scene.window.complaints.length = 0;
});

test('a task is made by the keyboard alone', async () => {
  const { page } = scene;
  await scene.open('/tasks/new');
  await tabTo(box('mail'));
  await page.keyboard.press('Space');
  await pressNext();
  await atStep('name');
  await tabTo(page.getByLabel('Task name', { exact: true }));
  await page.keyboard.press('Control+A');
  await page.keyboard.type('By keys');
  await page.keyboard.press('Enter');
  await atStep('destination');
  await toStep('schedule', pressNext);
  await tabTo(page.getByLabel('Time', { exact: true }));
  await page.keyboard.press('Control+A');
  await page.keyboard.type('23:15');
  await toStep('summary', pressNext);
  await tabTo(page.getByRole('checkbox', { name: 'Back up now', exact: true }));
  await page.keyboard.press('Space');
  await tabTo(scene.button('Save'));
  await page.keyboard.press('Enter');
  await page.waitForURL(/#\/tasks$/);
  const made = (await jobs()).find(({ name }) => name === 'By keys');
  assert.match(JSON.stringify(made?.schedule), /"time":"23:15"/);
  assert.deepEqual(scene.window.complaints, []);
});

test('a version comes back byte for byte by the keyboard alone, and where the keyboard is can be seen', async () => {
  const { page } = scene;
  const atStepOf = async (step: string): Promise<void> =>
    page.locator('.q-stepper__tab--active', { hasText: scene.say(`restore.step.${step}`) }).waitFor();
  await scene.open('/machines');
  await press(scene.boxOf('web'), 'Space');
  await press(scene.button('Restore'), 'Enter');
  await page.getByRole('radio', { checked: true }).waitFor();
  await press(scene.button('Next'), 'Enter');
  await atStepOf('kind');
  await press(page.getByRole('radio', { name: scene.say('restore.kind.new'), exact: true }), 'Space');
  await press(scene.button('Next'), 'Enter');
  await atStepOf('place');
  await tabTo(page.getByLabel(scene.say('restore.newName'), { exact: true }));
  await assertMarked(page.getByLabel(scene.say('restore.newName'), { exact: true }));
  await page.keyboard.press('Control+A');
  await page.keyboard.type('by keys');
  for (const step of ['options', 'check', 'summary']) {
    await press(scene.button('Next'), 'Enter');
    await atStepOf(step);
  }
  await press(scene.button(scene.say('common.changeOf', { name: scene.say('restore.provisioning') })), 'Enter');
  await atStepOf('options');
  // The head of a step that was seen leads back there.
  await press(page.locator('.q-stepper__tab', { hasText: scene.say('restore.step.summary') }), 'Enter');
  await atStepOf('summary');
  await press(scene.button('Restore now'), 'Enter');
  assert.match(await scene.runEnded(), /Success/);
  assert.equal(await firstDifference(await scene.diskOnHost('by keys'), original), null);
  assert.deepEqual(scene.window.complaints, []);
});

test('a version goes to the trash, comes back by the undo and from the trash, by the keyboard alone', async () => {
  const { page, api } = scene;
  const count = async (query = ''): Promise<number> =>
    (await api.get<{ points: unknown[] }>(`/points?repositoryId=${repositoryId}${query}`)).points.length;
  const versions = await count();
  const remove = async (): Promise<void> => {
    await scene.open(`/storage/${repositoryId}`);
    await press(page.getByRole('checkbox').first(), 'Space');
    await press(scene.button('Delete'), 'Enter');
    const dialog = page.getByRole('dialog');
    await press(scene.button('Move to the trash', dialog), 'Enter');
    await dialog.waitFor({ state: 'detached' });
    await page.getByText('1 version is in the trash.').waitFor();
    assert.equal(await count('&trash=true'), 1);
  };
  const isBack = (): Promise<true> =>
    scene.until('the version is back', async () => ((await count()) === versions ? true : null));
  await remove();
  await press(scene.button('Undo'), 'Enter');
  await isBack();

  await remove();
  await tabTo(page.getByRole('tab', { name: 'Versions', exact: true }));
  await page.keyboard.press('ArrowRight');
  await press(page.getByRole('tab', { name: 'Trash', exact: true }), 'Enter');
  await page.getByText('Goes for good after').waitFor();
  await press(page.getByRole('checkbox').first(), 'Space');
  await press(scene.button('Bring back'), 'Enter');
  await isBack();
  assert.equal(await count('&trash=true'), 0);
  assert.deepEqual(scene.window.complaints, []);
});

test('a storage is made, its folder judged and its recovery key put away, by the keyboard alone', async () => {
  const { page, api } = scene;
  const path = join(scene.folder, 'by keys');
  await scene.open('/storage');
  await press(scene.button('Add storage'), 'Enter');
  const dialog = page.getByRole('dialog', { name: 'Add storage', exact: true });
  await type(dialog.getByLabel('Folder on the NAS', { exact: true }), path);
  await dialog.getByText(scene.say('folder.usable')).waitFor();
  await press(dialog.getByRole('checkbox', { name: 'Encrypt', exact: true }), 'Space');
  await type(dialog.getByLabel('Passphrase', { exact: true }), 'correct horse battery');
  await type(dialog.getByLabel('Passphrase again', { exact: true }), 'correct horse battery');
  await press(scene.button('Make storage', dialog), 'Enter');
  await dialog.getByText('shown this once only').waitFor();
  assert.equal(await dialog.locator('ol.words li').count(), 24);
  await page.keyboard.press('Escape');
  const next = scene.button('Next', dialog);
  assert.equal(await next.isDisabled(), true, 'the words must be put away first');
  await press(dialog.getByRole('checkbox', { name: scene.say('keys.kept'), exact: true }), 'Space');
  await press(next, 'Enter');
  await dialog.waitFor({ state: 'detached' });
  await page.getByRole('heading', { name: /^by keys/ }).waitFor();
  const made = (await api.get<{ path: string; encrypted: boolean }[]>('/repositories')).find(
    (one) => one.path === path,
  );
  assert.equal(made?.encrypted, true);
  assert.deepEqual(scene.window.complaints, []);
});

test('a host is added after what its check has found, by the keyboard alone', async () => {
  const { page, api, lab } = scene;
  const before = await api.get<Named[]>('/hosts');
  await scene.open('/machines');
  await press(scene.button('Add host'), 'Enter');
  const dialog = page.getByRole('dialog', { name: 'Add host', exact: true });
  await type(dialog.getByLabel('Address', { exact: true }), '127.0.0.1');
  await type(dialog.getByLabel('Display name', { exact: true }), 'by keys');
  await type(dialog.getByLabel('Password', { exact: true }), 'not the password');
  await press(dialog.getByRole('button', { name: /More settings/ }), 'Enter');
  await type(dialog.getByLabel('SSH port', { exact: true }), String(lab.sshPort));
  await type(dialog.getByLabel('HTTPS port', { exact: true }), String(lab.httpsPort));
  await press(scene.button('Check connection', dialog), 'Enter');
  await dialog.getByRole('alert').waitFor();
  assert.equal((await api.get<Named[]>('/hosts')).length, before.length);

  await type(dialog.getByLabel('Password', { exact: true }), LAB_PASSWORD);
  await page.keyboard.press('Enter');
  for (const finding of [lab.sshHostKey, 'Licence:', 'Changed block tracking (CBT)', scene.say('host.trust')]) {
    await dialog.getByText(finding).first().waitFor();
  }
  await press(scene.button('Trust and add', dialog), 'Enter');
  await dialog.waitFor({ state: 'detached' });
  const added = (await api.get<Named[]>('/hosts')).filter(({ id }) => before.every((known) => known.id !== id));
  assert.deepEqual(
    added.map(({ name }) => name),
    ['by keys'],
  );
  await api.delete(`/hosts/${added[0]?.id ?? ''}`);
  // A password that was refused is an answer that the console tells of.
  scene.window.complaints.length = 0;
});

function jobs(): Promise<Job[]> {
  return scene.api.get<Job[]>('/jobs');
}

function box(name: string): Locator {
  return scene.page.getByRole('checkbox', { name, exact: true });
}

async function atStep(step: string): Promise<void> {
  await scene.page.locator('.q-stepper__tab--active', { hasText: scene.say(`task.step.${step}`) }).waitFor();
}

/** From where the wizard is, which may be there already. */
async function toStep(step: string, next = (): Promise<void> => scene.next()): Promise<void> {
  for (let count = 0; count < 10; count += 1) {
    const head = await scene.page.locator('.q-stepper__tab--active').innerText();
    if (head.includes(scene.say(`task.step.${step}`))) return;
    await next();
    await scene.page.locator('.q-stepper__tab--active').filter({ hasNotText: head }).waitFor();
  }
  assert.fail(`${step} is not reached`);
}

async function pressNext(): Promise<void> {
  await press(scene.button('Next'), 'Enter');
}

/** By the keyboard alone, after a look whether it can be seen that it has the focus. */
async function press(wanted: Locator, key: string): Promise<void> {
  await tabTo(wanted);
  await assertMarked(wanted);
  await scene.page.keyboard.press(key);
}

/** In the place of what the field holds. */
async function type(field: Locator, text: string): Promise<void> {
  await tabTo(field);
  await assertMarked(field);
  await scene.page.keyboard.press('Control+A');
  await scene.page.keyboard.type(text);
}

/** With the focus and without it looks different: compared once nothing moves, as steps that slide open and shut do. */
async function assertMarked(wanted: Locator): Promise<void> {
  const looks = await scene.until(`${String(wanted)} stands still`, async () => {
    const before = await placeOf(wanted);
    if (before === null) return null;
    const focused = await lookAt(before);
    await wanted.evaluate((element) => {
      (element as unknown as { blur(): void }).blur();
    });
    const blurred = await lookAt(before);
    await wanted.focus();
    const after = await placeOf(wanted);
    return JSON.stringify(after) === JSON.stringify(before) ? { focused, blurred } : null;
  });
  assert.notDeepEqual(looks.blurred, looks.focused, `${String(wanted)} shows that it has the focus`);
}

/** Where it is and can be seen; null while it is covered or not yet slid open. */
async function placeOf(wanted: Locator): Promise<{ x: number; y: number; width: number; height: number } | null> {
  const isSeen = await wanted.evaluate((element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    const hit = element.ownerDocument.elementFromPoint(left + width / 2, top + height / 2);
    return element.contains(hit);
  });
  return isSeen ? wanted.boundingBox() : null;
}

/** A little more than the place itself: the mark is around it. */
function lookAt({ x, y, width, height }: { x: number; y: number; width: number; height: number }): Promise<Buffer> {
  const left = Math.max(0, x - MARK_PX);
  const top = Math.max(0, y - MARK_PX);
  const clip = { x: left, y: top, width: width + 2 * MARK_PX, height: height + 2 * MARK_PX };
  return scene.page.screenshot({ clip, animations: 'disabled' });
}

/** Goes on by Tab until it is there. */
async function tabTo(wanted: Locator): Promise<void> {
  await wanted.waitFor();
  await scene.until(`${String(wanted)} can be used`, async () => ((await wanted.isEnabled()) ? true : null));
  for (let count = 0; count < TABS_MAX; count += 1) {
    if (await wanted.evaluate((element) => element === element.ownerDocument.activeElement)) return;
    await scene.page.keyboard.press('Tab');
  }
  assert.fail(`${String(wanted)} is not reached by Tab`);
}
