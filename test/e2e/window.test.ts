import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { GIB, MIB } from '../../server/runtime/index.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';
import { openWindow, type Window } from './browser.ts';

const MACHINE = 'web server';
/** Names come from strangers. */
const HOSTILE = '<b id="x">mail & ‮日本 {0} @:common.all';
const PASSWORD = 'lab-Password-1';
/** A loaded machine is several times slower than an idle one. */
const RUN_MS = 240_000;

let folder: string;
let lab: LabHost;
let product: Product;
let window: Window;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-e2e-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    edition: 'free',
    password: PASSWORD,
    datastores: [{ name: 'ds1', type: 'VMFS-6', capacityBytes: 8 * GIB, rawFrozenRead: 'allow' }],
    switches: { keepTruth: true },
    vms: [
      {
        name: MACHINE,
        datastore: 'ds1',
        running: true,
        changeTracking: false,
        disks: [{ sizeBytes: 64 * MIB, provisioning: 'thin', fill: { percent: 40, seed: 1 } }],
      },
      {
        name: 'mail',
        datastore: 'ds1',
        running: false,
        changeTracking: false,
        disks: [{ sizeBytes: 16 * MIB, provisioning: 'thin', fill: { percent: 10, seed: 2 } }],
      },
    ],
  });
  product = await startProduct(join(folder, 'dozo'));
  window = await openWindow('en-GB');
});

after(async () => {
  await window?.close();
  await product?.close();
  await lab?.close();
  await rm(folder, { recursive: true, force: true });
});

/** A name inside a sentence, in the marks that keep its direction to itself. */
function isolated(name: string): string {
  return `\u2068${name}\u2069`;
}

function button(name: string | RegExp) {
  return window.page.getByRole('button', { name, exact: true });
}

async function fill(label: string, value: string): Promise<void> {
  await window.page.getByLabel(label, { exact: true }).fill(value);
}

/** The one way out of a wizard's step. */
async function next(): Promise<void> {
  await button('Next').click();
}

async function runEnded(): Promise<void> {
  const { page } = window;
  await page.waitForURL(/#\/activities\/[0-9a-f]{16}/);
  await page
    .locator('[aria-live="polite"]', { hasText: /Success|warnings|Failed|Incomplete/ })
    .waitFor({ timeout: RUN_MS });
}

test('from the first opening to a protected machine, in clicks', async () => {
  const { page } = window;
  await page.goto(product.url);
  await fill('Password', 'not the password');
  await button('Sign in').click();
  await page.getByRole('alert').waitFor();
  window.complaints.length = 0;
  await fill('Password', product.password);
  await button('Sign in').click();

  await page.getByRole('heading', { name: 'Welcome to Dozo' }).waitFor();
  await window.picture('guide');
  await next();
  await fill('Folder on the NAS', join(folder, 'repository'));
  await button('Make storage').click();

  await fill('Address', '127.0.0.1');
  await fill('Display name', 'lab');
  await fill('Password', PASSWORD);
  await page.getByText('More settings').click();
  await fill('SSH port', String(lab.sshPort));
  await fill('HTTPS port', String(lab.httpsPort));
  await button('Check connection').click();
  await page.getByText(lab.sshHostKey).first().waitFor({ timeout: 60_000 });
  await window.picture('add-host');
  await button('Trust and add').click();
  await button('Create task').click({ timeout: 60_000 });

  await page.getByRole('checkbox', { name: MACHINE, exact: true }).click();
  await window.picture('task-machines');
  await next();
  assert.equal(await page.getByLabel('Task name', { exact: true }).inputValue(), MACHINE);
  await next();
  await next();
  await next();
  await page.getByText('can be reached').waitFor();
  await window.picture('task-check');
  await next();
  await page.getByText('The next ten runs').waitFor();
  await window.picture('task-schedule');
  await next();
  await page.getByText('versions per virtual machine').waitFor();
  await window.picture('task-retention');
  await next();
  await next();
  await window.picture('task-summary');
  await button('Save and back up now').click();
  await runEnded();
  await page.getByText('Explain this run').waitFor();
  await window.picture('run');
  assert.deepEqual(window.complaints, []);
});

test('a version comes back as a new machine, byte for byte', async () => {
  const { page } = window;
  await page.goto(`${product.url}/#/machines`);
  await page.getByRole('checkbox', { name: `Select ${isolated(MACHINE)}`, exact: true }).click();
  await button('Restore').click();
  await page.getByText('Complete', { exact: true }).waitFor();
  await next();
  await next();
  const name = page.getByLabel('Name of the new virtual machine', { exact: true });
  await name.fill(MACHINE);
  await next();
  await next();
  await page.getByText('There is a virtual machine').waitFor();
  assert.equal(await button('Next').isDisabled(), true, 'a taken name stops the wizard');
  await button('Back').last().click();
  await button('Back').last().click();
  await name.fill('web restored');
  await next();
  await next();
  await window.picture('restore-check');
  await next();
  await window.picture('restore-summary');
  await button('Restore now').click();
  await runEnded();
  await page.getByText('read back and found equal').waitFor();

  const restored = (await lab.state()).vms.find((machine) => machine.name === 'web restored');
  assert.ok(restored !== undefined, 'the machine is on the host');
  const vmId = await lab.vmId(MACHINE);
  const truth = await truthOf(vmId);
  assert.equal(restored.disks.length, 1);
  for (const disk of restored.disks) {
    const flat = lab.localPath((disk.chain[0]?.absolutePath ?? '').replace(/\.vmdk$/, '-flat.vmdk'));
    assert.equal(await firstDifference(flat, truth[disk.node] ?? ''), null);
  }
  assert.deepEqual(window.complaints, []);
});

test('a task goes only when its name is typed, and its versions stay', async () => {
  const { page } = window;
  const job = await product.api.post<{ id: string }>('/jobs', {
    name: HOSTILE,
    machineIds: (await product.api.get<{ id: string }[]>('/machines')).slice(0, 1).map(({ id }) => id),
    repositoryId: (await product.api.get<{ id: string }[]>('/repositories'))[0]?.id,
  });
  await page.goto(`${product.url}/#/tasks`);
  await page.getByRole('heading', { name: HOSTILE, exact: true }).waitFor();
  assert.equal(await page.locator('#x').count(), 0, 'a name is text, not markup');
  await page.getByRole('button', { name: `Actions for ${isolated(HOSTILE)}`, exact: true }).click();
  await page.getByText('Delete', { exact: true }).click();
  const dialog = page.getByRole('dialog');
  assert.equal(await dialog.getByRole('button', { name: 'Delete', exact: true }).isDisabled(), true);
  await dialog.getByRole('textbox').fill(HOSTILE);
  await window.picture('delete-task');
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('heading', { name: HOSTILE, exact: true }).waitFor({ state: 'detached' });
  assert.equal(
    (await product.api.get<{ id: string }[]>('/jobs')).some(({ id }) => id === job.id),
    false,
  );
  assert.deepEqual(window.complaints, []);
});

test('every screen in three languages, two themes and four widths: whole, quiet, within its width, readable for all', async () => {
  const { page } = window;
  const [machine] = (await product.api.get<{ id: string; name: string }[]>('/machines')).filter(
    ({ name }) => name === MACHINE,
  );
  const [job] = await product.api.get<{ id: string }[]>('/jobs');
  const [repository] = await product.api.get<{ id: string }[]>('/repositories');
  const { runs } = await product.api.get<{ runs: { id: string }[] }>('/runs?kind=backup');
  const screens: Record<string, string> = {
    overview: '/',
    machines: '/machines',
    tasks: '/tasks',
    'task-new': '/tasks/new',
    'task-edit': `/tasks/${job?.id ?? ''}`,
    restore: `/restore?machine=${machine?.id ?? ''}`,
    activities: '/activities',
    'run-detail': `/activities/${runs[0]?.id ?? ''}`,
    storage: '/storage',
    versions: `/storage/${repository?.id ?? ''}`,
    settings: '/settings',
    notifications: '/settings?tab=notifications',
    limits: '/settings?tab=limits',
    users: '/settings?tab=users',
    audit: '/settings?tab=audit',
    about: '/settings?tab=about',
    welcome: '/welcome',
    login: '/login',
  };
  const english = JSON.parse(await readFile(join(import.meta.dirname, '../../ui/i18n/en.json'), 'utf8')) as object;
  const rawKey = new RegExp(`\\b(${Object.keys(english).join('|')})\\.[a-z][A-Za-z.]+\\b`);
  const source = await readFile(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8');
  const problems: string[] = [];

  for (const [language, dark] of [
    ['en', false],
    ['de', true],
    ['ja', false],
  ] as const) {
    await page.evaluate(
      ({ language, dark }) => {
        localStorage.setItem('dozo-preferences', JSON.stringify({ language, theme: dark, guideDone: true }));
      },
      { language, dark },
    );
    await page.goto('about:blank');
    // German has the longest words: it is looked at in every width, also that of a window of a NAS.
    const sizes =
      language === 'de'
        ? [
            [1280, 800],
            [1178, 600],
            [390, 844],
            [360, 740],
          ]
        : [
            [1280, 800],
            [390, 844],
          ];
    for (const [width = 0, height = 0] of sizes) {
      await page.setViewportSize({ width, height });
      for (const [name, path] of Object.entries(screens)) {
        const label = `${name} ${language} ${width}`;
        await page.goto(`${product.url}/#${path}`);
        await window.settle();
        if (name === 'task-edit') {
          const chosen = page.getByRole('checkbox', { name: MACHINE, exact: true });
          assert.equal(await chosen.isChecked(), true, 'the task is opened as it is');
        }
        const text = await page.locator('body').innerText();
        const key = rawKey.exec(text);
        if (key !== null) problems.push(`${label}: the key ${key[0]} is shown`);
        const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
        if (overflow > 0) problems.push(`${label}: ${overflow} px too wide`);
        assert.equal(await page.evaluate<string>('document.documentElement.lang'), language);
        await window.picture(`${name}-${language}-${width}${dark ? '-dark' : ''}`);
        if (!(language === 'en' || width === 390)) continue;
        // The policy for contents lets no foreign script in; a debugger may.
        await page.evaluate(source);
        const findings = await page.evaluate(async () => {
          const { violations } = await (
            globalThis as unknown as {
              axe: {
                run(): Promise<{
                  violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[];
                }>;
              };
            }
          ).axe.run();
          return violations
            .filter(({ impact }) => impact === 'serious' || impact === 'critical')
            .map(
              ({ id, nodes }) =>
                `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join(' ;; ')} ${nodes[0]?.failureSummary.slice(0, 200) ?? ''}`,
            );
        });
        for (const finding of findings) problems.push(`${label}: ${finding}`);
      }
    }
  }
  problems.push(...window.complaints);
  assert.deepEqual(problems, []);
});

/** Copies of the disks that the lab made when Dozo took its snapshot, by place. */
async function truthOf(vmId: number): Promise<Record<string, string>> {
  const { runs } = await product.api.get<{ runs: { id: string }[] }>('/runs?kind=backup');
  assert.equal(runs.length, 1);
  const root = join(lab.directory, 'truth');
  for (const machine of await readdir(root)) {
    for (const snapshot of await readdir(join(root, machine))) {
      const files = await lab.frozenCopy(vmId, snapshot);
      if (files !== null) return files;
    }
  }
  throw new Error('the lab kept no copy');
}
