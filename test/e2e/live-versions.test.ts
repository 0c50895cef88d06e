import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Locator } from 'playwright-core';
import { oneDisk, Scene, type Named } from './scene.ts';

const MACHINE = 'files';
/** More than the window shows at once when it is low. */
const VERSIONS = 6;
let scene: Scene;
let machineId: string;
let repositoryId: string;
let jobId: string;

before(async () => {
  scene = await Scene.start({ machines: [oneDisk(MACHINE, { mebibytes: 4, percent: 50, seed: 11 })] });
  const { api, folder } = scene;
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: `${folder}/main` }));
  machineId = (await scene.addHost()).get(MACHINE) ?? '';
  ({ id: jobId } = await api.post<Named>('/jobs', { name: 'Nightly', machineIds: [machineId], repositoryId }));
  for (let count = 0; count < VERSIONS; count += 1) await backUp();
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

/** The version that it has made. */
async function backUp(): Promise<string> {
  const { id } = await scene.api.post<Named>(`/jobs/${jobId}/run`, {});
  await scene.ended(id);
  const { parts } = await scene.api.get<{ parts: { result: { pointId: string } }[] }>(`/runs/${id}`);
  return parts[0]?.result.pointId ?? '';
}

/** Newest first. */
async function versions(query = ''): Promise<string[]> {
  const { points } = await scene.api.get<{ points: { id: string }[] }>(`/points?repositoryId=${repositoryId}${query}`);
  return points.map(({ id }) => id);
}

function rowOf(pointId: string): Locator {
  return scene.page.locator(`[data-row="${pointId}"]`);
}

async function topOf(row: Locator): Promise<number> {
  return (await row.boundingBox())?.y ?? Number.NaN;
}

test('a version appears by itself; what was chosen and where somebody reads stay', async () => {
  const { page } = scene;
  await page.setViewportSize({ width: 1000, height: 480 });
  await scene.open(`/storage/${repositoryId}`);
  const list = page.locator('.versions');
  const [newest = '', ...older] = await versions();
  await rowOf(newest).waitFor();
  const first = await backUp();
  await rowOf(first).waitFor();
  assert.equal(await list.evaluate((box) => box.scrollTop), 0);
  assert.ok((await topOf(rowOf(first))) < (await topOf(rowOf(newest))), 'the newest is first, and in sight');

  const oldest = rowOf(older.at(-1) ?? '');
  await list.evaluate((box) => box.scrollTo(0, box.scrollHeight));
  await oldest.getByRole('checkbox').focus();
  await page.keyboard.press('Space');
  await page.getByText('1 chosen').waitFor();
  assert.ok((await list.evaluate((box) => box.scrollTop)) > 0, 'the list is longer than what is in sight');
  const topBefore = await topOf(oldest);
  const second = await backUp();
  await rowOf(second).waitFor({ state: 'attached' });
  await scene.until('the row is where it was', async () =>
    Math.abs((await topOf(oldest)) - topBefore) < 2 ? true : null,
  );
  assert.equal(await oldest.getByRole('checkbox').getAttribute('aria-checked'), 'true');
  assert.equal(
    await oldest.evaluate((row) => row.contains(row.ownerDocument.activeElement)),
    true,
    'whoever uses the keyboard goes on where they were',
  );
  assert.deepEqual(scene.window.complaints, []);
});

test('what the question names is deleted, whatever the list becomes meanwhile', async () => {
  const { page, api } = scene;
  await scene.open(`/storage/${repositoryId}`);
  const [, meant = '', other = ''] = await versions();
  await rowOf(meant).getByRole('checkbox').click();
  await rowOf(other).getByRole('checkbox').click();
  await page.getByText('2 chosen').waitFor();
  // One of them goes to the trash by another hand: it is not chosen any more.
  await api.post('/points/delete', { pointIds: [other], repositoryId });
  await rowOf(other).waitFor({ state: 'detached' });
  await page.getByText('1 chosen').waitFor();
  await scene.button('Delete').click();
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  const newest = await backUp();
  await rowOf(newest).waitFor({ state: 'attached' });
  await scene.button('Move to the trash', dialog).click();
  await page.getByText('1 version is in the trash.').waitFor();

  assert.deepEqual((await versions('&trash=true')).toSorted(), [meant, other].toSorted());
  assert.equal((await versions())[0], newest);
  await page.getByRole('tab', { name: 'Trash', exact: true }).click();
  await rowOf(other).waitFor();
  await api.post('/points/undelete', { pointIds: [other], repositoryId });
  await rowOf(other).waitFor({ state: 'detached' });
  await rowOf(meant).waitFor();
  assert.deepEqual(scene.window.complaints, []);
});

test('a restore never changes over to another version by itself', async () => {
  const { page, api } = scene;
  const chosen = (): Locator => page.getByRole('radio', { checked: true });
  await scene.open(`/restore?machine=${machineId}`);
  const [, second = ''] = await versions();
  await page.getByRole('radio').nth(1).click();
  const count = await page.getByRole('radio').count();
  await backUp();
  await page.getByRole('radio').nth(count).waitFor();
  assert.equal(await page.getByRole('radio').nth(2).isChecked(), true, 'the same one, a line further down');
  await api.post('/points/delete', { pointIds: [second], repositoryId });
  await page.getByText(scene.say('restore.gone')).waitFor();
  assert.equal(await chosen().count(), 0);
  assert.equal(await scene.button('Next').isDisabled(), true);
  await scene.window.picture('restore-gone');
  assert.deepEqual(await scene.window.barriers(), []);
  await page.getByRole('radio').first().click();
  await page.getByText(scene.say('restore.gone')).waitFor({ state: 'detached' });

  // The one that somebody came for is not listed: it is waited for, and taken when it is there.
  await scene.open(`/restore?machine=${machineId}&point=${second}`);
  await page.getByText(scene.say('restore.awaited')).waitFor();
  assert.equal(await chosen().count(), 0);
  assert.equal(await scene.button('Next').isDisabled(), true);
  await scene.window.picture('restore-awaited');
  await api.post('/points/undelete', { pointIds: [second], repositoryId });
  await chosen().waitFor();
  await page.getByText(scene.say('restore.awaited')).waitFor({ state: 'detached' });
  assert.equal(await scene.button('Next').isDisabled(), false);
  assert.deepEqual(scene.window.complaints, []);
});
