import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { MAIL_PASSWORD, MAIL_USER, MailServerLab } from '../integration/notification-mail-server.ts';
import { oneDisk, Scene, type Named } from './scene.ts';

let scene: Scene;
let scripts: string;
let repositoryId: string;
let jobId: string;
let machines: Map<string, string>;

before(async () => {
  scripts = await mkdtemp(join(tmpdir(), 'dozo-scripts-'));
  await writeFile(join(scripts, 'stop-database'), '#!/bin/sh\necho stopped\n');
  await chmod(join(scripts, 'stop-database'), 0o755);
  scene = await Scene.start({
    machines: ['web 1', 'web 2', 'mail'].map((name, seed) => oneDisk(name, { mebibytes: 1, percent: 50, seed })),
    env: { DOZO_SCRIPTS_DIR: scripts },
  });
  ({ id: repositoryId } = await scene.api.post<Named>('/repositories', {
    name: 'main',
    path: join(scene.folder, 'main'),
  }));
  machines = await scene.addHost();
  ({ id: jobId } = await scene.api.post<Named>('/jobs', {
    name: 'Nightly',
    machineIds: [machines.get('mail')],
    repositoryId,
  }));
  await scene.begin();
});

after(async () => {
  await scene?.close();
  await rm(scripts, { recursive: true, force: true });
});

test('a task chooses its machines by rules, and says which fit before it is saved', async () => {
  const { page, api } = scene;
  await scene.open('/tasks/new');
  await page.getByRole('radio', { name: 'By rules', exact: true }).click();
  assert.equal(await scene.button('Next').isDisabled(), true, 'a rule must say something');
  await page.getByRole('textbox', { name: 'Name', exact: true }).fill('web*');
  await page.getByText('2 virtual machines fit now').waitFor();
  await page.getByRole('checkbox', { name: 'web 2', exact: true }).click();
  await page.getByText('1 virtual machine fits now').waitFor();
  await scene.window.picture('selection');
  assert.deepEqual(await scene.window.barriers(), []);
  await scene.next();
  await scene.fill('Task name', 'All of the web');
  for (let step = 0; step < 8; step += 1) await scene.next();
  await page.getByRole('checkbox', { name: 'Back up now', exact: true }).click();
  await scene.button('Save').click();
  await page.waitForURL(/#\/tasks$/);
  const job = (await api.get<(Named & { machineIds: string[]; selection: object })[]>('/jobs')).find(
    ({ name }) => name === 'All of the web',
  );
  assert.deepEqual(job?.machineIds, [machines.get('web 1')]);
  assert.deepEqual(job.selection, {
    include: [{ name: 'web*' }],
    exclude: [],
    excludeMachineIds: [machines.get('web 2')],
    excludeDisks: [],
  });

  // Changed, and what fits with it.
  await scene.open(`/tasks/${job.id}`);
  await page.getByRole('textbox', { name: 'Name', exact: true }).fill('mail');
  await page.getByText('1 virtual machine fits now').waitFor();
  await page.getByRole('checkbox', { name: 'mail', exact: true }).waitFor();
  await scene.button('Save').first().click();
  await page.waitForURL(/#\/tasks$/);
  assert.deepEqual((await api.get<{ machineIds: string[] }>(`/jobs/${job.id}`)).machineIds, [machines.get('mail')]);
  assert.deepEqual(scene.window.complaints, []);
});

test('a script is set before the runs of a task; an address starts it, with a key that is shown once', async () => {
  const { page, api } = scene;
  await scene.open('/tasks');
  await scene.button(scene.say('task.actionsOf', { name: 'Nightly' })).click();
  await page.getByText('Scripts and start from elsewhere').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('with the rights of Dozo').waitFor();
  await dialog.getByLabel('Before', { exact: true }).click();
  await page.getByRole('option', { name: 'stop-database', exact: true }).click();
  await scene.button('Save', dialog).click();
  await dialog.getByText('Saved.').waitFor();
  await scene.button('Make an address', dialog).click();
  await dialog.getByText('Copy the key now').waitFor();
  await scene.window.picture('hooks');
  assert.deepEqual(await scene.window.barriers(), []);
  const hooks = await api.get<{ scripts: { before: string | null }; trigger: object | null }>(`/jobs/${jobId}/hooks`);
  assert.equal(hooks.scripts.before, 'stop-database');
  assert.notEqual(hooks.trigger, null);
  await scene.button('Remove', dialog).click();
  await scene.button('Remove', page.getByRole('dialog').last()).click();
  await dialog.getByText('No other program can start this task.').waitFor();
  assert.equal((await api.get<{ trigger: object | null }>(`/jobs/${jobId}/hooks`)).trigger, null);
  assert.deepEqual(scene.window.complaints, []);
});

test('a task is copied, its schedule is paused and resumed', async () => {
  const { page, api } = scene;
  const open = async (name: string, action: string): Promise<void> => {
    await scene.open('/tasks');
    await scene.button(scene.say('task.actionsOf', { name })).click();
    await page.locator('.q-menu').getByText(scene.say(action), { exact: true }).click();
  };
  await open('Nightly', 'task.copy');
  const mail = page.getByRole('checkbox', { name: 'mail', exact: true });
  await mail.waitFor();
  assert.equal(await mail.isChecked(), true);
  await scene.next();
  await scene.fill('Task name', 'Nightly too');
  for (let step = 0; step < 8; step += 1) await scene.next();
  await scene.button('Save').click();
  await page.waitForURL(/#\/tasks$/);
  interface Copied extends Named {
    machineIds: string[];
    options: object;
  }
  const known = await api.get<Copied[]>('/jobs');
  const [first, second] = ['Nightly', 'Nightly too'].map((wanted) => known.find(({ name }) => name === wanted));
  assert.deepEqual(second?.machineIds, first?.machineIds);
  // What was not said of the first is said of the second.
  assert.deepEqual(second?.options, { skipFreeSpace: false, skipSwap: false, ...first?.options });
  const day = Math.min(new Date(Date.now() + 15 * 86_400_000).getUTCDate(), 28);
  const rule = { kind: 'monthly', on: { kind: 'day', day }, time: '22:00' };
  await api.put(`/jobs/${second?.id ?? ''}/schedule`, { timeZone: 'UTC', rules: [{ rule }] });
  const card = page.locator('article').filter({ has: page.getByRole('heading', { name: 'Nightly too', exact: true }) });
  for (const [action, isPaused] of [
    ['task.pause', true],
    ['task.resume', false],
  ] as const) {
    await open('Nightly too', action);
    const paused = card.getByText(scene.say('task.paused'), { exact: true });
    await paused.waitFor({ state: isPaused ? 'visible' : 'detached' });
    const saved: { schedule: { enabled: boolean } } = await api.get(`/jobs/${second?.id ?? ''}`);
    assert.equal(saved.schedule.enabled, !isPaused);
  }
  await api.delete(`/jobs/${second?.id ?? ''}`);
  assert.deepEqual(scene.window.complaints, []);
});

test('what is wrong with a field is said beside it', async () => {
  const { page, api } = scene;
  const before = (await api.get<Named[]>('/repositories')).length;
  await scene.open('/storage');
  await scene.button('Add storage').click();
  await scene.fill('Folder on the NAS', 'not/from/the/root');
  await scene.button('Make storage').click();
  const field = page.locator('.q-field').filter({ has: page.getByLabel('Folder on the NAS', { exact: true }) });
  await field.getByText(scene.say('error.why.absolutePath'), { exact: true }).waitFor();
  assert.equal(await page.getByLabel('Folder on the NAS', { exact: true }).getAttribute('aria-invalid'), 'true');
  await scene.window.picture('field-problem');
  await scene.fill('Folder on the NAS', join(scene.folder, 'right'));
  await field.getByText(scene.say('error.why.absolutePath'), { exact: true }).waitFor({ state: 'detached' });
  assert.equal((await api.get<Named[]>('/repositories')).length, before);
  scene.window.complaints.length = 0;
});

test('limits are kept; one that cannot be is said beside its field, and changes nothing', async () => {
  const { page, api } = scene;
  const label = 'Virtual machines at once per host';
  const known = await api.get<Record<string, unknown>>('/settings');
  await scene.open('/settings?tab=limits');
  await scene.fill(label, '17');
  await scene.fill('Days in the trash', '20');
  await scene.button('Save').click();
  const field = page.locator('.q-field').filter({ has: page.getByLabel(label, { exact: true }) });
  await scene.until('a field that is wrong', async () =>
    (await page.getByLabel(label, { exact: true }).getAttribute('aria-invalid')) === 'true' ? true : null,
  );
  await field
    .getByRole('alert')
    .getByText(scene.say('error.why.atMost', { n: '16' }), { exact: true })
    .waitFor();
  assert.deepEqual(await api.get('/settings'), known);
  scene.window.complaints.length = 0;
  await scene.fill(label, '3');
  await scene.button('Save').click();
  await page.getByText(scene.say('common.saved'), { exact: true }).waitFor();
  assert.deepEqual(await api.get('/settings'), { ...known, tasksPerHost: 3, trashDays: 20 });
  await api.patch('/settings', { tasksPerHost: known['tasksPerHost'], trashDays: known['trashDays'] });
  assert.deepEqual(scene.window.complaints, []);
});

test('a ghettoVCB configuration becomes a task, after it was said what is taken over and what is not', async () => {
  const { page, api } = scene;
  await scene.open('/tasks');
  await scene.button('Take over from ghettoVCB').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Task name', { exact: true }).fill('As before');
  await dialog
    .getByLabel('Text of ghettoVCB.conf', { exact: true })
    .fill('VM_BACKUP_ROTATION_COUNT=5\nWORKDIR_DEBUG=0\n');
  await dialog.getByLabel('List of virtual machines', { exact: true }).fill('web 1\nno such <b id="x">machine');
  await scene.button('See what would happen', dialog).click();
  await dialog.getByText('This would happen:').waitFor();
  await scene.window.picture('ghetto');
  assert.deepEqual(await scene.window.barriers(), []);
  await dialog.getByText('VM_BACKUP_ROTATION_COUNT=5').waitFor();
  assert.equal(await page.locator('#x').count(), 0);
  assert.equal(
    (await api.get<Named[]>('/jobs')).some(({ name }) => name === 'As before'),
    false,
    'nothing is made yet',
  );
  await scene.button('Make the task', dialog).dblclick();
  await page.waitForURL(/#\/tasks\/[0-9a-f]{16}$/);
  const made = (
    await api.get<(Named & { machineIds: string[]; options: { retention: { last: number } } })[]>('/jobs')
  ).filter(({ name }) => name === 'As before');
  assert.equal(made.length, 1);
  assert.deepEqual(made[0]?.machineIds, [machines.get('web 1')]);
  assert.equal(made[0].options.retention.last, 5);
  scene.window.complaints.length = 0;
});

test('a deleted task takes its versions along only when that is chosen', async () => {
  const { page, api } = scene;
  const { id } = await api.post<Named>('/jobs', { name: 'Gone', machineIds: [machines.get('web 2')], repositoryId });
  const run = await api.post<Named>(`/jobs/${id}/run`, {});
  assert.equal(await scene.ended(run.id), 'success');
  await scene.open('/tasks');
  await scene.button(scene.say('task.actionsOf', { name: 'Gone' })).click();
  await page.getByText('Delete', { exact: true }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('radio', { name: 'Move its versions to the trash, too', exact: true }).click();
  assert.equal(await scene.button('Delete', dialog).isDisabled(), true);
  await dialog.getByLabel('Number of its virtual machines', { exact: true }).fill('1');
  await scene.window.picture('delete-task-versions');
  assert.deepEqual(await scene.window.barriers(), []);
  await scene.button('Delete', dialog).click();
  await page.getByRole('heading', { name: 'Gone', exact: true }).waitFor({ state: 'detached' });
  const count = async (query: string): Promise<number> =>
    (await api.get<{ points: object[] }>(`/points?repositoryId=${repositoryId}&${query}`)).points.length;
  assert.equal(await count(''), 0);
  assert.equal(await count('trash=true'), 1);
  assert.deepEqual(scene.window.complaints, []);
});

test('a mail server whose certificate nobody has signed is trusted by hand, and the test arrives', async () => {
  const { page } = scene;
  const mail = new MailServerLab();
  await mail.start();
  try {
    await scene.open('/settings?tab=notifications');
    const panel = page.locator('section').filter({ has: page.getByRole('heading', { name: 'Mail server' }) });
    await panel.getByLabel('Mail server', { exact: true }).fill('localhost');
    await panel.getByLabel('Port', { exact: true }).fill(String(mail.ports.starttls));
    await panel.getByLabel('Sender', { exact: true }).fill('dozo@example.test');
    await panel.getByLabel('User name', { exact: true }).fill(MAIL_USER);
    await panel.getByLabel('Password', { exact: true }).fill(MAIL_PASSWORD);
    await panel.getByLabel('Send a test to', { exact: true }).fill('anna@example.test');
    await scene.button('Test', panel).click();
    await scene.button('Trust this certificate', panel).click();
    await panel.getByText('The test was sent.').waitFor();
    await scene.window.picture('mail');
    const received = await mail.waitFor(({ headers }) => headers['envelope-to'] === 'anna@example.test');
    assert.match(received.subject, /Dozo/);
    await scene.button('Save', panel).click();
    await panel.getByText('Saved.').waitFor();
    const { mailServer } = await scene.api.get<{ mailServer: { tlsCertificate: string } }>('/notifications/settings');
    assert.equal(mailServer.tlsCertificate, mail.fingerprint);
  } finally {
    await mail.destroy();
  }
  assert.deepEqual(scene.window.complaints, []);
});

test('a message that could not be delivered is sent again by a click', async () => {
  const { page, api } = scene;
  const taken: string[] = [];
  let isDown = true;
  const hook = createServer((request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => (body += part.toString()));
    request.on('end', () => {
      if (!isDown) taken.push(body);
      response.writeHead(isDown ? 404 : 200).end();
    });
  });
  hook.listen(0, '127.0.0.1');
  await once(hook, 'listening');
  try {
    await api.post('/notifications/recipients', {
      name: 'monitor',
      language: 'en',
      timeZone: 'UTC',
      results: ['success', 'warning', 'failure'],
      channel: { kind: 'webhook', format: 'json', url: `http://127.0.0.1:${(hook.address() as AddressInfo).port}/` },
    });
    await api.put(`/jobs/${jobId}/scripts`, {});
    const run = await api.post<Named>(`/jobs/${jobId}/run`, {});
    await scene.ended(run.id);
    const told = (state: string): Promise<true> =>
      scene.until(`a message that is ${state}`, async () => {
        const { deliveries } = await api.get<{ deliveries: { state: string }[] }>('/notifications/deliveries');
        return deliveries.some((delivery) => delivery.state === state) ? true : null;
      });
    await told('failed');
    await scene.open('/settings?tab=notifications');
    const row = page.locator('.q-item').filter({ has: scene.button('Try again') });
    await row.getByText('given up').waitFor();
    await scene.window.picture('outbox');
    isDown = false;
    await scene.button('Try again', row).click();
    await told('sent');
    assert.equal(taken.length, 1);
    assert.match(taken[0] ?? '', /Nightly/);
  } finally {
    hook.closeAllConnections();
    hook.close();
  }
});

test('the configuration goes out to a file, and brings back what was lost meanwhile', async () => {
  const { page, api } = scene;
  await scene.open('/settings?tab=about');
  const downloading = page.waitForEvent('download');
  await scene.button('Save as a file').click();
  const path = join(scene.folder, 'configuration.json');
  await (await downloading).saveAs(path);
  assert.equal((await readFile(path, 'utf8')).includes(MAIL_PASSWORD), false, 'no secrets without a passphrase');
  await api.delete(`/jobs/${jobId}`);
  await page.locator('input[type=file]').setInputFiles(path);
  await page.getByText('This would happen:').waitFor();
  await page.getByText(/Nightly.*: added/).waitFor();
  await scene.window.picture('configuration');
  assert.equal(
    (await api.get<Named[]>('/jobs')).some(({ name }) => name === 'Nightly'),
    false,
  );
  await scene.button('Take over').click();
  await page.getByText('This has happened:').waitFor();
  const back = (await api.get<(Named & { machineIds: string[] })[]>('/jobs')).find(({ name }) => name === 'Nightly');
  assert.deepEqual(back?.machineIds, [machines.get('mail')]);
  jobId = back.id;
});

test('the report of this month is a page of its own that names what was protected', async () => {
  const { page } = scene;
  await scene.open('/settings?tab=about');
  const opening = page.waitForEvent('popup');
  await page.locator('section', { hasText: 'Monthly reports' }).getByRole('link').first().click();
  const report = await opening;
  await report.getByText('mail', { exact: false }).first().waitFor();
  assert.match(await report.locator('body').innerText(), /main/);
  await report.close();
});

test('reports are offered since Dozo is there; certificate and licences can be read', async () => {
  const { page } = scene;
  await scene.open('/settings?tab=about');
  const reports = page.locator('section', { hasText: 'Monthly reports' }).getByRole('link');
  const { firstUsedAtMs, certificate } = await scene.api.get<{
    firstUsedAtMs: number;
    certificate: { fingerprint: string; validUntilMs: number };
  }>('/system');
  assert.ok(firstUsedAtMs <= Date.now() && firstUsedAtMs > Date.now() - 3_600_000);
  assert.equal(await reports.count(), 1, 'nothing is known of the months before');
  const shown = (certificate.fingerprint.toUpperCase().match(/../g) ?? []).join(':');
  await page.getByText(shown, { exact: true }).waitFor();
  assert.ok(certificate.validUntilMs > Date.now());
  const opening = page.waitForEvent('popup');
  await page.getByRole('link', { name: 'Licences of all parts' }).click();
  const licences = await opening;
  const terms = await licences.locator('pre').innerText();
  for (const part of [/Apache License/, /^vue \d/m, /^quasar \d/m, /^bullmq \d/m]) assert.match(terms, part);
  await licences.close();
});

test('a copy that has nowhere to go leads to a second storage', async () => {
  const { page } = scene;
  await scene.open('/storage');
  await scene.button(scene.say('storage.actionsOf', { name: 'main' })).click();
  await page.getByText('Copy to another storage').click();
  const dialog = page.getByRole('dialog', { name: 'Copy to another storage' });
  await dialog.getByText('A copy needs a second storage').waitFor();
  await scene.button('Add storage', dialog).click();
  await scene.fill('Folder on the NAS', join(scene.folder, 'second'));
  await scene.button('Make storage').click();
  await dialog.getByRole('radio', { name: 'second', exact: true }).waitFor();
  assert.equal(await scene.button('Start copying', dialog).isEnabled(), true);
  await scene.button('Cancel', dialog).click();
  assert.deepEqual(scene.window.complaints, []);
});

test('a recovery key is printed with its words and nothing else', async () => {
  const { page } = scene;
  await scene.open('/storage');
  await scene.button('Add storage').click();
  await scene.fill('Folder on the NAS', join(scene.folder, 'sealed'));
  await page.getByRole('checkbox', { name: 'Encrypt', exact: true }).click();
  await scene.fill('Passphrase', 'correct horse battery');
  await scene.fill('Passphrase again', 'correct horse battery');
  await scene.button('Make storage').click();
  await page.getByText('shown this once only').waitFor();
  const words = await page.locator('ol.words li').allInnerTexts();
  // Paper is out of reach: what would be on it is not.
  await page.evaluate(`{
    const append = Element.prototype.append;
    Element.prototype.append = function (...nodes) {
      append.apply(this, nodes);
      for (const frame of nodes.filter((node) => node instanceof HTMLIFrameElement)) {
        frame.contentWindow.print = () => {
          const { contentDocument: paper } = frame;
          globalThis.printed = {
            words: [...paper.querySelectorAll('li')].map((item) => item.textContent),
            titles: [paper.querySelector('h1').textContent, paper.title],
            cells: paper.querySelectorAll('rect').length,
            buttons: paper.querySelectorAll('button').length,
          };
        };
      }
    };
  }`);
  await scene.button('Print').click();
  const printed = await page.evaluate<
    { words: string[]; titles: string[]; cells: number; buttons: number } | undefined
  >('globalThis.printed');
  assert.deepEqual(printed?.words, words);
  assert.equal(printed?.words.length, 24);
  const title = 'Recovery key of the storage “sealed”';
  assert.deepEqual(printed?.titles, [title, title], 'no invisible marks on paper');
  assert.ok((printed?.cells ?? 0) > 100, 'the QR code is on the paper');
  assert.equal(printed?.buttons, 0);
  await page.getByRole('checkbox', { name: /I have printed/ }).click();
  await scene.button('Next').click();
});

test('the audit log is verified, and an entry that was changed behind its back is found', async () => {
  const { page } = scene;
  const repositories = await scene.api.get<Named[]>('/repositories');
  const used = repositories.find(({ name }) => name === 'main');
  await assert.rejects(scene.api.delete(`/repositories/${used?.id ?? ''}`));
  await scene.open('/settings?tab=audit');
  // What failed says why.
  await page.getByText(/failed · The job ".+" stores into this repository/).waitFor();
  await scene.button('Verify the chain').click();
  await page.getByText(/entries, all as they were written/).waitFor();
  const database = new DatabaseSync(join(scene.folder, 'dozo/data/catalogue.sqlite'));
  try {
    database.exec('PRAGMA busy_timeout = 180000');
    database.exec("UPDATE audit_log SET actor = 'nobody' WHERE number = 3");
  } finally {
    database.close();
  }
  await scene.button('Verify the chain').click();
  await page.getByText('Entry 3 is not as it was written.').waitFor();
  await scene.window.picture('audit-broken');
});
