import assert from 'node:assert/strict';
import { readFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Locator, Page } from 'playwright-core';
import { GIB, MIB } from '../../server/runtime/index.ts';
import { unbroken } from '../../ui/i18n/unbroken.ts';
import { startLabHost, type LabHost, type MachineOptions } from '../lab/lab-host.ts';
import { zoneAtTen } from '../product/quiet-day.ts';
import { startProduct, type Product } from '../product/product.ts';
import { openWindow, type Window } from './browser.ts';

export const LAB_PASSWORD = 'lab-Password-1';
/** A loaded machine is several times slower than an idle one. */
export const RUN_MS = 240_000;
/** Kinds of runs after which a repository holds something else. */
const CHANGING_RUNS = ['backup', 'copy', 'maintenance'];

/** Below it the menu covers the page, and goes once something in it is chosen; CSS pixels. */
const MENU_WIDTH = 900;

export interface Named {
  id: string;
  name: string;
}
export interface Run {
  id: string;
  kind: string;
  repositoryId: string | null;
  state: string;
  startedAtMs: number | null;
  finishedAtMs: number | null;
}

/** A lab host, a server, and a browser in one language: what the tests of the window happen in. */
export class Scene {
  readonly folder: string;
  readonly lab: LabHost;
  readonly product: Product;
  readonly window: Window;
  #words: Record<string, unknown>;

  private constructor(
    folder: string,
    parts: { lab: LabHost; product: Product; window: Window; words: Record<string, unknown> },
  ) {
    this.folder = folder;
    this.lab = parts.lab;
    this.product = parts.product;
    this.window = parts.window;
    this.#words = parts.words;
  }

  static async start(options: {
    machines: MachineOptions[];
    /** `en-GB` when absent. */
    locale?: string;
    /** Of the page, CSS pixels; 1280×800 when absent. */
    size?: { width: number; height: number };
    keepTruth?: boolean;
    env?: Record<string, string>;
  }): Promise<Scene> {
    const locale = options.locale ?? 'en-GB';
    const folder = await mkdtemp(join(tmpdir(), 'dozo-e2e-'));
    const lab = await startLabHost({
      directory: join(folder, 'lab'),
      edition: 'free',
      password: LAB_PASSWORD,
      datastores: [{ name: 'ds1', type: 'VMFS-6', capacityBytes: 8 * GIB, rawFrozenRead: 'allow' }],
      switches: { keepTruth: options.keepTruth === true },
      vms: options.machines,
    });
    let product: Product | null = null;
    let window: Window;
    try {
      product = await startProduct(join(folder, 'dozo'), { env: { TZ: zoneAtTen(), ...options.env } });
      window = await openWindow(locale, options.size);
    } catch (error) {
      // What was started would keep the test from ending.
      await product?.close();
      await lab.close();
      throw error;
    }
    return new Scene(folder, { lab, product, window, words: await wordsOf(locale) });
  }

  async close(): Promise<void> {
    await using ends = new AsyncDisposableStack();
    ends.defer(() => rm(this.folder, { recursive: true, force: true }));
    ends.defer(() => this.lab.close());
    ends.defer(() => this.product.close());
    ends.defer(() => this.window.close());
    // What was seen last: where a test has failed, it tells why.
    await this.window.picture(`last-${basename(this.folder)}`);
  }

  get page(): Page {
    return this.window.page;
  }

  get api(): Product['api'] {
    return this.product.api;
  }

  /** From now on the words are of another language, as where somebody has chosen it in the window. */
  async speak(locale: string): Promise<void> {
    this.#words = await wordsOf(locale);
  }

  /**
   * The words of the window for a key of its catalogue, names in the marks that the window puts around them.
   * @param count chooses the form of the language for so many, where there are several
   */
  say(key: string, values: Record<string, string> = {}, count?: number): string {
    const found = key
      .split('.')
      .reduce<unknown>((inner, part) => (inner as Record<string, unknown> | undefined)?.[part], this.#words);
    assert.equal(typeof found, 'string', `the catalogue has ${key}`);
    const forms = count === undefined ? [String(found)] : String(found).split(' | ');
    // As vue-i18n chooses: of two the first is for one, of three it is for none.
    const at = forms.length < 3 ? Number(count !== 1) : Math.min(count ?? 0, 2);
    return unbroken(forms[at] ?? forms[0] ?? '').replaceAll(/\{(\w+)\}/g, (_whole, name: string) => {
      const value = values[name];
      assert.ok(value !== undefined, `${key} wants ${name}`);
      return ['name', 'machine', 'host', 'storage', 'disk'].includes(name) ? isolated(value) : value;
    });
  }

  button(name: string | RegExp, within: Page | Locator = this.page): Locator {
    return within.getByRole('button', { name, exact: true });
  }

  link(name: string | RegExp): Locator {
    return this.page.getByRole('link', { name, exact: true });
  }

  async fill(label: string, value: string): Promise<void> {
    // The step of a wizard may be called as its only field is.
    await this.page.getByLabel(label, { exact: true }).and(this.page.locator('input, textarea')).fill(value);
  }

  /** The one way out of a wizard's step. A click too early for the next step would be one more on this one. */
  async next(): Promise<void> {
    const active = this.page.locator('.q-stepper__tab--active');
    const head = await active.innerText();
    await this.button(this.say('common.next')).click();
    await active.filter({ hasNotText: head }).waitFor();
  }

  /** By the menu of the window; where there is no room for it, it is opened first. */
  async goTo(place: 'overview' | 'machines' | 'storage' | 'activities' | 'settings'): Promise<void> {
    const link = this.page
      .getByRole('navigation', { name: this.say('nav.menu'), exact: true })
      .getByRole('link')
      .filter({ hasText: this.say(`nav.${place}`) });
    const isFolded = (this.page.viewportSize()?.width ?? 0) < MENU_WIDTH;
    if (isFolded) await this.button(this.say('nav.menu')).click();
    await link.click();
    if (isFolded) await link.waitFor({ state: 'hidden' });
    await this.window.settle();
  }

  /** What is shown now fits, nothing is wider than the window, and the console has nothing to say. */
  async looksWell(name: string): Promise<void> {
    const { page, window } = this;
    await window.settle();
    const language = await page.evaluate<string>('document.documentElement.lang');
    const picture = `flow-${name}-${language}-${page.viewportSize()?.width ?? 0}`;
    await window.picture(`${picture}-seen`, 'seen');
    await window.picture(picture);
    const excess = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
    assert.deepEqual(
      [
        ...(excess > 0 ? [`${excess} px too wide`] : []),
        ...(await window.misfits()),
        ...(language === 'ja' ? await window.cutWords() : []),
        ...window.complaints,
      ],
      [],
      name,
    );
  }

  /** Whether all of it is to be seen without scrolling. */
  async isInSight(element: Locator): Promise<boolean> {
    const [box, size] = [await element.boundingBox(), this.page.viewportSize()];
    return (
      box !== null &&
      size !== null &&
      box.x >= 0 &&
      box.y >= 0 &&
      box.x + box.width <= size.width &&
      box.y + box.height <= size.height
    );
  }

  /** Clicks it once it is to be seen without scrolling. */
  async press(element: Locator): Promise<void> {
    await this.until('something to click in sight', async () => ((await this.isInSight(element)) ? true : null));
    await element.click();
  }

  /** In a field with a list, both by the words that are shown. */
  async choose(label: string, option: string): Promise<void> {
    await this.page.getByLabel(label, { exact: true }).click();
    await this.page.getByRole('option', { name: option, exact: true }).click();
  }

  /** The box in front of a row, which chooses that. */
  boxOf(name: string): Locator {
    return this.page.getByRole('checkbox', { name: this.say('machine.select', { name }), exact: true });
  }

  /** The screen anew: nothing that an earlier one had loaded helps. */
  async open(path: string): Promise<void> {
    await this.page.goto('about:blank');
    await this.page.goto(`${this.product.url}/#${path}`);
    await this.window.settle();
  }

  /** In the form that is shown; the guide of the first time is taken as done. */
  async logIn(password: string): Promise<void> {
    await this.fill(this.say('login.password'), password);
    await this.button(this.say('login.enter')).click();
    // On a phone it is there and not shown.
    await this.page.locator('nav').first().waitFor({ state: 'attached' });
    await this.page.evaluate(`(() => {
      const known = JSON.parse(localStorage.getItem('dozo-preferences') ?? '{}');
      localStorage.setItem('dozo-preferences', JSON.stringify({ ...known, guideDone: true }));
    })()`);
  }

  /** Opens the window and signs in; what the console said of nobody being signed in is forgotten. */
  async begin(): Promise<void> {
    await this.page.goto(this.product.url);
    await this.logIn(this.product.password);
    this.window.complaints.length = 0;
  }

  /** Adds the lab host by the API; the ids of its machines by name. */
  async addHost(): Promise<Map<string, string>> {
    const host = await this.api.post<Named>('/hosts', {
      name: 'lab',
      host: '127.0.0.1',
      sshPort: this.lab.sshPort,
      httpsPort: this.lab.httpsPort,
      user: 'root',
      password: LAB_PASSWORD,
    });
    const machines = await this.api.get<Named[]>(`/hosts/${host.id}/machines?refresh=true`);
    return new Map(machines.map(({ id, name }) => [name, id]));
  }

  /** Asks until there is an answer. */
  async until<T>(what: string, ask: () => Promise<T | null>): Promise<T> {
    const giveUpAtMs = Date.now() + RUN_MS;
    while (Date.now() < giveUpAtMs) {
      const answer = await ask();
      if (answer !== null) return answer;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    throw new Error(`in vain: ${what}`);
  }

  /** Waits by the API for the end of a run, and until what it has changed in its repository is known; its state. */
  async ended(runId: string): Promise<string> {
    const run = await this.until(`the end of run ${runId}`, async () => {
      const now = await this.api.get<Run>(`/runs/${runId}`);
      return now.finishedAtMs === null ? null : now;
    });
    const isSuccess = run.state === 'success' || run.state === 'warning';
    if (run.repositoryId !== null && isSuccess && CHANGING_RUNS.includes(run.kind)) {
      await this.until(`a look into the repository after run ${runId}`, async () => {
        const repository = await this.api.get<{ seenAtMs: number | null }>(`/repositories/${run.repositoryId ?? ''}`);
        return (repository.seenAtMs ?? 0) >= (run.finishedAtMs ?? Infinity) ? true : null;
      });
    }
    return run.state;
  }

  /** Waits for the end of the run that the window shows, as `ended` does; its state in words. */
  async runEnded(): Promise<string> {
    await this.page.waitForURL(/#\/activities\/[0-9a-f]{16}/);
    const states = ['success', 'warning', 'failed', 'incomplete', 'cancelled'].map((state) =>
      this.say(`state.${state}`),
    );
    const state = this.page.locator('[aria-live="polite"]', { hasText: new RegExp(states.join('|')) });
    await state.waitFor({ timeout: RUN_MS });
    await this.ended((await this.shownRun()).id);
    return state.innerText();
  }

  /** The run that the window shows. */
  async shownRun(): Promise<Run> {
    await this.page.waitForURL(/#\/activities\/[0-9a-f]{16}/);
    return this.api.get<Run>(`/runs/${/[0-9a-f]{16}/.exec(this.page.url())?.[0] ?? ''}`);
  }

  /** The file of the only disk of a machine as it is on the host now. */
  async diskOnHost(name: string): Promise<string> {
    const machine = (await this.lab.state()).vms.find((known) => known.name === name);
    assert.ok(machine !== undefined, `${name} is on the host`);
    assert.equal(machine.disks.length, 1);
    return this.lab.localPath((machine.disks[0]?.chain[0]?.absolutePath ?? '').replace(/\.vmdk$/, '-flat.vmdk'));
  }
}

/** The catalogue of a language; below `codes` what errors are called in it, which the server says in English. */
async function wordsOf(locale: string): Promise<Record<string, unknown>> {
  const language = locale.slice(0, 2);
  const read = async (name: string): Promise<Record<string, unknown>> => {
    const file = join(import.meta.dirname, `../../ui/i18n/${name}.json`);
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  };
  return { ...(await read(language)), codes: language === 'en' ? {} : await read(`codes.${language}`) };
}

/** A name inside a sentence, in the marks that keep its direction to itself. */
export function isolated(name: string): string {
  return `\u2068${name}\u2069`;
}

/** A machine with one disk of that many MiB. */
export function oneDisk(
  name: string,
  options: { mebibytes: number; percent: number; seed: number; running?: boolean },
): MachineOptions {
  return {
    name,
    datastore: 'ds1',
    running: options.running === true,
    changeTracking: false,
    disks: [
      {
        sizeBytes: options.mebibytes * MIB,
        provisioning: 'thin',
        fill: { percent: options.percent, seed: options.seed },
      },
    ],
  };
}
