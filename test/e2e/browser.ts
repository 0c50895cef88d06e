import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type BrowserContext, type Page, type Request } from 'playwright-core';
import { zoneAtTen } from '../product/quiet-day.ts';

/** Debian's. */
const CHROMIUM = process.env['DOZO_CHROMIUM'] ?? '/usr/bin/chromium';

/** Each answer of the server comes up to so much later, in any order: what a window takes for granted shows. */
const ANSWER_DELAY_MS = Number(process.env['DOZO_ANSWER_DELAY_MS'] ?? 0);

/** Evaluated in the page. Boxes with gaps reach over their edge on purpose; what is seen of them does not. */
const MISFITS = `(() => {
  const found = [];
  const told = (element) => element.className + ': ' + element.textContent.trim().slice(0, 60);
  const clips = (element) => getComputedStyle(element).overflowX !== 'visible';
  const isSeen = (element) =>
    element.matches('button, input, img, svg') ||
    [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== '');
  for (const box of document.querySelectorAll('.panel, .framed, .q-list--bordered, .q-stepper, .q-card')) {
    const edge = box.getBoundingClientRect();
    const queue = [...box.children];
    for (let element = queue.pop(); element !== undefined; element = queue.pop()) {
      const { width, right, left } = element.getBoundingClientRect();
      const isOut = width > 2 && (right > edge.right + 1 || left < edge.left - 1);
      if (isOut && isSeen(element)) found.push('sticks out, ' + told(element));
      else if (!clips(element)) queue.push(...element.children);
    }
  }
  for (const element of document.querySelectorAll('.q-field__label, .q-tab__label, .q-btn__content, h2, h3')) {
    if (element.scrollWidth > element.clientWidth + 1 && clips(element)) found.push('is cut, ' + told(element));
  }
  return found;
})()`;

/**
 * Evaluated in the page: what may end anywhere, but for codes and names of strangers, and lines that do end inside a word
 * that Chromium takes for two.
 */
const CUT_WORDS = `(() => {
  const cut = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
    for (const { index, 0: word } of node.data.matchAll(/バージ\\u2060?ョン|か\\u2060?月/g)) {
      const [top, next] = [index, index + word.length - 1].map((at) => {
        range.setStart(node, at);
        range.setEnd(node, at + 1);
        return range.getBoundingClientRect();
      });
      if (top.height > 0 && next.top >= top.bottom - 2) {
        cut.push('ends inside a word, ' + node.data.slice(Math.max(0, index - 12), index + 12));
      }
    }
  }
  const isText = (node) => node.nodeType === Node.TEXT_NODE && /[\\u3040-\\u30ff\\u4e00-\\u9fff]{2}/.test(node.textContent);
  const loose = [...document.querySelectorAll('body *:not(.mono, .name, .name *)')]
    .filter((element) => [...element.childNodes].some(isText))
    .filter((element) => getComputedStyle(element).wordBreak !== 'auto-phrase')
    .map((element) => 'may break inside a word, ' + element.textContent.trim().slice(0, 60));
  return [...loose, ...cut];
})()`;

/** A browser with one page that remembers everything its console complained about. */
export class Window {
  readonly browser: Browser;
  readonly context: BrowserContext;
  readonly page: Page;
  readonly complaints: string[] = [];
  readonly #inFlight = new Set<Request>();
  /** Requests to anywhere but Dozo: kept however often the complaints are forgotten. */
  readonly #strangers: string[] = [];

  constructor(browser: Browser, context: BrowserContext, page: Page) {
    this.browser = browser;
    this.context = context;
    this.page = page;
    page.on('pageerror', (error) => this.complaints.push(`error: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') this.complaints.push(message.text());
    });
    page.on('requestfinished', (request) => this.#inFlight.delete(request));
    page.on('requestfailed', (request) => this.#inFlight.delete(request));
    page.on('request', (request) => {
      // The stream of events never ends.
      if (!request.url().endsWith('/events')) this.#inFlight.add(request);
      const { protocol, hostname } = new URL(request.url());
      if (protocol.startsWith('http') && hostname !== '127.0.0.1') this.#strangers.push(request.url());
    });
  }

  /** Waits until nothing is loading any more and what came is drawn. */
  async settle(): Promise<void> {
    await this.page.locator('h1').first().waitFor({ state: 'attached' });
    for (let quiet = 0; quiet < 3; quiet = this.#inFlight.size === 0 ? quiet + 1 : 0) {
      await this.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 30)));
    }
    await this.page.locator('.q-spinner, .q-skeleton').waitFor({ state: 'detached' });
  }

  /** What axe-core calls serious or critical of what is shown now. */
  async barriers(): Promise<string[]> {
    // The policy for contents lets no foreign script in; a debugger may.
    await this.page.evaluate(await readFile(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8'));
    return this.page.evaluate(async () => {
      const { axe } = globalThis as unknown as {
        axe: {
          run(): Promise<{
            violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[];
          }>;
        };
      };
      const { violations } = await axe.run();
      return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => {
          const places = nodes.map(({ html }) => html.slice(0, 160)).join(' ;; ');
          return `${id}: ${places} ${nodes[0]?.failureSummary.slice(0, 200) ?? ''}`;
        });
    });
  }

  /** What sticks out of the box it lies in, and words of ours that are cut off because they have no room. */
  async misfits(): Promise<string[]> {
    return this.page.evaluate<string[]>(MISFITS);
  }

  /** Japanese texts of ours whose lines may end inside a word. */
  async cutWords(): Promise<string[]> {
    return this.page.evaluate<string[]>(CUT_WORDS);
  }

  /** Keeps a picture of the page where DOZO_SCREENSHOTS names a folder: of all of it, or of what is in sight. */
  async picture(name: string, part: 'all' | 'seen' = 'all'): Promise<void> {
    const folder = process.env['DOZO_SCREENSHOTS'];
    if (folder === undefined) return;
    await mkdir(folder, { recursive: true });
    if (part === 'seen') {
      await this.page.screenshot({ path: join(folder, `${name}.png`) });
      return;
    }
    // A step of a wizard that has just been opened keeps itself in sight until somebody scrolls.
    const left = await this.page.evaluate<number>(
      "const left = scrollY; dispatchEvent(new Event('wheel')); scrollTo(0, 0); left",
    );
    await this.page.screenshot({
      path: join(folder, `${name}.png`),
      fullPage: true,
      // What keeps to the window would stand or end in the middle of a longer picture.
      style:
        '.q-stepper__nav { position: relative !important; bottom: auto !important } .q-drawer { height: 500vh !important }',
    });
    await this.page.evaluate(`scrollTo(0, ${left})`);
  }

  /** @throws AssertionError where anything but Dozo was asked for something */
  async close(): Promise<void> {
    await this.browser.close();
    assert.deepEqual(this.#strangers, [], 'the window asks nobody but Dozo');
  }
}

/** @param size of the page, CSS pixels */
export async function openWindow(
  language: string,
  size: { width: number; height: number } = { width: 1280, height: 800 },
): Promise<Window> {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    timeout: 180_000,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
  // The server's certificate is its own authority.
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    locale: language,
    // The window proposes ten in the evening for a new task: no run is to begin that no test has started.
    timezoneId: zoneAtTen(),
    viewport: { width: size.width, height: size.height },
    reducedMotion: 'reduce',
  });
  if (ANSWER_DELAY_MS > 0) {
    await context.route(/\/api\/(?!.*\/events$)/, async (route) => {
      await new Promise((resolve) => setTimeout(resolve, Math.random() * ANSWER_DELAY_MS));
      await route.continue();
    });
  }
  const page = await context.newPage();
  page.setDefaultTimeout(180_000);
  return new Window(browser, context, page);
}
