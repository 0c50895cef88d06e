import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { oneDisk, Scene, type Named } from './scene.ts';

const PASSWORD = 'only for these tests 1';
/** What changes something, or leads only there, and the least that an account must be allowed for it. */
const NEEDS = {
  configure: [
    'Create task',
    'Take over from ghettoVCB',
    'Add host',
    'Add storage',
    'Edit',
    'Remove',
    'Remove from Dozo (files stay)',
    'Delete',
    'Copy',
    'Scripts and start from elsewhere',
    'Save',
    'Lock for 30 days',
  ],
  operate: [
    'Back up now',
    'Back up now, reading everything',
    'Check now',
    'Check thoroughly (reads everything)',
    'Maintain now',
    'Copy to another storage',
    'Refresh',
    'Cancel run',
    'Write file',
  ],
  restore: ['Restore', 'Restore this version', 'Files'],
};
type Need = keyof typeof NEEDS;
const ROLES: Record<string, Need[]> = { viewer: [], operator: ['operate', 'restore'], restore: ['restore'] };

let scene: Scene;
let jobId: string;
let repositoryId: string;
let machineId: string;
let endedId: string;
let liveId: string;

before(async () => {
  scene = await Scene.start({ machines: [oneDisk('web', { mebibytes: 8, percent: 60, seed: 3 })] });
  const { api, folder } = scene;
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'main') }));
  machineId = (await scene.addHost()).get('web') ?? '';
  const job = { name: 'Nightly', machineIds: [machineId], repositoryId, options: { fullRead: true } };
  ({ id: jobId } = await api.post<Named>('/jobs', job));
  ({ id: endedId } = await api.post<Named>(`/jobs/${jobId}/run`, {}));
  assert.equal(await scene.ended(endedId), 'success');
  for (const role of Object.keys(ROLES)) await api.post('/users', { name: role, role, password: PASSWORD });
  await api.put(`/jobs/${jobId}/delegates`, { users: ['restore'] });
  await api.patch('/settings', { throttle: { timeZone: 'UTC', limits: [], otherwise: 0.1 } });
  ({ id: liveId } = await api.post<Named>(`/jobs/${jobId}/run`, {}));
  await scene.page.goto(scene.product.url);
});

after(async () => {
  await scene?.close();
});

for (const [role, may] of Object.entries(ROLES)) {
  test(`the role ${role} is offered what it may do and nothing that would be refused`, async () => {
    const { page } = scene;
    await scene.window.context.clearCookies();
    const refused: string[] = [];
    page.on('response', (response) => {
      if (response.status() === 403) refused.push(`${new URL(page.url()).hash} asked for ${response.url()}`);
    });
    await scene.open('/');
    await scene.fill('User name', role);
    await scene.logIn(PASSWORD);

    const offered = new Set<string>();
    const paths = [
      '/',
      '/machines',
      '/tasks',
      `/tasks/${jobId}`,
      `/tasks/${jobId}?step=summary`,
      '/activities',
      `/activities/${endedId}`,
      `/activities/${liveId}`,
      '/storage',
      `/storage/${repositoryId}`,
      '/settings',
      '/settings?tab=about',
    ];
    for (const path of paths) {
      // Within the window: to load all of it for each would only take time.
      await page.goto(`${scene.product.url}/#${path}`);
      await scene.window.settle();
      for (const name of await namesOffered()) offered.add(name);
      const menus = page.locator('main').getByRole('button', { name: /^Actions for/ });
      for (let at = 0; at < (await menus.count()); at += 1) {
        await menus.nth(at).click();
        const menu = page.locator('.q-menu');
        await menu.locator('.q-item').first().waitFor();
        for (const name of await menu.locator('.q-item').allInnerTexts()) offered.add(name.trim());
        await page.keyboard.press('Escape');
        await menu.waitFor({ state: 'detached' });
      }
      await scene.window.picture(`role-${role}${path.replaceAll(/[^a-z]+/g, '-')}`);
    }
    assert.deepEqual(refused, []);
    for (const [need, names] of Object.entries(NEEDS) as [Need, string[]][]) {
      const shown = names.filter((name) => offered.has(name));
      if (may.includes(need)) assert.notDeepEqual(shown, [], `what needs ${need} is there for ${role}`);
      else assert.deepEqual(shown, [], `what needs ${need} is not there for ${role}`);
    }
    page.removeAllListeners('response');
  });
}

async function namesOffered(): Promise<string[]> {
  const controls = scene.page.locator('main').locator('button, a.q-btn');
  return (await controls.allInnerTexts()).map((text) => text.trim());
}
