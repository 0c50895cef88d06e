import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { chromium, type Browser } from 'playwright-core';
import type { MonthlyReport } from '../../server/contract/api/report.schema.ts';
import { renderReport } from '../../server/notification/index.ts';
import { HOSTILE_NAME } from './notification-samples.ts';

const CHROMIUM = process.env['DOZO_CHROMIUM'] ?? '/usr/bin/chromium';
const DAY_MS = 86_400_000;
const FROM_MS = Date.parse('2027-01-01T00:00Z');
const TO_MS = Date.parse('2027-02-01T00:00Z');

const report: MonthlyReport = {
  month: '2027-01',
  fromMs: FROM_MS,
  toMs: TO_MS,
  madeAtMs: TO_MS + DAY_MS,
  runs: { success: 28, warning: 2, failure: 2, cancelled: 0 },
  protected: Array.from({ length: 40 }, (_, index) => ({
    id: index.toString(16).padStart(16, '0'),
    name: index === 1 ? HOSTILE_NAME : index % 3 === 0 ? `サーバー ${index}` : `web-${index}`,
    host: 'esx1.example.test',
    present: index !== 5,
    tasks: ['nightly', 'Außenstelle'].slice(0, 1 + (index % 2)),
    versionCount: index,
    lastVersionAtMs: TO_MS - index * 3600_000,
  })),
  unprotected: [{ id: 'f'.repeat(16), name: 'test-1', host: null, tasks: [], versionCount: 0 }],
  tested: [
    { runId: '1'.repeat(16), kind: 'restore', title: 'web-1', state: 'success', finishedAtMs: FROM_MS + 5 * DAY_MS },
    { runId: '2'.repeat(16), kind: 'check', title: 'main', state: 'success', finishedAtMs: FROM_MS + 9 * DAY_MS },
  ],
  failed: [
    {
      runId: '3'.repeat(16),
      title: 'nightly',
      state: 'failed',
      finishedAtMs: FROM_MS + 12 * DAY_MS,
      error: { code: 'HOST_UNREACHABLE', message: 'No answer from esx1.example.test.', hint: 'Check it.', details: {} },
    },
    {
      runId: '4'.repeat(16),
      title: HOSTILE_NAME,
      state: 'incomplete',
      finishedAtMs: FROM_MS + 20 * DAY_MS,
      error: null,
    },
  ],
  storage: [
    {
      repositoryId: '5'.repeat(16),
      name: 'main',
      days: Array.from({ length: 31 }, (_, index) => ({
        dayMs: FROM_MS + index * DAY_MS,
        storedBytes: 900e9 + index * 11e9 - (index > 20 ? 120e9 : 0),
        nominalBytes: 9e12,
        points: 100 + index,
      })),
    },
    { repositoryId: '6'.repeat(16), name: 'second', days: [] },
  ],
};

describe('the monthly report', { timeout: 900_000 }, () => {
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
    it(`fits a phone and prints, with names as text (${language})`, async () => {
      const page = await browser.newPage({ viewport: { width: 390, height: 844 }, javaScriptEnabled: false });
      page.setDefaultTimeout(180_000);
      const requests: string[] = [];
      page.on('request', (request) => requests.push(request.url()));
      await page.setContent(renderReport(report, { language, timeZone: 'UTC' }), { waitUntil: 'load' });
      const seen = await page.evaluate(() => {
        const doc = (globalThis as unknown as { document: DocumentLike }).document;
        return {
          width: doc.documentElement.scrollWidth,
          foreign: doc.querySelectorAll('img, script, iframe, link, a').length,
          text: doc.body.innerText,
        };
      });
      assert.ok(seen.width <= 390, `${seen.width} wide`);
      assert.equal(seen.foreign, 0);
      assert.deepEqual(requests, []);
      assert.match(seen.text, /<img src=x onerror=alert\(1\)>"web" Bcc/);
      assert.doesNotMatch(seen.text, /undefined|null|NaN|\[object/);
      const pdf = await page.pdf({ format: 'A4', preferCSSPageSize: true });
      assert.equal(pdf.subarray(0, 5).toString('latin1'), '%PDF-');
      const folder = process.env['DOZO_SCREENSHOTS'];
      if (folder !== undefined) {
        await mkdir(folder, { recursive: true });
        await page.screenshot({ path: join(folder, `report-${language}-phone.png`), fullPage: true });
        await page.emulateMedia({ media: 'print' });
        await page.setViewportSize({ width: 794, height: 1123 });
        await page.screenshot({ path: join(folder, `report-${language}-print.png`), fullPage: true });
      }
      await page.close();
    });
  }
});

interface DocumentLike {
  documentElement: { scrollWidth: number };
  body: { innerText: string };
  querySelectorAll(selector: string): { length: number };
}
