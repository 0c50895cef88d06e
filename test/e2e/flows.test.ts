import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { TOTP } from 'otpauth';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { GIB, MIB } from '../../server/runtime/index.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';
import { openWindow, type Window } from './browser.ts';

const MACHINE = 'files';
const PASSWORD = 'lab-Password-1';
/** A loaded machine is several times slower than an idle one. */
const RUN_MS = 240_000;

interface Named {
  id: string;
  name: string;
}
interface RunDetail {
  id: string;
  state: string;
  finishedAtMs: number | null;
}

let folder: string;
let lab: LabHost;
let product: Product;
let window: Window;
/** Of `admin`, as it is now. */
let password: string;
let machineId: string;
let repositoryId: string;
let jobId: string;
/** A copy of the machine's disk as it was before its backup. */
let original: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-flows-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    edition: 'free',
    password: PASSWORD,
    datastores: [{ name: 'ds1', type: 'VMFS-6', capacityBytes: 4 * GIB, rawFrozenRead: 'allow' }],
    vms: [
      {
        name: MACHINE,
        datastore: 'ds1',
        running: false,
        changeTracking: false,
        disks: [{ sizeBytes: 16 * MIB, provisioning: 'thin', fill: { percent: 50, seed: 7 } }],
      },
    ],
  });
  original = (await lab.captureTruth(await lab.vmId(MACHINE), 'before'))['scsi0:0'] ?? '';
  product = await startProduct(join(folder, 'dozo'));
  password = product.password;
  const { api } = product;
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'repository') }));
  const host = await api.post<Named>('/hosts', {
    name: 'lab',
    host: '127.0.0.1',
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: 'root',
    password: PASSWORD,
  });
  const [machine] = await api.get<Named[]>(`/hosts/${host.id}/machines?refresh=true`);
  machineId = machine?.id ?? '';
  ({ id: jobId } = await api.post<Named>('/jobs', { name: 'Nightly', machineIds: [machineId], repositoryId }));
  const run = await api.post<RunDetail>(`/jobs/${jobId}/run`, {});
  assert.equal(await ended(run.id), 'success');
  window = await openWindow('en-GB');
  await window.page.goto(product.url);
  await logIn(product.password);
  // That nobody was logged in yet.
  window.complaints.length = 0;
});

after(async () => {
  await window?.close();
  await product?.close();
  await lab?.close();
  await rm(folder, { recursive: true, force: true });
});

async function ended(runId: string): Promise<string> {
  const giveUpAtMs = Date.now() + RUN_MS;
  while (Date.now() < giveUpAtMs) {
    const run = await product.api.get<RunDetail>(`/runs/${runId}`);
    if (run.finishedAtMs !== null) return run.state;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`run ${runId} does not end`);
}

function button(name: string | RegExp) {
  return window.page.getByRole('button', { name, exact: true });
}

async function fill(label: string, value: string): Promise<void> {
  await window.page.getByLabel(label, { exact: true }).fill(value);
}

async function next(): Promise<void> {
  await button('Next').click();
}

async function open(path: string): Promise<void> {
  await window.page.goto('about:blank');
  await window.page.goto(`${product.url}/#${path}`);
  await window.settle();
}

async function logIn(password: string): Promise<void> {
  await fill('Password', password);
  await button('Sign in').click();
  await window.page.locator('nav').first().waitFor();
  await window.page.evaluate(`localStorage.setItem('dozo-preferences', '{"language":"en","guideDone":true}')`);
}

/** Waits for the end of the run that the window shows; its state in words. */
async function runEnded(): Promise<string> {
  const { page } = window;
  await page.waitForURL(/#\/activities\/[0-9a-f]{16}/);
  const state = page.locator('[aria-live="polite"]', { hasText: /Success|warnings|Failed|Incomplete|Cancelled/ });
  await state.waitFor({ timeout: RUN_MS });
  return state.innerText();
}

/** The only disk of the machine as it is on the host now. */
async function diskOnHost(): Promise<string> {
  const machine = (await lab.state()).vms.find(({ name }) => name === MACHINE);
  const [disk] = machine?.disks ?? [];
  return lab.localPath((disk?.chain[0]?.absolutePath ?? '').replace(/\.vmdk$/, '-flat.vmdk'));
}

test('a version goes to the trash with its name typed, and comes back', async () => {
  const { page } = window;
  const count = async (query: string): Promise<number> =>
    (await product.api.get<{ points: unknown[] }>(`/points?machineId=${machineId}${query}`)).points.length;
  const before = await count('');
  await open(`/storage/${repositoryId}`);
  await page.getByRole('checkbox').last().click();
  await button('Delete').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('goes to the trash').waitFor();
  assert.equal(await dialog.getByRole('button', { name: 'Delete', exact: true }).isDisabled(), true);
  await window.picture('trash-delete');
  await dialog.getByRole('textbox').fill(MACHINE);
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByText('1 version is in the trash.').waitFor();
  assert.equal(await count(''), before - 1);
  assert.equal(await count('&trash=true'), 1);

  await page.getByRole('tab', { name: 'Trash', exact: true }).click();
  await page.getByText('Goes for good after').waitFor();
  await window.picture('trash');
  await page.getByRole('checkbox').last().click();
  await button('Bring back').click();
  await page.getByText('1 version is back.').waitFor();
  assert.equal(await count(''), before);
  assert.deepEqual(window.complaints, []);
});

test('a version takes the place of the original, byte for byte', async () => {
  const { page } = window;
  // What was written after the backup is to be gone.
  const vmId = await lab.vmId(MACHINE);
  await lab.power(vmId, 'on');
  await lab.writeAt(vmId, 'scsi0:0', [{ offsetBytes: 4096, data: Buffer.alloc(4096, 0x5a) }]);
  await lab.power(vmId, 'off');
  assert.notEqual(await firstDifference(await diskOnHost(), original), null);

  await open(`/restore?machine=${machineId}`);
  await next();
  await page.getByRole('radio', { name: 'In the place of the original', exact: true }).click();
  await next();
  await next();
  await next();
  await page.getByText('will be replaced').waitFor();
  await window.picture('restore-replace-check');
  await next();
  assert.equal(await button('Restore now').isDisabled(), true, 'it must be said that this is understood');
  await page.getByRole('checkbox', { name: 'I have understood this.', exact: true }).click();
  await button('Restore now').click();
  assert.match(await runEnded(), /Success/);
  assert.equal(await firstDifference(await diskOnHost(), original), null);
  assert.equal((await lab.state()).vms.filter(({ name }) => name === MACHINE).length, 1);
  assert.deepEqual(window.complaints, []);
});

test('a disk is written to a file, byte for byte', async () => {
  const { page } = window;
  const path = join(folder, 'disk.img');
  await open(`/restore?machine=${machineId}`);
  await next();
  await page.getByRole('radio', { name: 'A disk as a file', exact: true }).click();
  await next();
  await fill('File on the NAS', path);
  await next();
  await button('Write file').click();
  assert.match(await runEnded(), /Success/);
  assert.equal(await firstDifference(path, original), null);
});

test('a storage is checked, forgotten and taken up again with its versions', async () => {
  const { page } = window;
  await open('/storage');
  await button('Check').click();
  assert.match(await runEnded(), /Success/);
  await page.getByText('No damage found.').waitFor();

  const spare = join(folder, 'spare');
  const { id } = await product.api.post<Named>('/repositories', { name: 'spare', path: spare });
  await product.api.delete(`/repositories/${id}`);
  await open('/storage');
  await button('Add storage').click();
  await fill('Folder on the NAS', spare);
  await button('Make storage').click();
  // There is one already: that is said, and offered.
  await button('Take up the one that is there').click();
  await page.getByRole('heading', { name: 'spare' }).waitFor();
  window.complaints.length = 0;
});

test('two windows edit a task: the second is told, and takes over what the first has made of it', async () => {
  const { page } = window;
  await open(`/tasks/${jobId}`);
  await page.getByText('Name', { exact: true }).first().click();
  const { revision, ...job } = await product.api.get<Record<string, unknown> & { revision: number }>(`/jobs/${jobId}`);
  const { machineIds, options } = job;
  await product.api.put(`/jobs/${jobId}`, { name: 'Renamed', machineIds, repositoryId, options, revision });
  await page.getByLabel('Task name', { exact: true }).fill('Mine');
  await button('Save').first().click();
  await page.getByText('Somebody else has changed this task').waitFor();
  assert.equal((await product.api.get<Named>(`/jobs/${jobId}`)).name, 'Renamed');
  await button('Load the current version').click();
  await page.waitForFunction(`document.querySelector('input[name="taskname"]')?.value === 'Renamed'`);
  await page.getByLabel('Task name', { exact: true }).fill('Nightly');
  await button('Save').first().click();
  await page.waitForURL(/#\/tasks$/);
  assert.equal((await product.api.get<Named>(`/jobs/${jobId}`)).name, 'Nightly');
  window.complaints.length = 0;
});

test('a double click starts one run; a run is cancelled and leaves the host as it was', async () => {
  const { page } = window;
  const count = async (): Promise<number> =>
    (await product.api.get<{ runs: unknown[] }>(`/runs?jobId=${jobId}`)).runs.length;
  const before = await count();
  // So slow that there is time to cancel it.
  const job = await product.api.get<Record<string, unknown> & { revision: number }>(`/jobs/${jobId}`);
  const { machineIds, revision } = job;
  const throttle = { timeZone: 'UTC', limits: [], otherwise: 0.2 };
  const options = { fullRead: true, throttle };
  await product.api.put(`/jobs/${jobId}`, { name: 'Nightly', machineIds, repositoryId, options, revision });
  await open('/tasks');
  await button('Back up now').dblclick();
  await page.waitForURL(/#\/activities\/[0-9a-f]{16}/);
  assert.equal(await count(), before + 1);
  await page.goBack();
  await page.goForward();
  assert.equal(await count(), before + 1, 'going back and forth starts nothing');
  await page.getByText('Transferring').waitFor({ timeout: RUN_MS });
  await window.picture('run-live');
  await button('Cancel run').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel run', exact: true }).click();
  assert.match(await runEnded(), /Cancelled/);
  assert.deepEqual((await lab.state()).vms.find(({ name }) => name === MACHINE)?.snapshots ?? [], []);
});

test('a session that was lost leads back to the same place; a server that restarts is reached again', async () => {
  const { page } = window;
  await open('/storage');
  await window.context.clearCookies();
  await open('/storage');
  await logIn(product.password);
  await page.getByRole('heading', { name: 'Storage', exact: true }).waitFor();
  assert.match(page.url(), /#\/storage$/);

  await product.killServer();
  await page.getByText('Reconnecting').waitFor({ timeout: 60_000 });
  await product.start();
  await page.getByText('Reconnecting').waitFor({ state: 'detached', timeout: 120_000 });
  await product.api.post<Named>('/repositories', { name: 'made meanwhile', path: join(folder, 'meanwhile') });
  await page.getByRole('heading', { name: 'made meanwhile' }).waitFor({ timeout: 60_000 });
  window.complaints.length = 0;
});

test('a webhook is added and tested', async () => {
  const { page } = window;
  const received: string[] = [];
  const hook = createServer((request, response) => {
    request.on('data', (part: Buffer) => received.push(part.toString()));
    request.on('end', () => response.end());
  });
  await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve));
  try {
    await open('/settings?tab=notifications');
    await button('Add recipient').click();
    await fill('Name', 'hook <b>');
    await page.getByRole('radio', { name: 'Webhook', exact: true }).click();
    await fill('Address of the webhook', `http://127.0.0.1:${(hook.address() as AddressInfo).port}/secret`);
    await window.picture('recipient');
    await page.getByRole('dialog').getByRole('button', { name: 'Save', exact: true }).click();
    const row = page.locator('.q-item', { hasText: 'hook <b>' });
    await row.getByRole('button', { name: 'Test', exact: true }).click();
    await row.getByText('The test was sent.').waitFor();
    assert.ok(received.join('').length > 0);
  } finally {
    hook.close();
  }
  assert.deepEqual(window.complaints, []);
});

test('a token, a new user, a new password', async () => {
  const { page } = window;
  await open('/settings');
  await fill('Name of the program', 'monitor');
  await page.getByLabel('Your password', { exact: true }).last().fill(product.password);
  await button('Make token').click();
  await page.getByText('Copy the token now').waitFor();
  await page.getByText('monitor', { exact: false }).first().waitFor();

  await open('/settings?tab=users');
  await button('Add user').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('User name', { exact: true }).fill('kuroda');
  await dialog.getByRole('radio', { name: 'Viewer', exact: true }).click();
  await dialog.getByLabel('New password', { exact: true }).fill('only looking 1');
  await window.picture('user');
  await dialog.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText('kuroda').waitFor();

  const fresh = 'another password 2';
  await open('/settings');
  await fill('Current password', product.password);
  await fill('New password', fresh);
  await fill('New password again', fresh);
  await button('Change password').click();
  await page.getByText('The password is changed.').waitFor();
  await window.context.clearCookies();
  window.complaints.length = 0;
  await open('/settings');
  await fill('User name', 'kuroda');
  await logIn('only looking 1');
  await page.getByRole('heading', { name: 'Settings', exact: true }).waitFor();
  // What a viewer may not do is not there.
  assert.equal(await page.getByRole('tab', { name: 'Users', exact: true }).count(), 0);
  await window.context.clearCookies();
  await open('/');
  await fill('User name', 'admin');
  await logIn(fresh);
  password = fresh;
  await page.getByRole('heading', { name: 'Overview', exact: true }).waitFor();
});

test('an encrypted storage hands out its recovery key once, and the words open it', async () => {
  const { page } = window;
  await open('/storage');
  await button('Add storage').click();
  await fill('Folder on the NAS', join(folder, 'sealed'));
  await page.getByRole('checkbox', { name: 'Encrypt', exact: true }).click();
  await fill('Passphrase', 'correct horse battery');
  await button('Make storage').click();
  await page.getByText('shown this once only').waitFor({ timeout: 60_000 });
  await window.picture('recovery-key');
  const words = await page.locator('ol.words li').allInnerTexts();
  assert.equal(words.length, 24);
  assert.equal(await button('Next').isDisabled(), true, 'the words must be put away first');
  await page.getByRole('checkbox', { name: /I have printed/ }).click();
  await next();
  const card = page.locator('article', { hasText: 'sealed' });
  await card.getByRole('button', { name: 'Keys', exact: true }).click();
  await fill('Passphrase or recovery key', 'these are not the words');
  await button('Try').click();
  await page.getByRole('dialog').getByRole('alert').waitFor({ timeout: 60_000 });
  await fill('Passphrase or recovery key', words.join(' '));
  await button('Try').click();
  await page.getByText('The key opens the storage').waitFor({ timeout: 60_000 });
  await window.picture('keys');
  window.complaints.length = 0;
});

test('two-step sign-in is set up, and a recovery code lets in without the app', async () => {
  const { page } = window;
  await open('/settings');
  await page.getByLabel('Your password', { exact: true }).first().fill(password);
  await button('Set up').click();
  await page.getByRole('img', { name: 'QR code for the authenticator app' }).waitFor();
  await window.picture('second-factor');
  const secret = await page.locator('.panel .mono').first().innerText();
  await page.getByLabel('One-time code', { exact: true }).first().fill(new TOTP({ secret }).generate());
  await button('Switch on').click();
  await page.getByText('Keep these recovery codes').waitFor();
  const code = (await page.locator('ul.codes li').allInnerTexts())[0] ?? '';
  await button('I have kept them').click();
  await page.getByText('Two-step sign-in is on.').waitFor();

  await window.context.clearCookies();
  await open('/settings');
  await fill('Password', password);
  await button('Sign in').click();
  await fill('One-time code', code);
  await button('Sign in').click();
  await page.getByText('Two-step sign-in is on.').waitFor();
  window.complaints.length = 0;
});
