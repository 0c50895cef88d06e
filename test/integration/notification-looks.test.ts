import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { chromium, type Browser } from 'playwright-core';
import { composeMessage, composeTest, renderHtml } from '../../server/notification/index.ts';
import { SAMPLES } from './notification-samples.ts';

const CHROMIUM = process.env['DOZO_CHROMIUM'] ?? '/usr/bin/chromium';
const PHONE = { width: 390, height: 844 };

describe('mails on a phone', { timeout: 900_000 }, () => {
  let browser: Browser;
  before(async () => {
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      timeout: 180_000,
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
    });
  });
  after(() => browser.close());

  for (const language of ['en', 'de', 'ja'] as const) {
    it(`fit its width, load nothing and show strangers' names as text (${language})`, async () => {
      // As mail programs show them: without scripts; a request of any kind is one too many.
      const page = await browser.newPage({ viewport: PHONE, javaScriptEnabled: false });
      page.setDefaultTimeout(180_000);
      const requests: string[] = [];
      page.on('request', (request) => requests.push(request.url()));
      const reader = { language, timeZone: 'Asia/Tokyo', windowUrl: 'https://nas.example.test:5510', sender: 'nas' };
      const messages = Object.entries(SAMPLES).map(([name, notice]) => [name, composeMessage(notice, reader)] as const);
      for (const [name, message] of [...messages, ['test', composeTest(reader)] as const]) {
        await page.setContent(renderHtml(message), { waitUntil: 'load' });
        const seen = await page.evaluate(() => {
          const doc = (globalThis as unknown as { document: DocumentLike }).document;
          return {
            width: doc.documentElement.scrollWidth,
            foreign: doc.querySelectorAll('img, script, iframe, link, a:not([href^="https://nas.example.test:5510/"])')
              .length,
            text: doc.body.innerText,
          };
        });

        assert.ok(seen.width <= PHONE.width, `${name} ${language} is ${seen.width} wide`);
        assert.equal(seen.foreign, 0, `${name} ${language}`);
        assert.doesNotMatch(seen.text, /undefined|null|NaN|\[object|\{\w+\}(?!\})/, `${name} ${language}`);
        assert.doesNotMatch(seen.text, /\d\dT\d\d:/, `${name} ${language}: a time as programs write it`);
        if (['failure', 'notbegun', 'digest'].includes(name)) {
          assert.match(seen.text, /<img src=x onerror=alert\(1\)>"web" Bcc: thief@example\.test gnp\.exe/, name);
        }
        await picture(page, `mail-${name}-${language}`);
      }
      assert.deepEqual(requests, []);
      await page.close();
    });
  }
});

interface DocumentLike {
  documentElement: { scrollWidth: number };
  body: { innerText: string };
  querySelectorAll(selector: string): { length: number };
}

/** Keeps a picture where DOZO_SCREENSHOTS names a folder. */
async function picture(page: Awaited<ReturnType<Browser['newPage']>>, name: string): Promise<void> {
  const folder = process.env['DOZO_SCREENSHOTS'];
  if (folder === undefined) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}
