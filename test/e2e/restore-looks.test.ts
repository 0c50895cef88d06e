import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Download, Locator } from 'playwright-core';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { GUEST_DISK_MEBIBYTES, writeGuestDisk } from './guest-disk.ts';
import { looksFor, told } from './looks.ts';
import { oneDisk, RUN_MS, Scene, type Named, type Run } from './scene.ts';

const MACHINE = 'guest';
const REPORT = 'report 2026.bin';
const INVOICE = 'invoice 2026-10.pdf';
const PASSPHRASE = 'correct horse battery';
/** In the place of a value that a text has, whatever it is. */
const ANY = '\uE000';

for (const look of looksFor('phone')) {
  describe(`storages and restores, ${told(look)}`, () => {
    const report = randomBytes(300_001);
    let scene: Scene;
    /** A copy of the machine's disk as it was at its backup. */
    let original: string;
    /** Of the second storage, as the window has shown it once. */
    let recoveryKey: string;

    before(async () => {
      scene = await Scene.start({
        locale: look.locale,
        size: look,
        machines: [oneDisk(MACHINE, { mebibytes: GUEST_DISK_MEBIBYTES, percent: 0, seed: 1 })],
      });
      const { api, folder, lab } = scene;
      await lab.power(await lab.vmId(MACHINE), 'on');
      await writeGuestDisk(lab, MACHINE, { folder, report });
      await lab.power(await lab.vmId(MACHINE), 'off');
      original = join(folder, 'original');
      await copyFile(await scene.diskOnHost(MACHINE), original);
      const { id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'main') });
      const machineId = (await scene.addHost()).get(MACHINE) ?? '';
      const job = await api.post<Named>('/jobs', { name: 'Nightly', machineIds: [machineId], repositoryId });
      const run = await api.post<Named>(`/jobs/${job.id}/run`, {});
      assert.equal(await scene.ended(run.id), 'success');
      await scene.begin();
    });

    after(async () => {
      await scene?.close();
    });

    async function next(): Promise<void> {
      const button = scene.button(scene.say('common.next'));
      await scene.until('the way on in sight', async () => ((await scene.isInSight(button)) ? true : null));
      await scene.next();
    }

    function choose(key: string): Promise<void> {
      return scene.page.getByRole('radio', { name: scene.say(key), exact: true }).click();
    }

    /** The wizard, from the list of machines to the kind of restore. */
    async function restoreAs(kind: string, storage: string): Promise<void> {
      const { page } = scene;
      await scene.goTo('machines');
      await scene.boxOf(MACHINE).click();
      await scene.press(scene.button(scene.say('restore.restore')));
      await page.getByRole('radio', { name: new RegExp(storage) }).click();
      await scene.looksWell('restore-version');
      await next();
      await choose(`restore.kind.${kind}`);
      await scene.looksWell('restore-kind');
      await next();
    }

    function cardOf(name: string): Locator {
      const { page } = scene;
      return page.locator('article').filter({ has: page.getByRole('heading', { name }) });
    }

    async function fromMenuOf(name: string, key: string): Promise<void> {
      await scene.button(scene.say('storage.actionsOf', { name })).click();
      await scene.press(scene.page.locator('.q-menu').getByText(scene.say(key), { exact: true }));
    }

    async function tryKey(name: string, key: string): Promise<void> {
      await scene.button(scene.say('keys.keys'), cardOf(name)).click();
      await scene.fill(scene.say('storage.key'), key);
      await scene.press(scene.button(scene.say('keys.try')));
    }

    async function downloaded(act: () => Promise<void>): Promise<Download> {
      const [download] = await Promise.all([scene.page.waitForEvent('download'), act()]);
      return download;
    }

    /** The run that is shown comes to its end, and the window says what it has done. */
    async function endsWell(outcome: RegExp): Promise<void> {
      await scene.runEnded();
      assert.equal((await scene.shownRun()).state, 'success');
      await scene.page.getByText(outcome).waitFor();
    }

    test('an encrypted storage is made, and the recovery key that was shown once is tried', async () => {
      const { page, folder } = scene;
      await scene.goTo('storage');
      await scene.looksWell('storage');
      await scene.press(scene.button(scene.say('storage.add')));
      await scene.fill(scene.say('storage.path'), join(folder, 'second'));
      await page.getByText(scene.say('folder.usable')).waitFor();
      await page.getByRole('checkbox', { name: scene.say('storage.encrypt'), exact: true }).click();
      for (const label of ['storage.passphrase', 'storage.passphraseAgain']) {
        const field = page.getByLabel(scene.say(label), { exact: true });
        await scene.press(field);
        await field.fill(PASSPHRASE);
      }
      await scene.looksWell('storage-add');
      await scene.press(scene.button(scene.say('storage.make')));
      await page.getByText(scene.say('keys.once')).waitFor();
      await scene.looksWell('recovery-key');
      const words = await page.locator('ol.words li').allInnerTexts();
      assert.equal(words.length, 24);
      recoveryKey = words.join(' ');
      const saved = await downloaded(() => scene.button(scene.say('keys.save')).click());
      const paper = await readFile(await saved.path(), 'utf8');
      assert.deepEqual(
        words.filter((word) => !paper.includes(word)),
        [],
      );
      await page.getByRole('checkbox', { name: scene.say('keys.kept'), exact: true }).click();
      await scene.button(scene.say('common.next')).click();
      await page.getByRole('heading', { name: 'second' }).waitFor();

      const dialog = page.getByRole('dialog');
      await tryKey('second', 'these are not the words');
      await dialog.getByRole('alert').waitFor();
      await scene.window.settle();
      await scene.window.picture('key-refused', 'seen');
      // The answer to a key that is none.
      scene.window.complaints.length = 0;
      await scene.fill(scene.say('storage.key'), recoveryKey);
      await scene.press(scene.button(scene.say('keys.try')));
      await page.getByText(scene.say('keys.opens')).waitFor();
      await scene.looksWell('keys');
      await scene.press(scene.button(scene.say('common.close')));
    });

    test('versions are copied there, checked, and the storage is forgotten and taken up again by its key', async () => {
      const { page, api, folder } = scene;
      await fromMenuOf('main', 'copy.title');
      const dialog = page.getByRole('dialog');
      await dialog.getByRole('radio', { name: 'second', exact: true }).click();
      await scene.looksWell('copy');
      await scene.press(scene.button(scene.say('copy.start')));
      await endsWell(shape('run.copied', { n: '1', read: ANY }, 1));
      await scene.looksWell('copy-run');

      await scene.goTo('storage');
      await tryKey('second', recoveryKey);
      await page.getByText(scene.say('keys.opensRead')).waitFor();
      await scene.looksWell('keys-read');
      await scene.press(scene.button(scene.say('common.close')));
      await fromMenuOf('second', 'storage.checkHashes');
      await endsWell(shape('run.noDamage'));
      await scene.looksWell('check-run');

      await scene.goTo('storage');
      await scene.looksWell('storage-two');
      await fromMenuOf('second', 'storage.forget');
      await scene.window.picture('flow-storage-forget', 'seen');
      await scene.press(scene.button(scene.say('common.remove'), dialog));
      await page.getByRole('heading', { name: 'second' }).waitFor({ state: 'detached' });
      assert.deepEqual(
        (await api.get<Named[]>('/repositories')).map(({ name }) => name),
        ['main'],
      );
      await scene.button(scene.say('storage.add')).click();
      await choose('storage.adopt');
      await scene.fill(scene.say('storage.path'), join(folder, 'second'));
      await scene.fill(scene.say('storage.key'), recoveryKey);
      await scene.looksWell('storage-adopt');
      await scene.press(scene.button(scene.say('storage.takeUp')));
      await dialog.waitFor({ state: 'detached' });
      await page.getByRole('heading', { name: 'second' }).waitFor();
      assert.equal((await api.get<{ points: unknown[] }>('/points')).points.length, 2);
    });

    test('a version of the storage that was taken up becomes a new machine, byte for byte', async () => {
      const { page } = scene;
      await restoreAs('new', 'second');
      await scene.fill(scene.say('restore.newName'), 'from the copy');
      await scene.looksWell('restore-place');
      await next();
      await scene.looksWell('restore-options');
      await next();
      await page.getByText(scene.say('conflict.nameFree', { name: 'from the copy' })).waitFor();
      await scene.looksWell('restore-check');
      await next();
      await page.locator('dd', { hasText: 'second' }).waitFor();
      await scene.looksWell('restore-summary');
      await scene.press(scene.button(scene.say('restore.start')));
      await endsWell(shape('run.restoredOff', { name: 'from the copy', host: 'lab' }));
      await scene.looksWell('restore-run');
      assert.equal(await firstDifference(await scene.diskOnHost('from the copy'), original), null);
    });

    test('a machine that runs is not replaced; a restore that is cancelled leaves it as it was, another one replaces it', async () => {
      const { page, api, folder, lab } = scene;
      const vmId = await lab.vmId(MACHINE);
      await lab.power(vmId, 'on');
      await lab.writeAt(vmId, 'scsi0:0', [{ offsetBytes: 4096, data: Buffer.alloc(4096, 0x5a) }]);
      await restoreAs('replace', 'main');
      await next();
      await next();
      // It was off when Dozo was told of it.
      await page.getByText(scene.say('conflict.running', { name: MACHINE })).waitFor();
      await scene.looksWell('restore-running');
      assert.equal(await scene.button(scene.say('common.next')).isDisabled(), true);
      await lab.power(vmId, 'off');
      const changed = join(folder, 'changed');
      await copyFile(await scene.diskOnHost(MACHINE), changed);
      assert.notEqual(await firstDifference(changed, original), null);
      await scene.press(scene.button(scene.say('restore.checkAgain')));
      await page.getByText(scene.say('conflict.willReplace', { name: MACHINE })).waitFor();
      await next();
      await scene.looksWell('restore-replace');
      await scene.press(page.getByRole('checkbox', { name: scene.say('restore.understood'), exact: true }));
      const before = (await lab.state()).vms.map(({ id, name, vmxPath }) => ({ id, name, vmxPath }));
      await api.patch('/settings', { throttle: { timeZone: 'UTC', limits: [], otherwise: 0.1 } });
      await scene.press(scene.button(scene.say('restore.start')));
      await page.getByText(scene.say('stage.writing')).first().waitFor({ timeout: RUN_MS });
      await scene.looksWell('restore-live');
      await scene.press(scene.button(scene.say('run.cancel')));
      await scene.window.picture('flow-restore-cancel', 'seen');
      await scene.press(scene.button(scene.say('run.cancel'), page.getByRole('dialog')));
      await scene.runEnded();
      assert.equal((await scene.shownRun()).state, 'cancelled');
      await page.getByText(scene.say('run.restoreCancelled')).waitFor();
      assert.equal(await page.getByText(shape('run.written', { written: ANY, verified: ANY })).count(), 0);
      await scene.looksWell('restore-cancelled');
      await api.patch('/settings', { throttle: null });
      const now = (await lab.state()).vms.map(({ id, name, vmxPath }) => ({ id, name, vmxPath }));
      assert.deepEqual(now, before, 'the same machines, under the same ids and paths');
      assert.equal(await firstDifference(await scene.diskOnHost(MACHINE), changed), null);

      await restoreAs('replace', 'main');
      for (let step = 0; step < 3; step += 1) await next();
      await scene.press(page.getByRole('checkbox', { name: scene.say('restore.understood'), exact: true }));
      await scene.press(scene.button(scene.say('restore.start')));
      await endsWell(shape('run.restoredOff', { name: MACHINE, host: 'lab' }));
      assert.equal(await firstDifference(await scene.diskOnHost(MACHINE), original), null);
      assert.equal((await lab.state()).vms.filter(({ name }) => name === MACHINE).length, 1);
      const { runs } = await api.get<{ runs: Run[] }>('/runs?kind=restore');
      assert.deepEqual(
        runs.map(({ state }) => state),
        ['success', 'cancelled', 'success'],
      );
    });

    test('a disk becomes a file, byte for byte', async () => {
      const { page, folder } = scene;
      const path = join(folder, 'disk.img');
      await restoreAs('export', 'main');
      await scene.fill(scene.say('restore.path'), path);
      await scene.looksWell('restore-export');
      await next();
      await scene.looksWell('restore-export-summary');
      await scene.press(scene.button(scene.say('restore.startExport')));
      await endsWell(shape('run.written', { written: ANY, verified: ANY }));
      // Who comes back to it is told where the file is.
      await page.getByText(path).waitFor();
      await scene.looksWell('restore-export-run');
      assert.equal(await firstDifference(path, original), null);
    });

    test('single files come out of a version, one by one and together, also after a load of the page', async () => {
      const { page, folder } = scene;
      await restoreAs('files', 'second');
      await page.getByText('system', { exact: true }).waitFor();
      await scene.looksWell('guest-volumes');
      await page.getByText('system', { exact: true }).click();
      await scene.button('home').click();
      await scene.button('anna').click();
      await page.getByRole('link', { name: REPORT }).waitFor();
      await scene.looksWell('guest-folder');
      const file = await downloaded(() => page.getByRole('link', { name: REPORT }).click());
      assert.ok((await readFile(await file.path())).equals(report), 'byte for byte');
      await page.getByText(shape('files.begun.file', { name: REPORT, size: ANY })).waitFor();
      await scene.looksWell('guest-taken');

      await scene.boxOf(REPORT).click();
      await scene.boxOf(INVOICE).click();
      await page.reload();
      await scene.boxOf(REPORT).waitFor();
      await scene.looksWell('guest-chosen');
      // In the head of the list, which stays where it is: what is above it is out of sight.
      const take = scene.button(scene.say('files.downloadChosen', { n: '2' }, 2), page.getByRole('columnheader'));
      const archive = await downloaded(() => scene.press(take));
      await archive.saveAs(join(folder, 'chosen.zip'));
      const target = join(folder, 'chosen');
      execFileSync('unzip', ['-q', join(folder, 'chosen.zip'), '-d', target]);
      assert.deepEqual((await readdir(join(target, 'anna'))).sort(), [INVOICE, REPORT]);
      assert.ok((await readFile(join(target, 'anna', REPORT))).equals(report));
      assert.ok((await readFile(join(target, 'anna', INVOICE))).equals(report.subarray(0, 90_000)));
      assert.deepEqual(scene.window.complaints, []);
    });

    /** A text of the window, with anything for `ANY`. */
    function shape(key: string, values: Record<string, string> = {}, count?: number): RegExp {
      const text = scene.say(key, values, count).replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
      return new RegExp(text.replaceAll(' ', String.raw`\s`).replaceAll(ANY, '.+'));
    }
  });
}
