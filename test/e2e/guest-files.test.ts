import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Download, Locator, Page } from 'playwright-core';
import { runCli } from '../../server/cli/run-cli.ts';
import { GUEST_DISK_MEBIBYTES, MANY, STRANGE_NAMES, writeGuestDisk } from './guest-disk.ts';
import { oneDisk, Scene, type Named } from './scene.ts';

const MACHINE = 'guest';
const REPORT = 'report 2026.bin';
const report = randomBytes(300_001);

/** What is in an archive of `/home`, names made harmless. */
const UNPACKED = [
  'Not in this archive.txt',
  'home',
  'home/anna',
  'home/anna/Donaudampfschifffahrtsgesellschaft',
  'home/anna/empty.txt',
  'home/anna/invoice 2026-10.pdf',
  'home/anna/photos',
  `home/anna/${REPORT}`,
  'home/anna/売上報告書.txt',
  'home/strange',
  `home/strange/<img src=x id=x onerror="document.title='owned'"><b>`,
  'home/strange/new_line',
  'home/strange/photo_gpj.exe',
];

let scene: Scene;
let repositoryId: string;
let pointId: string;

before(async () => {
  scene = await Scene.start({
    machines: [oneDisk(MACHINE, { mebibytes: GUEST_DISK_MEBIBYTES, percent: 0, seed: 1, running: true })],
  });
  const { api, folder, lab } = scene;
  await writeGuestDisk(lab, MACHINE, { folder, report });
  ({ id: repositoryId } = await api.post<Named>('/repositories', { name: 'main', path: join(folder, 'repository') }));
  await scene.addHost();
  await scene.begin();
});

after(async () => {
  await scene?.close();
});

/** What the browser gets when something is clicked or pressed. */
async function downloaded(act: () => Promise<void>): Promise<Download> {
  const [download] = await Promise.all([scene.page.waitForEvent('download'), act()]);
  return download;
}

test('a task that leaves out free space and swap says so before, during and after', async () => {
  const { page, api } = scene;
  await scene.open('/tasks/new');
  await page.getByRole('checkbox', { name: MACHINE, exact: true }).click();
  for (let step = 0; step < 4; step += 1) await scene.next();
  await page.getByText('deleted files cannot be recovered').waitFor();
  await page.getByRole('switch', { name: 'Leave out free space', exact: true }).click();
  await page.getByRole('switch', { name: 'Leave out swap and page files', exact: true }).click();
  await scene.window.picture('task-skip');
  for (let step = 0; step < 5; step += 1) await scene.next();
  await page.getByText('Free space, swap and page files', { exact: true }).waitFor();
  await scene.button('Save and back up now').click();
  assert.match(await scene.runEnded(), /Success/);

  const { id } = await scene.shownRun();
  const { parts } = await api.get<{ parts: { result: { pointId: string; stats: { skippedBytes?: number } } }[] }>(
    `/runs/${id}`,
  );
  assert.ok((parts[0]?.result.stats.skippedBytes ?? 0) > 0, 'something was left out');
  pointId = parts[0]?.result.pointId ?? '';
  await page.getByText('Left out (free space and swap)').waitFor();
  await page.getByText('is empty after a restore').waitFor();
  await scene.window.picture('run-skip');
  const [job] = await api.get<{ id: string; options: { skipFreeSpace?: boolean; skipSwap?: boolean } }[]>('/jobs');
  assert.equal(job?.options.skipFreeSpace, true);
  assert.equal(job.options.skipSwap, true);

  await scene.open(`/tasks/${job.id}`);
  await page.getByText('Options', { exact: true }).first().click();
  const free = page.getByRole('switch', { name: 'Leave out free space', exact: true });
  assert.equal(await free.isChecked(), true, 'the task is opened as it is');
  await free.click();
  await page.getByText('Summary', { exact: true }).first().click();
  await page.getByText('Swap and page files', { exact: true }).waitFor();
  await scene.button('Save').click();
  await page.waitForURL(/#\/tasks$/);
  const [changed] = await api.get<{ options: { skipFreeSpace?: boolean; skipSwap?: boolean } }[]>('/jobs');
  assert.equal(changed?.options.skipFreeSpace, false);
  assert.equal(changed.options.skipSwap, true);
  assert.deepEqual(scene.window.complaints, []);
});

test('a file comes out of a version as it was, and what cannot be opened says why', async () => {
  const { page } = scene;
  await scene.open(`/storage/${repositoryId}`);
  await page.getByText('without free space or swap').waitFor();
  await scene.link('Files').click();
  await page.getByText('Encrypted by the guest (BitLocker)').waitFor();
  await page.getByText('Encrypted by the guest (LUKS)').waitFor();
  await page.getByText('Swap area').waitFor();
  await page.getByText('restore the version as a new virtual machine').waitFor();
  await scene.window.picture('guest-volumes');
  assert.deepEqual(await scene.window.barriers(), []);
  await page.getByText('system', { exact: true }).click();
  await scene.button('home').click();
  await scene.button('anna').click();
  await page.getByRole('link', { name: REPORT }).waitFor();
  await scene.window.picture('guest-folder');
  assert.deepEqual(await scene.window.barriers(), []);

  const file = await downloaded(() => scene.page.getByRole('link', { name: REPORT }).click());
  assert.equal(file.suggestedFilename(), REPORT);
  assert.ok((await readFile(await file.path())).equals(report), 'byte for byte');
  await page
    .getByRole('status')
    .getByText(`The download of “\u2068${REPORT}\u2069” (293\u00a0KB) has begun.`)
    .waitFor();
  await scene.window.picture('guest-taken');
  const empty = await downloaded(() => page.getByRole('link', { name: 'empty.txt' }).click());
  assert.equal((await readFile(await empty.path())).length, 0);

  await page.getByText('newest → report 2026.bin').waitFor();
  await scene.button('home').click();
  await scene.button('strange').click();
  await page.getByText(STRANGE_NAMES[0] ?? '').waitFor();
  await scene.window.picture('guest-strange');
  assert.equal(await page.locator('#x').count(), 0, 'a name is text, not markup');
  assert.notEqual(await page.title(), 'owned');
  await page.getByText('photo\ufffdgpj.exe').waitFor();
  const strange = await downloaded(() => page.getByRole('link', { name: 'new\ufffdline' }).click());
  assert.equal((await readFile(await strange.path())).toString(), 'strange');

  // The address tells where one is.
  await page.goBack();
  await scene.button('strange').waitFor();
  await page.goForward();
  await page.reload();
  await page.getByText('photo\ufffdgpj.exe').waitFor();
  assert.deepEqual(scene.window.complaints, []);
});

test('a folder comes out as an archive that other programs unpack to the same bytes, from the window and by command', async () => {
  const { api, folder } = scene;
  await scene.open(`/versions/${pointId}/files?volume=1&path=/home`);
  await scene.button('anna').waitFor();
  const archive = await downloaded(() => scene.button('Download this folder as ZIP').click());
  assert.equal(archive.suggestedFilename(), 'home.zip');
  const status = scene.page.getByRole('status');
  await status.getByText('is packed into a ZIP file while it is downloaded').waitFor();
  const file = join(folder, 'home.zip');
  await archive.saveAs(file);
  const target = join(folder, 'unpacked');
  execFileSync('unzip', ['-q', file, '-d', target]);
  assert.deepEqual((await readdir(target, { recursive: true })).sort(), UNPACKED.sort());
  assert.ok((await readFile(join(target, 'home/anna', REPORT))).equals(report), 'byte for byte');
  const strange = await readFile(join(target, 'home/strange/photo_gpj.exe'), 'utf8');
  assert.equal(strange, 'strange');
  assert.match(
    await readFile(join(target, 'Not in this archive.txt'), 'utf8'),
    /^\/home\/anna\/newest: a link to report 2026\.bin\r\n$/,
  );

  const other = join(folder, 'by command.zip');
  let said = '';
  const sink = { write: (piece: string) => ((said += piece), true) } as unknown as NodeJS.WritableStream;
  const exit = await runCli(
    ['points', 'folder', pointId, 'scsi0:0', '1', '/home', other],
    { input: process.stdin, output: sink, errors: sink },
    { ...api.environment, DOZO_CONFIG: join(folder, 'cli.json') },
  );
  assert.equal(exit, 0, said);
  execFileSync('python3', ['-m', 'zipfile', '-e', other, `${target} again`]);
  assert.ok((await readFile(join(`${target} again`, 'home/anna', REPORT))).equals(report), 'byte for byte');
  assert.deepEqual((await readdir(`${target} again`, { recursive: true })).sort(), UNPACKED.sort());
  assert.deepEqual(scene.window.complaints, []);
});

/**
 * Evaluated in the page: the first row that is drawn lies above what is in sight, so that the list scrolls to it and
 * draws anew. It does so in two steps, and End is pressed between them.
 */
const END_WHILE_DRAWING = `new Promise((resolve) => {
  const row = document.querySelector('[data-at]');
  new MutationObserver((_changes, observer) => {
    observer.disconnect();
    row.dispatchEvent(new KeyboardEvent('keydown', { key: 'End', bubbles: true, cancelable: true }));
    resolve();
  }).observe(row.closest('tbody'), { childList: true });
  row.focus();
})`;

/** Evaluated in the page: the list is scrolled by hand while the first entry, just reached by Home, is held in sight. */
const SCROLL_WHILE_HELD = `new Promise((resolve) => {
  const list = document.querySelector('.files.scroll');
  const row = document.querySelector('[data-at]');
  row.focus();
  row.dispatchEvent(new KeyboardEvent('keydown', { key: 'Home', bubbles: true, cancelable: true }));
  let frames = 0;
  const look = () => {
    frames += 1;
    const { activeElement: entry } = document;
    if (entry.dataset.at === '0' && list.scrollTop === 0) {
      entry.dispatchEvent(new WheelEvent('wheel', { deltaY: 10_000, bubbles: true }));
      list.scrollTop = 10_000;
      resolve();
    } else if (frames < 600) requestAnimationFrame(look);
    else resolve();
  };
  requestAnimationFrame(look);
})`;

/** Evaluated in the page: whether the entry that has the focus is seen when the list has had time to go on by itself. */
const IS_SEEN = `new Promise((resolve) => {
  let frames = 60;
  const look = () => {
    frames -= 1;
    if (frames > 0) {
      requestAnimationFrame(look);
      return;
    }
    const { activeElement: entry } = document;
    const { left, top, height } = entry.getBoundingClientRect();
    resolve(entry.matches('[data-at]') && entry.contains(document.elementFromPoint(left + 2, top + height / 2)));
  };
  look();
})`;

test('folders are walked by keyboard, a large one is sorted and searched as a whole', async () => {
  const { page } = scene;
  const focused = (): Promise<string> => page.evaluate<string>('document.activeElement.innerText');
  const isFocused = (name: string): Promise<unknown> =>
    scene.until(`${name} has the focus`, async () => ((await focused()) === name ? true : null));
  const pagesDown = async (count: number, from: number): Promise<void> => {
    for (let press = 0; press < count; press += 1) await page.keyboard.press('PageDown');
    await isFocused(`file ${from + 10 * count}`);
    assert.equal(await page.evaluate(IS_SEEN), true, 'what has the focus is in sight');
  };
  const areFurtherDown = (): Promise<unknown> =>
    scene.until('rows further down', async () => {
      const first = await page.evaluate<number>("Number(document.querySelector('[data-at]').dataset.at)");
      return first > 100 ? true : null;
    });
  await scene.open(`/versions/${pointId}/files?volume=1&path=/`);
  await scene.button('home').focus();
  await page.keyboard.press('Home');
  await isFocused('etc');
  await page.keyboard.press('Enter');
  await isFocused('hosts');
  const hosts = await downloaded(() => page.keyboard.press('Enter'));
  assert.equal((await readFile(await hosts.path())).toString(), '127.0.0.1 localhost\n');
  await page.keyboard.press('Backspace');
  await isFocused('etc');
  await page.keyboard.press('End');
  await isFocused('many');
  await page.keyboard.press('Enter');
  await page.getByText(`${MANY.toLocaleString('en-GB')} entries`).waitFor();
  await isFocused('file 0');
  await pagesDown(6, 0);
  await page.keyboard.press('End');
  await isFocused(`file ${MANY - 1}`);
  assert.ok((await page.locator('[data-at]').count()) < 200, 'only what is in sight is there');
  await scene.button(/^Name/).click();
  await page.keyboard.press('Tab');
  await page.getByRole('columnheader', { name: 'Name' }).and(page.locator('[aria-sort=descending]')).waitFor();
  await scene.fill('Find in this folder', 'FILE 77');
  await page.getByText('11 entries').waitFor();
  await scene.fill('Find in this folder', 'nowhere');
  await page.getByText('Nothing found').waitFor();

  // On a phone the page scrolls, and its rows with it.
  await page.setViewportSize({ width: 390, height: 844 });
  try {
    await scene.open(`/versions/${pointId}/files?volume=1&path=/many`);
    await page.getByText(`${MANY.toLocaleString('en-GB')} entries`).waitFor();
    const seen = await page.evaluate<number>(
      `[...document.querySelectorAll('[data-at]')].filter((row) => row.getBoundingClientRect().bottom < innerHeight).length`,
    );
    assert.ok(seen > 5, `${seen} rows are in sight`);
    await page.mouse.move(195, 700);
    await page.mouse.wheel(0, 30_000);
    await areFurtherDown();
    assert.ok((await page.evaluate<number>('scrollY')) > 10_000, 'the page is what scrolls');
    assert.ok((await page.locator('[data-at]').count()) < 200, 'only what is in sight is there');
    // By Tab to what is in sight, and by arrows on from there.
    await scene.button(/^Name/).focus();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    const at = await page.evaluate<number>('Number(document.activeElement.dataset.at)');
    assert.ok(at > 100, `the focus is at ${at}`);
    await page.keyboard.press('ArrowDown');
    await isFocused(`file ${at + 1}`);
    // What is chosen far down is taken from there.
    const box = page.locator('[data-at] >> visible=true').nth(20).locator('xpath=ancestor::tr').getByRole('checkbox');
    await box.click();
    const take = scene.button('Download 1 chosen as ZIP', page.getByRole('columnheader'));
    await take.waitFor();
    assert.ok(((await take.boundingBox())?.y ?? Infinity) < 100, 'below the bar at the top');
    await box.click();
    await take.waitFor({ state: 'detached' });
    await page.evaluate(END_WHILE_DRAWING);
    await isFocused(`file ${MANY - 1}`);
    await page.keyboard.press('Home');
    await isFocused('file 0');
    await pagesDown(6, 0);
    await page.keyboard.press('Home');
    await isFocused('file 0');
    // Turned on its side it scrolls by itself again.
    await page.setViewportSize({ width: 844, height: 390 });
    await page.locator('.files.scroll').hover();
    await page.mouse.wheel(0, 10_000);
    await areFurtherDown();
    await page.evaluate(SCROLL_WHILE_HELD);
    await areFurtherDown();
    await page.waitForTimeout(1000);
    await areFurtherDown();
  } finally {
    await page.setViewportSize({ width: 1280, height: 800 });
  }
  assert.deepEqual(scene.window.complaints, []);
});

interface Deed {
  action: string;
  target: string | null;
  outcome: string;
  details: {
    machine?: string;
    path?: string;
    disk?: string;
    sizeBytes?: number;
    sentBytes?: number;
    files?: number;
    chosen?: string;
    code?: string;
  };
}

/** Oldest first. */
async function deedsOf(action: string): Promise<Deed[]> {
  const { entries } = await scene.api.get<{ entries: Deed[] }>(`/audit?limit=500&action=${encodeURIComponent(action)}`);
  return entries.toReversed();
}

const TAKING = 'GET /points/:id/disks/:key/volumes/:volume/file';

/** Who types on leaves one search after the other. */
async function leaveWhileLooking(page: Page): Promise<void> {
  await page.evaluate(async (path) => {
    const left = Array.from({ length: 30 }, async (_, delayMs) => {
      const gone = new AbortController();
      setTimeout(() => gone.abort(), delayMs);
      await fetch(path, { signal: gone.signal }).catch(() => null);
    });
    await Promise.all(left);
  }, `api/v1/points/${pointId}/disks/scsi0:0/volumes/1/files?path=/many`);
}

test('the audit log tells once who opened the files of a version, and once each file that was taken', async () => {
  const { page } = scene;
  await leaveWhileLooking(page);
  const taken = await scene.until('all downloads are told', async () => {
    const told = await deedsOf(TAKING);
    return told.length >= 4 ? told : null;
  });
  assert.deepEqual(
    taken.map(({ outcome, details: { machine, path, sizeBytes } }) => [outcome, machine, path, sizeBytes]),
    [
      ['done', MACHINE, `/home/anna/${REPORT}`, report.length],
      ['done', MACHINE, '/home/anna/empty.txt', 0],
      ['done', MACHINE, '/home/strange/new\nline', 'strange'.length],
      ['done', MACHINE, '/etc/hosts', '127.0.0.1 localhost\n'.length],
    ],
  );
  for (const { details } of taken) assert.equal(details.sentBytes, details.sizeBytes);
  // Of many folders, and of pages of a large one.
  assert.deepEqual(
    (await deedsOf('files opened')).map(({ target, outcome, details }) => [target, outcome, details.machine]),
    [[pointId, 'done', MACHINE]],
  );
  assert.deepEqual(await deedsOf('GET /points/:id/disks/:key/volumes/:volume/files'), []);

  // A disk that is let go of half-way.
  await page.evaluate(async (path) => {
    const gone = new AbortController();
    const { body } = await fetch(path, { signal: gone.signal });
    await body?.getReader().read();
    gone.abort();
  }, `api/v1/points/${pointId}/disks/scsi0:0/download`);
  const cut = await scene.until('the download that was cut is told', async () => {
    const [told] = await deedsOf('GET /points/:id/disks/:key/download');
    return told ?? null;
  });
  assert.ok((cut.details.sentBytes ?? Infinity) < (cut.details.sizeBytes ?? 0), JSON.stringify(cut.details));

  await scene.open('/settings?tab=audit');
  await page.getByText(`Download file: \u2068/home/anna/${REPORT}\u2069`).waitFor();
  await page.getByText('Download file: \u2068/home/strange/new\ufffdline').waitFor();
  await page.getByText('Download disk').waitFor();
  await page.getByText(/only .* of 32\sMB/).waitFor();
  assert.equal(await page.getByText('Open files').count(), 1);
  assert.deepEqual(await scene.window.barriers(), []);
  for (const language of ['en', 'de', 'ja']) {
    await useLanguage(language);
    for (const width of [1280, 400]) {
      await page.setViewportSize({ width, height: 800 });
      await scene.window.picture(`audit-files-${language}-${width}`);
      assert.equal(await page.evaluate('document.documentElement.scrollWidth - innerWidth'), 0);
    }
  }
  await useLanguage('en');
  await page.setViewportSize({ width: 1280, height: 800 });
  assert.deepEqual(scene.window.complaints, []);
});

test('a download is told when it begins: a server that is killed on the way leaves an entry', async () => {
  const { page, product } = scene;
  const before = await deedsOf('download begun');
  const archives = await deedsOf('GET /points/:id/disks/:key/volumes/:volume/archive');
  assert.deepEqual(
    archives.map(({ outcome, details: { path, files } }) => [outcome, path, files]),
    Array.from({ length: 2 }, () => ['done', '/home', 7]),
  );
  const named = ({ details: { path, disk, sizeBytes } }: Deed): string => `${path ?? disk ?? ''} ${sizeBytes ?? ''}`;
  assert.deepEqual(
    before.map(named).sort(),
    [...archives, ...(await deedsOf(TAKING)), ...(await deedsOf('GET /points/:id/disks/:key/download'))]
      .map(named)
      .sort(),
    'each once, before its end',
  );
  await page.evaluate(async (path) => {
    const { body } = await fetch(path);
    await body?.getReader().read();
  }, `api/v1/points/${pointId}/disks/scsi0:0/download`);
  await product.killServer();
  await product.start();
  const [begun, ...others] = (await deedsOf('download begun')).slice(before.length);
  assert.deepEqual(
    [begun?.target, begun?.details.machine, begun?.details.disk],
    [`${pointId} scsi0:0`, MACHINE, 'scsi0:0'],
  );
  assert.deepEqual(others, []);
  scene.window.complaints.length = 0;
});

test('several files and folders that were ticked come out together, and the audit log names them', async () => {
  const { page, api, folder } = scene;
  await scene.open(`/versions/${pointId}/files?volume=1&path=/home/anna`);
  await scene.boxOf(REPORT).click();
  await scene.boxOf('photos').focus();
  await page.keyboard.press('Space');
  await scene.fill('Find in this folder', 'empty');
  await page.getByText('1 entry', { exact: true }).waitFor();
  await page.getByRole('checkbox', { name: scene.say('machine.selectAll'), exact: true }).click();
  await scene.fill('Find in this folder', '');
  assert.equal(await scene.boxOf('invoice 2026-10.pdf').isChecked(), false, 'what a search had hidden stays unticked');
  await scene.window.picture('guest-chosen');
  assert.deepEqual(await scene.window.barriers(), []);
  const archive = await downloaded(() => scene.button('Download 3 chosen as ZIP').click());
  await page
    .getByRole('status')
    .getByText(/^What you have chosen in “.?anna.?” is packed/)
    .waitFor();
  const file = join(folder, 'chosen.zip');
  await archive.saveAs(file);
  const target = join(folder, 'chosen');
  execFileSync('unzip', ['-q', file, '-d', target]);
  const wanted = ['anna', 'anna/empty.txt', 'anna/photos', `anna/${REPORT}`];
  assert.deepEqual((await readdir(target, { recursive: true })).sort(), wanted);
  assert.ok((await readFile(join(target, 'anna', REPORT))).equals(report), 'byte for byte');

  const other = join(folder, 'chosen by command.zip');
  const command = (...names: string[]): Promise<[number, string]> =>
    call('points', 'folder', pointId, 'scsi0:0', '1', '/home/anna', other, '--only', ...names);
  assert.deepEqual((await command(REPORT, 'photos', 'empty.txt'))[0], 0);
  execFileSync('unzip', ['-q', other, '-d', `${target} again`]);
  assert.deepEqual((await readdir(`${target} again`, { recursive: true })).sort(), wanted);
  assert.ok((await readFile(join(`${target} again`, 'anna', REPORT))).equals(report), 'byte for byte');
  const [exit, said] = await command('photos', 'no such thing');
  assert.equal(exit, 1);
  assert.match(said, /no such file or folder: \/home\/anna\/no such thing/);
  assert.match((await command('../strange'))[1], /not paths/);

  const told = await scene.until('both are told', async () => {
    const done = (await deedsOf('GET /points/:id/disks/:key/volumes/:volume/archive')).slice(-3);
    return done.some(({ outcome }) => outcome === 'failed') ? done : null;
  });
  assert.deepEqual(
    told.map(({ outcome, details: { path, chosen, files } }) => [outcome, path, chosen?.split('/').sort(), files]),
    [
      ['done', '/home/anna', ['empty.txt', 'photos', REPORT], 2],
      ['done', '/home/anna', ['empty.txt', 'photos', REPORT], 2],
      ['failed', '/home/anna', ['no such thing', 'photos'], undefined],
    ],
  );
  await scene.open('/settings?tab=audit');
  await page
    .getByText(/Download folder: .?\/home\/anna: .*photos/)
    .first()
    .waitFor();

  // More names than an address may hold: the way out is said, and what is whole needs no names.
  await scene.open(`/versions/${pointId}/files?volume=1&path=/many`);
  await page.getByText(`${MANY.toLocaleString('en-GB')} entries`).waitFor();
  await page.getByRole('checkbox', { name: scene.say('machine.selectAll'), exact: true }).click();
  const take = scene.button(/^Download [\d,]+ chosen as ZIP$/);
  assert.equal(await take.isEnabled(), true);
  await scene.boxOf('file 0').click();
  await page.getByText(scene.say('files.tooManyChosen'), { exact: true }).waitFor();
  assert.equal(await take.isDisabled(), true);
  assert.deepEqual(scene.window.complaints, []);

  async function call(...words: string[]): Promise<[number, string]> {
    let said = '';
    const sink = { write: (piece: string) => ((said += piece), true) } as unknown as NodeJS.WritableStream;
    const environment = { ...api.environment, DOZO_CONFIG: join(folder, 'cli.json') };
    const exit = await runCli(words, { input: process.stdin, output: sink, errors: sink }, environment);
    return [exit, said];
  }
});

/** As the reader chooses it. */
async function useLanguage(language: string): Promise<void> {
  const { page } = scene;
  await page.evaluate((chosen) => {
    const known = JSON.parse(localStorage.getItem('dozo-preferences') ?? '{}') as object;
    localStorage.setItem('dozo-preferences', JSON.stringify({ ...known, language: chosen }));
  }, language);
  await page.reload();
  await page.getByText(REPORT).first().waitFor();
}

test('the restore wizard leads to single files; what has gone meanwhile is told, with what to do', async () => {
  const { page, api } = scene;
  await scene.open('/restore');
  await page.getByLabel('Virtual machine', { exact: true }).click();
  await page.getByRole('option', { name: MACHINE, exact: true }).click();
  await scene.next();
  await page.getByRole('radio', { name: 'Single files', exact: true }).click();
  await scene.window.picture('restore-kind');
  await scene.next();
  await page.getByText('system', { exact: true }).click();
  await scene.button('home').click();
  // Anywhere on its line, and the box is a thing apart.
  const endOfLine = (entry: Locator): Locator => page.getByRole('row').filter({ has: entry }).locator('td').last();
  await endOfLine(scene.button('anna')).click();
  const tick = scene.boxOf(REPORT);
  await tick.click();
  const file = await downloaded(() => endOfLine(page.getByRole('link', { name: REPORT })).click());
  assert.ok((await readFile(await file.path())).equals(report), 'byte for byte');
  assert.equal(await tick.isChecked(), true);
  await scene.window.picture('restore-files');
  assert.deepEqual(await scene.window.barriers(), []);
  await scene.button('One level up').click();
  // Chosen, and not forgotten while one looks elsewhere.
  await scene.button('anna (1)').waitFor();
  assert.deepEqual(await scene.window.barriers(), []);
  await page.goBack();
  await tick.waitFor();
  assert.equal(await tick.isChecked(), true);
  await page.reload();
  await page.getByRole('link', { name: REPORT }).waitFor();
  await page.goBack();
  await scene.button('anna').waitFor();
  await scene.button(scene.say('restore.otherKind')).click();
  await page.getByRole('radio', { name: 'Single files', exact: true }).waitFor();
  // A head leads to a step that was seen, and to no other.
  await page.locator('.q-stepper__tab', { hasText: 'Version' }).click();
  await page.getByRole('radiogroup', { name: 'Version', exact: true }).waitFor();
  await page.locator('.q-select').getByText(MACHINE, { exact: true }).waitFor();
  await page.locator('.q-stepper__tab', { hasText: 'Files' }).press('Enter');
  await scene.button('anna').waitFor();

  await scene.open(`/versions/${pointId}/files?volume=1&path=/not/there`);
  await page.getByRole('alert').getByText('no such file or folder').waitFor();
  await scene.open(`/versions/${pointId}/files?volume=2&path=/`);
  await page.getByRole('alert').getByText('no file system').waitFor();
  await scene.open(`/versions/${pointId}/files?volume=1&path=/etc`);
  await page.getByText('hosts').waitFor();
  await api.post('/points/delete', { pointIds: [pointId], repositoryId, trashDays: 0 });
  const run = await api.post<Named>(`/repositories/${repositoryId}/maintenance`, {});
  await scene.ended(run.id);
  await page.getByRole('link', { name: 'hosts' }).click();
  await page.getByRole('alert').getByText('was not downloaded').waitFor();
  await scene.window.picture('guest-gone');
  assert.match(await page.getByRole('alert').innerText(), /no such version/);
  const refused = (await deedsOf(TAKING)).filter(({ outcome }) => outcome !== 'done');
  assert.deepEqual(
    refused.map(({ outcome, details }) => [outcome, details.path, details.code]),
    [['failed', '/etc/hosts', 'POINT_NOT_FOUND']],
    'what was not to be had is told once as well',
  );
  scene.window.complaints.length = 0;
});
