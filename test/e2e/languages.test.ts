import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { LAB_PASSWORD, oneDisk, Scene } from './scene.ts';

const MACHINE = 'files';

for (const locale of ['ja-JP', 'de-DE']) {
  test(`from nothing to a restored machine, and a version to the trash and back, in ${locale}`, async () => {
    const scene = await Scene.start({
      locale,
      machines: [oneDisk(MACHINE, { mebibytes: 16, percent: 50, seed: 3 })],
    });
    try {
      await wholeFlow(scene);
      assert.deepEqual(scene.window.complaints, []);
    } finally {
      await scene.close();
    }
  });
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

  // Protect and watch.
  await scene.button(scene.say('task.create')).click();
  await page.getByRole('checkbox', { name: MACHINE, exact: true }).click();
  for (let step = 0; step < 8; step += 1) await scene.next();
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
  await dialog.getByRole('textbox').fill(MACHINE);
  await scene.button(scene.say('common.delete'), dialog).click();
  await page.getByRole('tab', { name: scene.say('trash.trash'), exact: true }).click();
  await page.getByRole('checkbox').last().click();
  assert.equal(await count(''), 0);
  assert.equal(await count('&trash=true'), 1);
  await scene.button(scene.say('trash.bringBack')).click();
  await page.getByText(scene.say('trash.empty')).waitFor();
  assert.equal(await count(''), 1);
}
