import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { oneDisk, Scene, type Named } from './scene.ts';

/** As a stranger names a machine: markup, right to left, long, with pictures and with what a catalogue would read. */
const MARKUP = '<img src=x id=x onerror="document.title=\'owned\'"><b>';
const BACKWARDS = 'שרת \u202Eגיבוי\u202C';
const PICTURES = '🗄️👩‍💻 {0} @:common.all | %{x} $t(x)';
const LONG = 'W'.repeat(80);
const MACHINES = [MARKUP, BACKWARDS, PICTURES, LONG];
/** What is named in Dozo itself may be longer. */
const NAME_MAX = 255;
const DAY_MS = 86_400_000;
const LONGEST = 'ö'.repeat(NAME_MAX);
const HOST = `${MARKUP} ${BACKWARDS} ${PICTURES} `.padEnd(NAME_MAX, 'Ж');

let scene: Scene;
let screens: [string, string[]][];

before(async () => {
  scene = await Scene.start({
    machines: MACHINES.map((name, seed) => oneDisk(name, { mebibytes: 1, percent: 50, seed })),
  });
  const { api, folder } = scene;
  const store = await api.post<Named>('/repositories', { name: `${MARKUP} store`, path: join(folder, 'store') });
  await api.post<Named>('/repositories', { name: LONGEST, path: join(folder, 'another') });
  const machineIds = [...(await scene.addHost()).values()];
  assert.equal(machineIds.length, MACHINES.length);
  const [host] = await api.get<Named[]>('/hosts');
  await api.patch(`/hosts/${host?.id ?? ''}`, { name: HOST });
  const job = await api.post<Named>('/jobs', { name: MARKUP, machineIds, repositoryId: store.id });
  await api.post<Named>('/jobs', { name: LONGEST, machineIds: machineIds.slice(0, 1), repositoryId: store.id });
  const run = await api.post<Named>(`/jobs/${job.id}/run`, {});
  assert.equal(await scene.ended(run.id), 'success');
  await api.post('/notifications/recipients', {
    name: MARKUP,
    language: 'en',
    timeZone: 'UTC',
    results: ['failure'],
    channel: { kind: 'mail', addresses: ['anna@example.test'] },
  });
  const machines = await api.get<Named[]>('/machines');
  const strange = machines.find(({ name }) => name === MARKUP)?.id ?? '';
  screens = [
    ['/', [MARKUP, LONGEST]],
    ['/machines', [...MACHINES, HOST]],
    ['/tasks', [MARKUP, LONGEST]],
    ['/tasks/new', MACHINES],
    [`/tasks/${job.id}`, MACHINES],
    [`/restore?machine=${strange}`, [MARKUP]],
    ['/activities', [MARKUP]],
    [`/activities/${run.id}`, MACHINES],
    ['/storage', [`${MARKUP} store`, LONGEST]],
    [`/storage/${store.id}`, MACHINES],
    ['/settings?tab=notifications', [MARKUP]],
    ['/settings?tab=audit', [MARKUP, LONGEST]],
  ];
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

test('names of strangers are text on every screen, wide and narrow, and break no width', async () => {
  const { page } = scene;
  const problems: string[] = [];
  for (const width of [1280, 360]) {
    await page.setViewportSize({ width, height: 800 });
    for (const [path, names] of screens) {
      await scene.open(path);
      const text = (await page.locator('body').innerText()).replaceAll(/[\u2068\u2069]/g, '');
      for (const name of names) {
        if (!text.includes(name)) problems.push(`${path} at ${width}: ${name.slice(0, 40)} is not shown as it is`);
      }
      const isOwned = await page.evaluate<boolean>(
        `document.title === 'owned' || document.querySelector('#x') !== null`,
      );
      if (isOwned) problems.push(`${path} at ${width}: a name was taken for markup`);
      const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
      if (overflow > 0) problems.push(`${path} at ${width}: ${overflow} px too wide`);
      await scene.window.picture(`names${path.replaceAll(/[^a-z]+/g, '-')}-${width}`);
    }
  }
  assert.deepEqual(problems, []);
  assert.deepEqual(scene.window.complaints, []);
});

test('names of strangers are text in questions, messages and tables of charts', async () => {
  const { page } = scene;
  await page.setViewportSize({ width: 1280, height: 800 });
  const isClean = async (): Promise<boolean> =>
    (await page.title()) !== 'owned' && (await page.locator('#x').count()) === 0;
  await scene.open('/storage');
  await scene.button(scene.say('storage.actionsOf', { name: `${MARKUP} store` })).click();
  await page.getByText(scene.say('storage.forget'), { exact: true }).click();
  await page.getByRole('dialog').getByText(MARKUP).waitFor();
  assert.ok(await isClean());
  await scene.button('Cancel', page.getByRole('dialog')).click();

  await page
    .locator('article')
    .filter({ has: page.getByRole('heading', { name: `${MARKUP} store` }) })
    .getByRole('link', { name: 'Versions', exact: true })
    .click();
  const line = page.locator('.q-item', { hasText: MARKUP });
  await line.getByRole('checkbox').click();
  await scene.button('Delete').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(MARKUP).first().waitFor();
  await scene.button('Move to the trash', dialog).click();
  await page.getByText('1 version is in the trash.').waitFor();
  assert.ok(await isClean());

  await scene.open('/tasks');
  await scene.button(scene.say('task.actionsOf', { name: MARKUP })).click();
  await page.getByText('Scripts and start from elsewhere').click();
  await page.getByRole('dialog').getByText(MARKUP).first().waitFor();
  assert.ok(await isClean());

  // A storage has a past to be drawn once it was looked into on two days.
  const store = (await scene.api.get<Named[]>('/repositories')).find(({ name }) => name === `${MARKUP} store`);
  const database = new DatabaseSync(join(scene.folder, 'dozo/data/catalogue.sqlite'));
  try {
    database.exec('PRAGMA busy_timeout = 180000');
    const today = Math.floor(Date.now() / DAY_MS) * DAY_MS;
    // The server keeps today's size when it comes to it.
    const size = database.prepare('INSERT OR REPLACE INTO repository_sizes VALUES (?, ?, 1, 1, 1)');
    for (const day of [today - 2 * DAY_MS, today - DAY_MS]) size.run(store?.id ?? '', day);
  } finally {
    database.close();
  }
  for (const path of ['/', '/storage']) {
    await scene.open(path);
    const chart = page.getByRole('img', { name: `${MARKUP} store` });
    await chart.waitFor();
    const label = (await chart.getAttribute('aria-label')) ?? '';
    assert.ok(label.includes(`${MARKUP} store`), label);
    const figure = page.locator('figure').filter({ has: chart });
    await scene.button('As a table', figure).click();
    await page.getByRole('group', { name: label, exact: true }).getByRole('cell').first().waitFor();
    assert.ok(await isClean());
  }
  assert.deepEqual(scene.window.complaints, []);
});
