import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { oneDisk, Scene, type Named } from './scene.ts';

/** As strangers name things: markup, right to left, what a table would calculate. */
const STRANGE = '=1+1 <img src=x id=x onerror="document.title=\'owned\'"> שרת';
/** As long as a name may be. */
const TASK = `@SUM(A1) ${STRANGE} `.padEnd(255, 'Ж');
const DAY_MS = 86_400_000;

interface Line {
  atMs: number;
  level: string;
  code: string;
  text: string;
  partId: string | null;
}
interface Backup {
  startedAtMs: number;
  finishedAtMs: number;
  stats: { readBytes: number; storedBytes: number };
}

let scene: Scene;
let strangeId: string;
let repositoryId: string;
/** Of the machine with the strange name, oldest first. */
const runIds: string[] = [];
let mailRunId: string;
let cancelledId: string;
let checkId: string;

before(async () => {
  scene = await Scene.start({
    machines: [
      oneDisk(STRANGE, { mebibytes: 4, percent: 50, seed: 1, running: true }),
      oneDisk('mail', { mebibytes: 1, percent: 50, seed: 2 }),
    ],
  });
  const { api, folder, lab } = scene;
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'main') }));
  const machines = await scene.addHost();
  strangeId = machines.get(STRANGE) ?? '';
  const job = await api.post<Named>('/jobs', { name: TASK, machineIds: [strangeId], repositoryId });
  const other = await api.post<Named>('/jobs', { name: 'Post', machineIds: [machines.get('mail')], repositoryId });
  const run = async (path: string): Promise<string> => (await api.post<Named>(path, {})).id;
  for (let count = 0; count < 2; count += 1) {
    const id = await run(`/jobs/${job.id}/run`);
    assert.equal(await scene.ended(id), 'success');
    runIds.push(id);
    await lab.write(await lab.vmId(STRANGE), { count: 4, blockBytes: 65_536, seed: 9 });
  }
  mailRunId = await run(`/jobs/${other.id}/run`);
  assert.equal(await scene.ended(mailRunId), 'success');
  cancelledId = await run(`/jobs/${other.id}/run`);
  await api.post(`/runs/${cancelledId}/cancel`, {});
  assert.equal(await scene.ended(cancelledId), 'cancelled');
  checkId = await run(`/repositories/${repositoryId}/check`);
  assert.equal(await scene.ended(checkId), 'success');
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

test('the history is narrowed by kind, result, day and by the name of a task or machine; its address keeps that', async () => {
  const { page } = scene;
  await scene.open('/activities');
  await shows([checkId, cancelledId, mailRunId, ...runIds.toReversed()]);

  const search = page.getByLabel(scene.say('run.search'), { exact: true });
  await search.fill('mail');
  await shows([cancelledId, mailRunId]);
  await scene.choose(scene.say('run.result'), scene.say('state.cancelled'));
  await shows([cancelledId]);
  await page.reload();
  await scene.window.settle();
  await shows([cancelledId]);
  assert.equal(await search.inputValue(), 'mail');
  await scene.choose(scene.say('run.result'), scene.say('common.all'));
  await scene.choose(scene.say('run.kind'), scene.say('kind.check'));
  await page.getByText(scene.say('run.noneFits')).waitFor();
  await scene.button(scene.say('run.showAll')).click();
  await shows([checkId, cancelledId, mailRunId, ...runIds.toReversed()]);
  assert.equal(await search.inputValue(), '');

  for (const name of [STRANGE, TASK]) {
    await search.fill(name);
    await page.waitForURL(({ hash }) => new URLSearchParams(hash.split('?')[1]).get('search') === name);
    await shows(runIds.toReversed());
  }
  await page.locator(`a[href="#/activities/${runIds[0] ?? ''}"]`).click();
  await page.getByText(scene.say('explain.title')).waitFor();
  await page.goBack();
  await shows(runIds.toReversed());
  assert.equal(await search.inputValue(), TASK);
  await search.fill('%');
  await page.getByText(scene.say('run.noneFits')).waitFor();

  await scene.open(`/activities?day=${Date.now() - 7 * DAY_MS}`);
  await page.getByText(scene.say('run.noneFits')).waitFor();
  await page.locator('.q-chip__icon--remove').click();
  await shows([checkId, cancelledId, mailRunId, ...runIds.toReversed()]);
  await scene.button(scene.say('common.chooseDay')).click();
  await page.locator('.q-date__calendar-item--in .q-date__today').click();
  await page.waitForURL(/day=\d+/);
  await shows([checkId, cancelledId, mailRunId, ...runIds.toReversed()]);
  assert.equal(await page.locator('#x').count(), 0);
  assert.notEqual(await page.title(), 'owned');
  assert.deepEqual(scene.window.complaints, []);
});

test('an earlier answer about the history does not take the place of a later one', async () => {
  const { page } = scene;
  const isAnswered = Promise.withResolvers<void>();
  await page.route(/\/runs\?.*kind=check/, async (route) => {
    await isAnswered.promise;
    await route.continue();
  });
  await scene.open('/activities');
  await scene.choose(scene.say('run.kind'), scene.say('kind.check'));
  await scene.choose(scene.say('run.kind'), scene.say('kind.backup'));
  await shows([cancelledId, mailRunId, ...runIds.toReversed()]);
  const late = page.waitForResponse(/kind=check/);
  isAnswered.resolve();
  await late;
  await scene.window.settle();
  await shows([cancelledId, mailRunId, ...runIds.toReversed()]);
  await page.unroute(/\/runs\?.*kind=check/);
});

test('a log is narrowed by level and text, and goes out to a file line by line', async () => {
  const { page } = scene;
  const id = runIds[1] ?? '';
  const lines = await logOf(id);
  const shown = page.locator('.log .line');
  await scene.open(`/activities/${id}`);
  await page.getByRole('tab', { name: `Log (${lines.length})`, exact: true }).click();
  const some = lines.find(({ code }) => code !== lines[0]?.code);
  await page.getByLabel(scene.say('common.search'), { exact: true }).fill((some?.text ?? '').toUpperCase());
  await scene.until('the lines that hold the text', async () =>
    (await shown.count()) === lines.filter(({ text }) => text.includes(some?.text ?? '')).length ? true : null,
  );
  await page.getByLabel(scene.say('common.search'), { exact: true }).fill('');
  await scene.choose(scene.say('run.level'), scene.say('run.warningsUp'));
  const grave = lines.filter(({ level }) => level !== 'info');
  await scene.until('warnings and errors only', async () => ((await shown.count()) === grave.length ? true : null));

  // What is left out of sight is in the file.
  const downloading = page.waitForEvent('download');
  await scene.button(scene.say('run.exportLog')).click();
  const path = join(scene.folder, 'log.txt');
  const download = await downloading;
  assert.match(download.suggestedFilename(), /^Dozo .+ \d{4}-\d\d-\d\d \d\d-\d\d\.txt$/);
  await download.saveAs(path);
  const rows = (await readFile(path, 'utf8')).trimEnd().split('\n');
  assert.equal(rows.length, lines.length);
  for (const [at, { atMs, level, code, text, partId }] of lines.entries()) {
    const row = rows[at] ?? '';
    const [, time = ''] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d) /.exec(row) ?? [];
    assert.equal(Date.parse(time), Math.floor(atMs / 1000) * 1000, row);
    assert.ok(row.startsWith(`${time} ${level} ${code} `), row);
    assert.ok(row.includes(text), row);
    assert.doesNotMatch(row, /[\u2066-\u2069]/);
    if (partId !== null) assert.ok(row.includes(` ${STRANGE}: `), `whose line it is: ${row}`);
  }
  assert.deepEqual(scene.window.complaints, []);
});

test('lines that are told while a log is asked for are there once', async () => {
  const { page, api } = scene;
  const { jobId } = await api.get<{ jobId: string }>(`/runs/${mailRunId}`);
  const { id } = await api.post<Named>(`/jobs/${jobId}/run`, {});
  // The answer is from before the run went on; what was told of it meanwhile is newer.
  let isHeld = false;
  await page.route(/\/runs\/[0-9a-f]{16}\/log/, async (route) => {
    const response = await route.fetch();
    if (!isHeld) await scene.ended(id);
    isHeld = true;
    await route.fulfill({ response });
  });
  await scene.open(`/activities/${id}`);
  assert.match(await scene.runEnded(), /Success/);
  const lines = await logOf(id);
  await page.getByRole('tab', { name: `Log (${lines.length})`, exact: true }).waitFor();
  await page.unroute(/\/runs\/[0-9a-f]{16}\/log/);
});

test('a run is compared with the one before it in the figures of both', async () => {
  const { page } = scene;
  const [older, newer] = await Promise.all(runIds.map(resultOf));
  assert.ok(older !== undefined && newer !== undefined);
  await scene.open(`/activities/${runIds[1] ?? ''}`);
  const figures = page.locator('section').filter({ has: page.getByRole('link', { name: /^Compared with/ }) });
  await figures.waitFor();
  const row = async (name: string): Promise<string[]> =>
    figures
      .getByRole('row', { name: new RegExp(`^${name}`) })
      .locator('td')
      .allInnerTexts();
  for (const [name, before, now] of [
    [scene.say('compare.read'), older.stats.readBytes, newer.stats.readBytes],
    [scene.say('compare.stored'), older.stats.storedBytes, newer.stats.storedBytes],
  ] as const) {
    const cells = await row(name);
    assertNear(bytesOf(cells[0]), before);
    assertNear(bytesOf(cells[1]), now);
    if (before > 0) {
      const change = Number((cells[2] ?? '').replace('%', '').replace('−', '-'));
      assert.ok(Math.abs(change - (now / before - 1) * 100) <= 0.1, `${name}: ${cells.join()}`);
    }
  }
  assert.ok(newer.stats.storedBytes < older.stats.storedBytes, 'less is new than the first time');
  assert.equal((await row(scene.say('compare.time')))[0] === '', false);
  await figures.getByRole('link').click();
  await page.waitForURL(new RegExp(`#/activities/${runIds[0] ?? ''}`));
  assert.deepEqual(scene.window.complaints, []);
});

test('the overview counts what is protected, and a day of it leads to its runs', async () => {
  const { page, api } = scene;
  const { machines } = await api.get<{ machines: Record<string, number> }>('/overview');
  const { runs } = await api.get<{ runs: Named[] }>('/runs');
  await scene.open('/');
  for (const [kind, count] of Object.entries(machines)) {
    const tile = page.getByRole('link', { name: new RegExp(`^${count}\\s*${scene.say(`protection.${kind}`)}$`) });
    await tile.waitFor();
  }
  const days = page.getByRole('group', { name: scene.say('overview.calendar') }).getByRole('button');
  await days.last().click();
  await shows(runs.map(({ id }) => id));
  await days.first().click();
  await page.getByText(scene.say('run.none')).waitFor();

  const chart = page.getByRole('img', { name: scene.say('chart.transfer'), exact: true });
  await scene.button(scene.say('chart.asTable'), page.locator('figure').filter({ has: chart })).click();
  const table = page.getByRole('group', { name: scene.say('chart.transfer'), exact: true });
  const [read, stored] = await table.locator('tr').last().locator('td').allInnerTexts();
  const results = await Promise.all(runs.map(({ id }) => resultsOf(id)));
  const stats = results.flat().flatMap((result) => (result?.stats === undefined ? [] : [result.stats]));
  assert.ok(stats.length > 2);
  assertNear(
    bytesOf(read),
    stats.reduce((sum, { readBytes }) => sum + readBytes, 0),
  );
  assertNear(
    bytesOf(stored),
    stats.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  );

  await page.getByRole('link', { name: new RegExp(scene.say('protection.protected')) }).click();
  await page.waitForURL(/#\/machines\?show=protected/);
  await scene.until('the protected ones are listed', async () =>
    (await page.locator('tbody tr').count()) === machines['protected'] ? true : null,
  );
  assert.deepEqual(scene.window.complaints, []);
});

/** Waits until exactly these runs are listed, in this order. */
async function shows(ids: string[]): Promise<void> {
  const links = scene.page.locator('main .q-list a[href^="#/activities/"]');
  const wanted = ids.map((id) => `#/activities/${id}`).join();
  await scene.until(`these runs are listed: ${wanted}`, async () => {
    const found = await links.evaluateAll((list) => list.map((link) => link.getAttribute('href')).join());
    return found === wanted ? true : null;
  });
}

async function logOf(runId: string): Promise<Line[]> {
  return (await scene.api.get<{ lines: Line[] }>(`/runs/${runId}/log?limit=5000`)).lines;
}

async function resultOf(runId: string): Promise<Backup> {
  const [result] = await resultsOf(runId);
  assert.ok(result?.stats !== undefined);
  return { ...result, stats: result.stats };
}

/** Of each machine; what is no backup has no figures. */
async function resultsOf(runId: string): Promise<((Omit<Backup, 'stats'> & Partial<Backup>) | null)[]> {
  const { parts } = await scene.api.get<{ parts: { result: Backup | null }[] }>(`/runs/${runId}`);
  return parts.map(({ result }) => result);
}

/** What a size says, as the window writes it. */
function bytesOf(text = ''): number {
  const [, value = '', unit = ''] = /^([\d.]+)\s([KMGT]?)B$/.exec(text.trim()) ?? [];
  return Number(value) * 1024 ** ' KMGT'.indexOf(unit === '' ? ' ' : unit);
}

function assertNear(shown: number, bytes: number): void {
  assert.ok(Math.abs(shown - bytes) <= bytes * 0.01, `${shown} is shown for ${bytes}`);
}
