import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { TOTP } from 'otpauth';
import type { Locator } from 'playwright-core';
import { LANGUAGES } from '../../ui/i18n/languages.ts';
import { textsOf } from '../../server/notification/texts/texts-of.ts';
import { MAIL_PASSWORD, MAIL_USER, MailServerLab } from '../integration/notification-mail-server.ts';
import { looksFor, told } from './looks.ts';
import { LAB_PASSWORD, oneDisk, Scene } from './scene.ts';

const ADDRESS = 'anna@example.test';
const USER = 'kuroda';
const USER_PASSWORD = 'only looking 1';
const OWN_PASSWORD = 'chosen by myself 2';
const MACHINE = 'web';

for (const look of looksFor('phone')) {
  test(`settings, ${told(look)}`, async () => {
    const scene = await Scene.start({
      locale: look.locale,
      size: look,
      machines: [oneDisk(MACHINE, { mebibytes: 1, percent: 50, seed: 1 })],
    });
    const { page, api } = scene;
    try {
      await scene.begin();
      await languageAndTheme();
      await host();
      await token();
      await limits();
      await notifications();
      await webhook();
      await users();
      await secondFactor();
      await auditLog();
      await about();
      assert.deepEqual(scene.window.complaints, []);
    } finally {
      await scene.close();
    }

    /** Another language and back, and the dark theme, in which other pages are, too. */
    async function languageAndTheme(): Promise<void> {
      await scene.goTo('settings');
      await scene.looksWell('settings-account');
      const own = LANGUAGES.find(({ id }) => look.locale.startsWith(id));
      for (const [locale, id, name] of [
        ['en-GB', 'en', 'English'],
        [look.locale, own?.id, own?.name ?? ''],
      ] as const) {
        await scene.choose(scene.say('settings.language'), name);
        await scene.speak(locale);
        await page.getByRole('heading', { name: scene.say('nav.settings'), exact: true }).waitFor();
        assert.equal(await page.evaluate<string>('document.documentElement.lang'), id);
      }
      await scene.choose(scene.say('settings.theme'), scene.say('settings.themeDark'));
      await page.locator('body.body--dark').waitFor();
      await scene.looksWell('settings-dark');
      assert.deepEqual(await scene.window.barriers(), []);
      await scene.goTo('machines');
      await page.getByText(scene.say('host.noneHint')).waitFor();
      await scene.looksWell('machines-dark');
      await scene.goTo('settings');
      await scene.choose(scene.say('settings.theme'), scene.say('settings.themeLight'));
      await page.locator('body.body--light').waitFor();
    }

    /** A host is added where its machines will stand, once the password that it refused was mended. */
    async function host(): Promise<void> {
      await scene.goTo('machines');
      await scene.button(scene.say('host.addHost')).first().click();
      const dialog = page.getByRole('dialog');
      await dialog.getByRole('heading', { name: scene.say('host.addHost'), exact: true }).waitFor();
      await dialog.getByText(scene.say('host.more')).click();
      for (const [label, value] of [
        ['host.address', '127.0.0.1'],
        ['host.name', 'lab'],
        ['host.password', 'not the password'],
        ['host.sshPort', String(scene.lab.sshPort)],
        ['host.httpsPort', String(scene.lab.httpsPort)],
      ] as const) {
        await dialog.getByLabel(scene.say(label), { exact: true }).fill(value);
      }
      const attempt = scene.button(scene.say('host.try'), dialog);
      await scene.press(attempt);
      await dialog.getByRole('alert').getByText(scene.say('codes.HOST_LOGIN_REFUSED'), { exact: true }).waitFor();
      await scene.looksWell('host-refused');
      await dialog.getByLabel(scene.say('host.password'), { exact: true }).fill(LAB_PASSWORD);
      await attempt.click();
      await dialog.getByText(scene.lab.sshHostKey).first().waitFor();
      await scene.looksWell('host-tried');
      await scene.press(scene.button(scene.say('host.add'), dialog));
      await dialog.waitFor({ state: 'detached' });
      await scene.boxOf(MACHINE).waitFor();
      await scene.looksWell('host-added');
      await scene.goTo('settings');
    }

    /** It opens the door for a program until it is revoked. */
    async function token(): Promise<void> {
      await scene.fill(scene.say('settings.tokenName'), 'monitor');
      await scene.choose(scene.say('settings.tokenScope'), scene.say('settings.scope.read'));
      await page.getByLabel(scene.say('settings.yourPassword'), { exact: true }).last().fill(scene.product.password);
      await scene.button(scene.say('settings.makeToken')).click();
      await page.getByText(scene.say('settings.tokenOnce')).waitFor();
      await scene.looksWell('settings-token');
      const made = await page.locator('.made .mono').innerText();
      const request = JSON.stringify([
        `${scene.product.url}/api/v1/overview`,
        { credentials: 'omit', headers: { authorization: `Bearer ${made}` } },
      ]);
      // Until all of an answer was read, the page is not at rest.
      const ask = (): Promise<number> =>
        page.evaluate<number>(`fetch(...${request}).then((answer) => answer.text().then(() => answer.status))`);
      assert.equal(await ask(), 200);
      const row = page.locator('.token', { hasText: 'monitor' });
      await scene.button(scene.say('settings.revoke'), row).click();
      const question = page.getByRole('dialog');
      await question.getByText(scene.say('settings.revokeText', { name: 'monitor' })).waitFor();
      await scene.looksWell('settings-revoke');
      await scene.button(scene.say('settings.revoke'), question).click();
      await row.waitFor({ state: 'detached' });
      assert.equal(await ask(), 401);
      scene.window.complaints.length = 0;
    }

    /** What cannot be is said beside its field, and changes nothing. */
    async function limits(): Promise<void> {
      const known = await api.get<Record<string, unknown>>('/settings');
      await open('limits');
      await scene.fill(scene.say('settings.tasksPerHost'), '17');
      await scene.fill(scene.say('settings.trashDays'), '20');
      await scene.button(scene.say('common.save')).click();
      const field = page.locator('.q-field').filter({
        has: page.getByLabel(scene.say('settings.tasksPerHost'), { exact: true }),
      });
      await field
        .getByRole('alert')
        .getByText(scene.say('error.why.atMost', { n: '16' }), { exact: true })
        .waitFor();
      // That the server has refused it.
      scene.window.complaints.length = 0;
      await scene.looksWell('settings-limits-wrong');
      assert.equal(await scene.isInSight(field), true, 'the field that is meant is in sight');
      assert.deepEqual(await api.get('/settings'), known);
      await scene.fill(scene.say('settings.tasksPerHost'), '3');
      await scene.button(scene.say('common.save')).click();
      await page.getByText(scene.say('common.saved'), { exact: true }).waitFor();
      assert.deepEqual(await api.get('/settings'), { ...known, tasksPerHost: 3, trashDays: 20 });
      await scene.looksWell('settings-limits');
    }

    /** A mail server that is trusted by hand, and a recipient: the test of each arrives, in the language chosen. */
    async function notifications(): Promise<void> {
      const mail = new MailServerLab();
      await mail.start();
      try {
        await open('notifications');
        const panel = page
          .locator('section')
          .filter({ has: page.getByRole('heading', { name: scene.say('mail.title'), exact: true }) });
        const fields: [string, string][] = [
          ['mail.host', 'localhost'],
          ['mail.port', String(mail.ports.starttls)],
          ['mail.from', 'dozo@example.test'],
          ['mail.user', MAIL_USER],
          ['host.password', MAIL_PASSWORD],
          ['mail.testTo', ADDRESS],
        ];
        for (const [label, value] of fields) await panel.getByLabel(scene.say(label), { exact: true }).fill(value);
        await scene.button(scene.say('mail.test'), panel).click();
        await scene.button(scene.say('mail.trust'), panel).waitFor();
        await scene.looksWell('settings-mail-trust');
        await scene.button(scene.say('mail.trust'), panel).click();
        await panel.getByText(scene.say('mail.testSent'), { exact: true }).waitFor();
        await scene.looksWell('settings-mail-sent');
        const first = await mail.waitFor(({ headers }) => headers['envelope-to'] === ADDRESS);
        await scene.button(scene.say('common.save'), panel).click();
        await panel.getByText(scene.say('common.saved'), { exact: true }).waitFor();

        await scene.button(scene.say('recipients.add')).click();
        const dialog = page.getByRole('dialog');
        await dialog.getByLabel(scene.say('common.name'), { exact: true }).fill('Anna');
        await dialog.getByLabel(scene.say('recipients.addresses'), { exact: true }).fill(ADDRESS);
        await scene.looksWell('settings-recipient');
        await scene.press(scene.button(scene.say('common.save'), dialog));
        await dialog.waitFor({ state: 'detached' });
        const row = page.locator('.q-item').filter({ hasText: ADDRESS });
        await scene.button(scene.say('mail.test'), row).click();
        await row.getByText(scene.say('mail.testSent'), { exact: true }).waitFor();
        await mail.waitFor(({ headers, raw }) => headers['envelope-to'] === ADDRESS && raw !== first.raw);
        const language = await page.evaluate<string>('document.documentElement.lang');
        const { testLead } = textsOf(language as Parameters<typeof textsOf>[0]);
        for (const { text } of mail.mails()) assert.ok(text.includes(testLead), text);
        await scene.looksWell('settings-notifications');
      } finally {
        await mail.destroy();
      }
    }

    /** What it gets when it is tried says so in the language chosen. */
    async function webhook(): Promise<void> {
      let received = '';
      const hook = createServer((request, response) => {
        request.on('data', (part: Buffer) => (received += part.toString()));
        request.on('end', () => response.end());
      });
      await once(hook.listen(0, '127.0.0.1'), 'listening');
      try {
        await scene.button(scene.say('recipients.add')).click();
        const dialog = page.getByRole('dialog');
        await dialog.getByLabel(scene.say('common.name'), { exact: true }).fill('hook');
        await dialog.getByRole('radio', { name: scene.say('recipients.kind.webhook'), exact: true }).click();
        const { port } = hook.address() as AddressInfo;
        const address = `http://127.0.0.1:${port}/secret`;
        await dialog.getByLabel(scene.say('recipients.url'), { exact: true }).fill(address);
        await scene.looksWell('settings-webhook');
        await scene.press(scene.button(scene.say('common.save'), dialog));
        await dialog.waitFor({ state: 'detached' });
        const row = page.locator('.q-item').filter({ hasText: 'hook' });
        await scene.button(scene.say('mail.test'), row).click();
        await row.getByText(scene.say('mail.testSent'), { exact: true }).waitFor();
        const language = await page.evaluate<string>('document.documentElement.lang');
        const { testLead } = textsOf(language as Parameters<typeof textsOf>[0]);
        assert.ok(received.includes(testLead), received);
      } finally {
        hook.close();
      }
    }

    /** Somebody who may only look, sees nothing that changes something, and chooses a password. */
    async function users(): Promise<void> {
      await open('users');
      await scene.button(scene.say('users.add')).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByLabel(scene.say('login.user'), { exact: true }).fill(USER);
      await dialog.getByRole('radio', { name: scene.say('users.role.viewer'), exact: true }).click();
      await dialog.getByLabel(scene.say('settings.newPassword'), { exact: true }).fill(USER_PASSWORD);
      await scene.looksWell('settings-user');
      await scene.press(scene.button(scene.say('common.save'), dialog));
      await page.getByText(USER, { exact: true }).waitFor();
      await scene.looksWell('settings-users');

      await signOut();
      await signIn(USER, USER_PASSWORD);
      await scene.goTo('settings');
      await scene.looksWell('settings-viewer');
      const offered = await sections();
      assert.equal(offered.includes(scene.say('settings.tab.users')), false, offered.join());
      assert.equal(offered.includes(scene.say('settings.tab.about')), true, offered.join());
      await scene.goTo('machines');
      assert.equal(await scene.button(scene.say('host.addHost')).count(), 0);
      await scene.looksWell('machines-viewer');
      await scene.goTo('settings');
      const panel = page
        .locator('section')
        .filter({ has: page.getByRole('heading', { name: scene.say('settings.password'), exact: true }) });
      for (const [label, value] of [
        ['settings.oldPassword', USER_PASSWORD],
        ['settings.newPassword', OWN_PASSWORD],
        ['settings.newPasswordAgain', OWN_PASSWORD],
      ] as const) {
        await panel.getByLabel(scene.say(label), { exact: true }).fill(value);
      }
      await panel.getByRole('button').click();
      await panel.getByText(scene.say('settings.passwordChanged'), { exact: true }).waitFor();
      await scene.looksWell('settings-password');
      await signOut();
      await signIn(USER, OWN_PASSWORD);
      await signOut();
      await signIn('admin', scene.product.password);
      await scene.goTo('settings');
      await open('users');
      await scene.button(scene.say('users.actionsOf', { name: USER })).click();
      await page.locator('.q-menu').getByText(scene.say('common.delete'), { exact: true }).click();
      const question = page.getByRole('dialog');
      await question.getByLabel(scene.say('common.name'), { exact: true }).fill(USER);
      await scene.looksWell('settings-user-delete');
      await scene.button(scene.say('common.delete'), question).click();
      await page.getByText(USER, { exact: true }).waitFor({ state: 'detached' });
      assert.equal((await api.get<unknown[]>('/users')).length, 1);
    }

    /** It is set up, a recovery code lets in without the app, and it is switched off again. */
    async function secondFactor(): Promise<void> {
      const { password } = scene.product;
      await open('account');
      const panel = page
        .locator('section')
        .filter({ has: page.getByRole('heading', { name: scene.say('factor.title') }) });
      await panel.getByLabel(scene.say('settings.yourPassword'), { exact: true }).fill(password);
      await scene.button(scene.say('factor.begin')).click();
      await page.getByRole('img', { name: scene.say('factor.qr'), exact: true }).waitFor();
      await scene.looksWell('settings-factor');
      const secret = await panel.locator('.mono').innerText();
      const code = panel.getByLabel(scene.say('login.code'), { exact: true });
      await code.fill(new TOTP({ secret }).generate());
      await scene.button(scene.say('factor.confirm')).click();
      await page.getByText(scene.say('factor.recovery')).waitFor();
      await scene.looksWell('settings-factor-codes');
      const areWide = await page
        .locator('ul.codes li')
        .evaluateAll((codes) => codes.some(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth));
      assert.equal(areWide, false, 'codes do not run into each other');
      const [first = '', second = ''] = await page.locator('ul.codes li').allInnerTexts();
      await scene.button(scene.say('factor.kept')).click();
      await page.getByText(scene.say('factor.isOn')).waitFor();

      await signOut();
      await scene.fill(scene.say('login.user'), 'admin');
      await scene.fill(scene.say('login.password'), password);
      await scene.button(scene.say('login.enter')).click();
      await page.getByLabel(scene.say('login.code'), { exact: true }).waitFor();
      // That a code is wanted.
      scene.window.complaints.length = 0;
      await scene.looksWell('login-code');
      await scene.fill(scene.say('login.code'), first);
      await scene.button(scene.say('login.enter')).click();
      await page.getByRole('heading', { name: scene.say('nav.overview'), exact: true }).waitFor();
      await scene.goTo('settings');
      await panel.getByLabel(scene.say('settings.yourPassword'), { exact: true }).fill(password);
      await code.fill(second);
      await scene.button(scene.say('factor.end')).click();
      await scene.button(scene.say('factor.begin')).waitFor();
    }

    /** What was done here is in it, in words. */
    async function auditLog(): Promise<void> {
      await open('audit');
      const deed = scene.say('audit.about', {
        deed: scene.say('audit.deed.removeUser'),
        subject: scene.say('audit.named', { name: USER }),
      });
      await page.getByText(deed).waitFor();
      await scene.button(scene.say('audit.verify')).click();
      const [, after = ''] = scene.say('audit.intact', { n: '\0' }, 2).split('\0');
      await page.getByRole('status').getByText(after).waitFor();
      await scene.looksWell('settings-audit');
    }

    async function about(): Promise<void> {
      await open('about');
      const { certificate } = await api.get<{ certificate: { fingerprint: string } }>('/system');
      const shown = (certificate.fingerprint.toUpperCase().match(/../g) ?? []).join(':');
      await page.getByText(shown, { exact: true }).waitFor();
      await scene.looksWell('settings-about');
      const opening = page.waitForEvent('popup');
      await scene.link(scene.say('settings.allLicences')).click();
      const licences = await opening;
      assert.match(await licences.locator('pre').innerText(), /^vue \d/m);
      await licences.close();
    }

    async function open(name: string): Promise<void> {
      const word = scene.say(`settings.tab.${name}`);
      if (await chooser().isVisible()) await scene.choose(scene.say('settings.section'), word);
      else await page.getByRole('tab', { name: word, exact: true }).click();
      await scene.window.settle();
    }

    /** On a phone the sections are a list to choose from. */
    function chooser(): Locator {
      return page.getByLabel(scene.say('settings.section'), { exact: true });
    }

    async function sections(): Promise<string[]> {
      if (!(await chooser().isVisible())) return page.getByRole('tab').allInnerTexts();
      await chooser().click();
      const options = page.getByRole('option');
      await options.first().waitFor();
      // What is still being unfolded has no inner text.
      const words = (await options.allTextContents()).map((word) => word.trim());
      await page.keyboard.press('Escape');
      await options.first().waitFor({ state: 'detached' });
      return words;
    }

    async function signOut(): Promise<void> {
      await scene.button(new RegExp(`^${scene.say('nav.account')}`)).click();
      await page.locator('.q-menu').getByText(scene.say('nav.logOut'), { exact: true }).click();
      await page.getByRole('heading', { name: scene.say('login.title') }).waitFor();
    }

    async function signIn(user: string, password: string): Promise<void> {
      await scene.fill(scene.say('login.user'), user);
      await scene.fill(scene.say('login.password'), password);
      await scene.button(scene.say('login.enter')).click();
      await page.getByRole('heading', { name: scene.say('nav.overview'), exact: true }).waitFor();
      // That nobody was signed in.
      scene.window.complaints.length = 0;
    }
  });
}
