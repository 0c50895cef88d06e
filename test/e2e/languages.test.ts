import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { LOOKS, told } from './looks.ts';
import { LAB_PASSWORD, oneDisk, Scene } from './scene.ts';

const MACHINE = 'files';

for (const look of LOOKS) {
  test(`from nothing to a restored machine, and a version to the trash and back, ${told(look)}`, async () => {
    const { locale } = look;
    const scene = await Scene.start({
      locale,
      size: look,
      machines: [oneDisk(MACHINE, { mebibytes: 16, percent: 50, seed: 3 })],
    });
    try {
      await wholeFlow(scene);
      await weeksBeginWith(scene, FIRST_DAYS[locale] ?? '');
      assert.equal(await placeBesideTitle(scene), PHONE_BUTTONS[locale]);
      assert.deepEqual(scene.window.complaints, []);
    } finally {
      await scene.close();
    }
  });
}

/** The first day of a week, as calendars head it. */
const FIRST_DAYS: Record<string, string> = { 'ja-JP': '日', 'de-DE': 'Mo' };
/** Where the API has that day. */
const PLACES: Record<string, number> = { 日: 6, Mo: 0 };

/** Where the storage page has its button on a phone: the German words have no room on one line. */
const PHONE_BUTTONS: Record<string, string> = { 'ja-JP': 'beside', 'de-DE': 'below' };

async function placeBesideTitle(scene: Scene): Promise<'beside' | 'below'> {
  const { page } = scene;
  await page.setViewportSize({ width: 390, height: 844 });
  await scene.open('/storage');
  const title = await page.getByRole('heading', { name: scene.say('nav.storage'), exact: true }).boundingBox();
  const button = await scene.button(scene.say('storage.add')).boundingBox();
  assert.ok(title !== null && button !== null);
  return button.y < title.y + title.height ? 'beside' : 'below';
}

/** What somebody does who has never seen the window; every word is looked up, none is known here. */
async function wholeFlow(scene: Scene): Promise<void> {
  const { page, product, lab, folder } = scene;
  const original = join(folder, 'original');
  await copyFile(await scene.diskOnHost(MACHINE), original);
  await page.goto(product.url);
  await scene.fill(scene.say('login.password'), product.password);
  await scene.button(scene.say('login.enter')).click();

  // The guide: language, where to store, the host.
  await page.getByRole('heading', { name: scene.say('guide.title') }).waitFor();
  scene.window.complaints.length = 0;
  await scene.next();
  await scene.fill(scene.say('storage.path'), join(folder, 'repository'));
  await scene.button(scene.say('storage.make')).click();
  await scene.fill(scene.say('host.address'), '127.0.0.1');
  await scene.fill(scene.say('host.password'), LAB_PASSWORD);
  await page.getByText(scene.say('host.more')).click();
  await scene.fill(scene.say('host.sshPort'), String(lab.sshPort));
  await scene.fill(scene.say('host.httpsPort'), String(lab.httpsPort));
  await scene.button(scene.say('host.try')).click();
  await page.getByText(lab.sshHostKey).first().waitFor();
  await scene.button(scene.say('host.add')).click();

  // Of failures the NAS hears in the language of the guide.
  const recipients = await product.api.get<{ language: string }[]>('/notifications/recipients');
  assert.deepEqual(
    recipients.map(({ language }) => language),
    [await page.evaluate<string>('document.documentElement.lang')],
  );

  // Protect and watch.
  await scene.button(scene.say('task.create')).click();
  await page.getByRole('checkbox', { name: MACHINE, exact: true }).click();
  await scene.button(scene.say('task.toSummary')).click();
  await scene.button(scene.say('task.saveAndRun')).click();
  await scene.runEnded();
  await page.getByText(scene.say('explain.title')).waitFor();
  const { state } = await scene.shownRun();
  assert.ok(['success', 'warning'].includes(state), state);
  const [job] = await product.api.get<{ schedule: unknown; options: { retention: unknown } }[]>('/jobs');
  assert.ok(job !== undefined && job.schedule !== null, 'the task runs by itself');
  assert.notEqual(job.options.retention, null, 'the task has a retention');

  // Restore.
  await scene.link(scene.say('restore.fromThis')).click();
  await page.getByText(scene.say('state.complete'), { exact: true }).waitFor();
  await scene.next();
  await scene.next();
  await scene.fill(scene.say('restore.newName'), 'back again');
  await scene.next();
  await scene.next();
  await scene.next();
  await scene.button(scene.say('restore.start')).click();
  await scene.runEnded();
  assert.equal((await scene.shownRun()).state, 'success');
  await page.getByText(scene.say('run.restoredOff', { name: 'back again', host: '127.0.0.1' })).waitFor();
  assert.equal(await firstDifference(await scene.diskOnHost('back again'), original), null);

  // Delete, and bring back.
  const [repository] = await product.api.get<{ id: string }[]>('/repositories');
  const count = async (query: string): Promise<number> =>
    (await product.api.get<{ points: unknown[] }>(`/points?repositoryId=${repository?.id ?? ''}${query}`)).points
      .length;
  await scene.open('/storage');
  await scene.link(scene.say('storage.showVersions')).click();
  await page.getByRole('checkbox').last().click();
  await scene.button(scene.say('trash.delete')).click();
  const dialog = page.getByRole('dialog');
  await scene.button(scene.say('trash.toTrash'), dialog).click();
  await page.getByRole('tab', { name: scene.say('trash.trash'), exact: true }).click();
  await page.getByRole('checkbox').last().click();
  assert.equal(await count(''), 0);
  assert.equal(await count('&trash=true'), 1);
  await scene.button(scene.say('trash.bringBack')).click();
  await page.getByText(scene.say('trash.empty')).waitFor();
  assert.equal(await count(''), 1);
}

/** In every calendar, and in the hours of the week. */
async function weeksBeginWith(scene: Scene, day: string): Promise<void> {
  const { page, api } = scene;
  const [job] = await api.get<{ id: string }[]>('/jobs');
  const [machine] = (await api.get<{ points: { machineId: string }[] }>('/points')).points;
  await scene.open('/');
  const heads = page.getByRole('group', { name: scene.say('overview.calendar') }).locator('[aria-hidden=true]');
  await heads.first().waitFor();
  assert.match(await heads.first().innerText(), new RegExp(`^${day}`));
  await scene.window.picture(`overview-week-${day}`);
  await scene.open(`/restore?machine=${machine?.machineId ?? ''}`);
  await page.locator('.q-date__calendar-weekdays').waitFor();
  assert.match(await page.locator('.q-date__calendar-weekdays').innerText(), new RegExp(`^\\s*${day}`));
  await scene.window.picture(`restore-week-${day}`);
  await scene.open(`/tasks/${job?.id ?? ''}`);
  await page.getByText(scene.say('task.step.schedule'), { exact: true }).first().click();
  await page.getByText(scene.say('schedule.more'), { exact: true }).click();
  await page.getByRole('checkbox', { name: scene.say('schedule.window'), exact: true }).click();
  const rows = page.locator('tbody th');
  await rows.first().waitFor();
  assert.match(await rows.first().innerText(), new RegExp(`^${day}`));
  assert.equal(await rows.count(), 7);
  await scene.window.picture(`schedule-week-${day}`);
  await rows.first().getByRole('button').click();
  await scene.button(scene.say('common.save')).click();
  await page.waitForURL(/#\/tasks$/);
  const [saved] = await api.get<{ schedule: { window: { hours: string[] } } }[]>('/jobs');
  assert.deepEqual(
    saved?.schedule.window.hours.map((hours) => hours.includes('1')),
    Array.from({ length: 7 }, (_, at) => at !== PLACES[day]),
    'the day that was left out is the one that is shown first',
  );
}
