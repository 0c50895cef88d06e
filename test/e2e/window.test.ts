import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { firstDifference } from '../../scripts/demo-run/compare.ts';
import { writeGuestDisk } from './guest-disk.ts';
import { isolated, LAB_PASSWORD, oneDisk, Scene } from './scene.ts';

const MACHINE = 'web server';
/** Names come from strangers. */
const HOSTILE = '<b id="x">mail & ‮日本 {0} @:common.all';

/** Language, and whether dark. For pictures to look at, each language has both. */
const LOOKS: (readonly [language: string, dark: boolean])[] = [
  ['en', false],
  ['de', true],
  ['ja', false],
  ...(process.env['DOZO_SCREENSHOTS'] === undefined
    ? []
    : ([
        ['en', true],
        ['de', false],
        ['ja', true],
      ] as const)),
];

/** Where axe looks, so that it sees each width and both themes. */
const AXE_WIDTHS: Record<string, number[]> = { en: [1280, 390], de: [1280, 1178, 360], ja: [390] };

let scene: Scene;

before(async () => {
  scene = await Scene.start({
    keepTruth: true,
    machines: [
      oneDisk(MACHINE, { mebibytes: 64, percent: 40, seed: 1, running: true }),
      oneDisk('mail', { mebibytes: 16, percent: 10, seed: 2 }),
    ],
  });
  await writeGuestDisk(scene.lab, MACHINE, { folder: scene.folder, report: Buffer.alloc(300_000, 1) });
});

after(async () => {
  await scene?.close();
});

test('from the first opening to a protected machine, in clicks', async () => {
  const { page } = scene;
  await page.goto(scene.product.url);
  await scene.fill('Password', 'not the password');
  await scene.button('Sign in').click();
  await page.getByRole('alert').waitFor();
  scene.window.complaints.length = 0;
  await scene.fill('Password', scene.product.password);
  await scene.button('Sign in').click();

  await page.getByRole('heading', { name: 'Welcome to Dozo' }).waitFor();
  await scene.window.picture('guide');
  await scene.button('Skip the guide').click();
  await page.getByRole('heading', { name: 'Overview', exact: true }).waitFor();
  // Where nothing is yet, there is a way on.
  for (const [path, way] of [
    ['/machines', 'Open the guide'],
    ['/tasks/new', 'Open the guide'],
    ['/restore', 'Open the guide'],
    ['/activities', 'Tasks'],
  ] as const) {
    await scene.open(path);
    await scene.link(way).waitFor();
    await scene.window.picture(`nothing-yet${path.replaceAll('/', '-')}`);
  }
  await scene.open('/');
  await scene.link('Open the guide').click();
  await scene.next();
  await scene.fill('Folder on the NAS', join(scene.folder, 'repository'));
  await scene.button('Make storage').click();
  await page.getByText(/^The storage “.?repository.?” is ready\.$/).waitFor();
  // Left and opened again, the guide goes on with what is not there yet.
  await scene.open('/welcome');

  await scene.fill('Address', '127.0.0.1');
  await scene.fill('Display name', 'lab');
  await scene.fill('Password', LAB_PASSWORD);
  await page.getByText('More settings').click();
  await scene.fill('SSH port', String(scene.lab.sshPort));
  await scene.fill('HTTPS port', String(scene.lab.httpsPort));
  await scene.button('Check connection').click();
  await page.getByText(scene.lab.sshHostKey).first().waitFor();
  await scene.window.picture('add-host');
  await scene.button('Trust and add').click();
  await scene.button('Create task').click();

  await page.getByRole('checkbox', { name: MACHINE, exact: true }).click();
  await scene.window.picture('task-machines');
  await scene.next();
  const name = page.getByLabel('Task name', { exact: true });
  await scene.until('a name is proposed', async () => ((await name.inputValue()) === MACHINE ? true : null));
  await scene.next();
  await scene.next();
  await page.getByText('Always on (zstd)').waitFor();
  await scene.window.picture('task-storing');
  await scene.next();
  await scene.next();
  await page.getByText('can be reached').waitFor();
  await scene.window.picture('task-check');
  await scene.next();
  await page.getByText('The next ten runs').waitFor();
  await scene.window.picture('task-schedule');
  await scene.next();
  await page.getByText('versions per virtual machine').waitFor();
  await scene.window.picture('task-retention');
  await scene.next();
  await scene.next();
  await page.getByText('Keeps the 3 latest versions, plus one a day for 7 days, one a week for 4 weeks').waitFor();
  await scene.window.picture('task-summary');
  await scene.button('Save and back up now').click();
  await scene.runEnded();
  await page.getByText('Explain this run').waitFor();
  await scene.window.picture('run');
  assert.deepEqual(scene.window.complaints, []);
});

test('a version comes back as a new machine, byte for byte', async () => {
  const { page } = scene;
  await scene.open('/');
  await page.getByText(scene.say('overview.neverRestored')).waitFor();
  await page.getByText(scene.say('overview.leastProven')).waitFor();
  await page.goto(`${scene.product.url}/#/machines`);
  await page.getByRole('checkbox', { name: `Select ${isolated(MACHINE)}`, exact: true }).click();
  await scene.button('Restore').click();
  await page.getByText('Complete', { exact: true }).waitFor();
  await scene.next();
  await scene.next();
  const name = page.getByLabel('Name of the new virtual machine', { exact: true });
  await name.fill(MACHINE);
  await scene.next();
  await scene.next();
  await page.getByText('There is a virtual machine').waitFor();
  assert.equal(await scene.button('Next').isDisabled(), true, 'a taken name stops the wizard');
  await scene.button('Back').last().click();
  await scene.button('Back').last().click();
  await name.fill('web restored');
  await scene.next();
  await scene.next();
  await scene.window.picture('restore-check');
  await scene.next();
  await scene.window.picture('restore-summary');
  await page.getByText(`${isolated('ds1')} (where it was)`).waitFor();
  await scene.button(`Change: \u2068Disk format\u2069`).click();
  await page.getByRole('checkbox', { name: 'Power on after the restore' }).waitFor();
  // Back where the link was: what is between was seen.
  await page.locator('.q-stepper__tab', { hasText: 'Summary' }).click();
  await scene.button('Restore now').click();
  await scene.runEnded();
  await page.getByText('read back and found equal').waitFor();

  const restored = (await scene.lab.state()).vms.find((machine) => machine.name === 'web restored');
  assert.ok(restored !== undefined, 'the machine is on the host');
  const vmId = await scene.lab.vmId(MACHINE);
  const truth = await truthOf(vmId);
  assert.equal(restored.disks.length, 1);
  for (const disk of restored.disks) {
    const flat = scene.lab.localPath((disk.chain[0]?.absolutePath ?? '').replace(/\.vmdk$/, '-flat.vmdk'));
    assert.equal(await firstDifference(flat, truth[disk.node] ?? ''), null);
  }

  await scene.open('/');
  await page.getByText(scene.say('overview.lastRestore')).waitFor();
  await page.getByRole('main').getByRole('link', { name: 'web restored', exact: true }).first().waitFor();
  assert.equal(
    await page.getByText(scene.say('overview.leastProven')).count(),
    0,
    'what was restored of late is proven',
  );
  assert.deepEqual(scene.window.complaints, []);
});

test('a task goes only when the number of its virtual machines is typed, and its versions stay', async () => {
  const { page } = scene;
  const job = await scene.api.post<{ id: string }>('/jobs', {
    name: HOSTILE,
    machineIds: (await scene.api.get<{ id: string }[]>('/machines')).slice(0, 1).map(({ id }) => id),
    repositoryId: (await scene.api.get<{ id: string }[]>('/repositories'))[0]?.id,
  });
  await page.goto(`${scene.product.url}/#/tasks`);
  await page.getByRole('heading', { name: HOSTILE, exact: true }).waitFor();
  assert.equal(await page.locator('#x').count(), 0, 'a name is text, not markup');
  await page.getByRole('button', { name: `Actions for ${isolated(HOSTILE)}`, exact: true }).click();
  await page.getByText('Delete', { exact: true }).click();
  const dialog = page.getByRole('dialog');
  assert.equal(await dialog.getByRole('button', { name: 'Delete', exact: true }).isDisabled(), true);
  const typed = dialog.getByLabel('Number of its virtual machines', { exact: true });
  await typed.fill('2');
  assert.equal(await dialog.getByRole('button', { name: 'Delete', exact: true }).isDisabled(), true);
  // As a Japanese keyboard gives it.
  await typed.fill('１');
  await scene.window.picture('delete-task');
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('heading', { name: HOSTILE, exact: true }).waitFor({ state: 'detached' });
  assert.equal(
    (await scene.api.get<{ id: string }[]>('/jobs')).some(({ id }) => id === job.id),
    false,
  );
  assert.deepEqual(scene.window.complaints, []);
});

test('every screen in three languages, two themes and four widths: whole, quiet, within its width, readable for all', async () => {
  const { page } = scene;
  const [machine] = (await scene.api.get<{ id: string; name: string }[]>('/machines')).filter(
    ({ name }) => name === MACHINE,
  );
  const [job] = await scene.api.get<{ id: string }[]>('/jobs');
  const [repository] = await scene.api.get<{ id: string }[]>('/repositories');
  const { runs } = await scene.api.get<{ runs: { id: string }[] }>('/runs?kind=backup');
  const { points } = await scene.api.get<{ points: { id: string }[] }>('/points');
  const files = `/versions/${points[0]?.id ?? ''}/files`;
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
    'guest-volumes': files,
    'guest-folder': `${files}?volume=1&path=/home/anna`,
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
  const problems: string[] = [];

  for (const [language, dark] of LOOKS) {
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
        await page.goto(`${scene.product.url}/#${path}`);
        await scene.window.settle();
        if (name === 'task-edit') {
          const chosen = page.getByRole('checkbox', { name: MACHINE, exact: true });
          assert.equal(await chosen.isChecked(), true, 'the task is opened as it is');
        }
        // What the audit log tells of a stranger's name is no key.
        const text = (await page.locator('body').innerText()).replaceAll('@:common.all', '');
        const key = rawKey.exec(text);
        if (key !== null) problems.push(`${label}: the key ${key[0]} is shown`);
        const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
        if (overflow > 0) problems.push(`${label}: ${overflow} px too wide`);
        for (const misfit of await scene.window.misfits()) problems.push(`${label}: ${misfit}`);
        if (language === 'ja') {
          for (const cut of await scene.window.cutWords()) problems.push(`${label}: ${cut}`);
        }
        assert.equal(await page.evaluate<string>('document.documentElement.lang'), language);
        await scene.window.picture(`${name}-${language}-${width}${dark ? '-dark' : ''}`);
        if (!AXE_WIDTHS[language]?.includes(width)) continue;
        for (const finding of await scene.window.barriers()) problems.push(`${label}: ${finding}`);
      }
    }
  }
  problems.push(...scene.window.complaints);
  assert.deepEqual(problems, []);
});

/** Copies of the disks that the lab made when Dozo took its snapshot, by place. */
async function truthOf(vmId: number): Promise<Record<string, string>> {
  const { runs } = await scene.api.get<{ runs: { id: string }[] }>('/runs?kind=backup');
  assert.equal(runs.length, 1);
  const root = join(scene.lab.directory, 'truth');
  for (const machine of await readdir(root)) {
    for (const snapshot of await readdir(join(root, machine))) {
      const files = await scene.lab.frozenCopy(vmId, snapshot);
      if (files !== null) return files;
    }
  }
  throw new Error('the lab kept no copy');
}
