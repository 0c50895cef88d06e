import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { LAB_PASSWORD, oneDisk, Scene, type Named } from './scene.ts';

let scene: Scene;
let hostId: string;

before(async () => {
  scene = await Scene.start({ machines: [oneDisk('files', { mebibytes: 1, percent: 50, seed: 7 })] });
  await scene.addHost();
  hostId = (await scene.api.get<Named[]>('/hosts'))[0]?.id ?? '';
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

test('a host with another key or certificate is not let in before both fingerprints were compared', async () => {
  const { page, api, lab } = scene;
  for (const [change, pin] of [
    [{ sshHostKeyChanged: true }, 'sshHostKey'],
    [{ httpsCertificateChanged: true }, 'tlsCertificate'],
  ] as const) {
    const before = await api.get<Record<typeof pin, string>>(`/hosts/${hostId}`);
    await lab.set(change);
    await assert.rejects(api.get(`/hosts/${hostId}/machines?refresh=true`));
    await scene.open('/machines');
    const told = page.getByRole('alert');
    await told.getByText(before[pin], { exact: true }).first().waitFor();
    const { error } = await api.get<{ error: { details: { shown: string } } }>(`/hosts/${hostId}`);
    await told.getByText(error.details.shown, { exact: true }).first().waitFor();
    assert.notEqual(error.details.shown, before[pin]);
    await scene.window.picture(`changed-${pin}`);
    assert.deepEqual(await scene.window.barriers(), []);

    // The form tries it by what is known, too: nothing is sent to a stranger.
    await scene.button(scene.say('common.edit'), told).click();
    const form = page.getByRole('dialog');
    await form.getByLabel(scene.say('host.password'), { exact: true }).fill(LAB_PASSWORD);
    await scene.button(scene.say('host.try'), form).click();
    await form.getByText(error.details.shown, { exact: true }).first().waitFor();
    await scene.button(scene.say('common.cancel'), form).click();
    await form.waitFor({ state: 'detached' });

    await scene.button(scene.say('host.accept'), told).click();
    const question = page.getByRole('dialog');
    await scene.button(scene.say('common.cancel'), question).click();
    await question.waitFor({ state: 'detached' });
    assert.equal((await api.get<typeof before>(`/hosts/${hostId}`))[pin], before[pin], 'nothing without a yes');
    await scene.button(scene.say('host.accept'), told).click();
    await scene.button(scene.say('host.accept'), question).click();
    await told.waitFor({ state: 'detached' });
    const now = await api.get<Record<typeof pin, string> & { error: unknown }>(`/hosts/${hostId}`);
    assert.equal(now.error, null);
    assert.equal(now[pin], error.details.shown);
  }
  scene.window.complaints.length = 0;
});

test('a password that a host has refused is mended beside what it says, and is tried at once', async () => {
  const { page, api } = scene;
  await api.patch(`/hosts/${hostId}`, { password: 'as it was before' });
  await assert.rejects(api.get(`/hosts/${hostId}/machines?refresh=true`));
  await scene.open('/machines');
  await scene.button(scene.say('common.edit'), page.getByRole('alert')).click();
  const form = page.getByRole('dialog');
  await form.getByLabel(scene.say('host.password'), { exact: true }).fill(LAB_PASSWORD);
  await scene.button(scene.say('common.save'), form).click();
  await page.getByRole('alert').waitFor({ state: 'detached' });
  assert.equal((await api.get<{ error: unknown }>(`/hosts/${hostId}`)).error, null);
  scene.window.complaints.length = 0;
});
