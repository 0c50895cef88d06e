import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { looksFor, told } from './looks.ts';
import { LAB_PASSWORD, oneDisk, Scene, type Named } from './scene.ts';
import { TASK_STEPS, type TaskStep } from './task-steps.ts';

const TASK = 'Nightly';
const COPY = 'Nightly too';
/** So slow that a run can be watched and cancelled, MB/s. */
const SLOW = 0.1;

interface Job extends Named {
  machineIds: string[];
  schedule: { enabled: boolean; rules: { rule: { kind: string; days?: string[] } }[] } | null;
  options: {
    throttle: { otherwise: number | null } | null;
    quiesce: string;
    retention: { last: number | null } | null;
    excludedDisks: Record<string, string[]>;
  };
}
interface Run extends Named {
  kind: string;
  state: string;
  parts: { name: string }[];
}

for (const look of looksFor('desktop')) {
  test(`managed from the first minute on, ${told(look)}`, async () => {
    const db = oneDisk('db', { mebibytes: 1, percent: 50, seed: 2 });
    const scene = await Scene.start({
      locale: look.locale,
      size: look,
      machines: [
        oneDisk('web', { mebibytes: 4, percent: 60, seed: 1 }),
        { ...db, disks: [...db.disks, ...db.disks] },
        oneDisk('mail', { mebibytes: 1, percent: 50, seed: 3 }),
      ],
    });
    const wednesday = new Date('2026-11-25').toLocaleDateString(look.locale, { weekday: 'short' });
    /** Oldest first. */
    const runIds: string[] = [];
    try {
      await guide();
      await tenSteps();
      await editTasks();
      await backUpChosen();
      await lookBack();
      await removeVersions();
    } finally {
      await scene.close();
    }

    /** The guide is skipped and goes on where it was left; a wrong password of a host has its remedy. */
    async function guide(): Promise<void> {
      const { page, product, lab, folder } = scene;
      await page.goto(product.url);
      await scene.fill(scene.say('login.password'), product.password);
      await scene.button(scene.say('login.enter')).click();
      await page.getByRole('heading', { name: scene.say('guide.title') }).waitFor();
      // That nobody was signed in yet.
      scene.window.complaints.length = 0;
      await scene.looksWell('guide');
      await scene.button(scene.say('guide.skip')).click();
      await page.getByText(scene.say('overview.empty'), { exact: true }).waitFor();
      await scene.looksWell('overview-empty');
      await scene.link(scene.say('overview.guide')).click();
      await scene.next();
      await scene.fill(scene.say('storage.path'), join(folder, 'main'));
      await page.getByText(scene.say('folder.usable')).waitFor();
      await scene.looksWell('guide-storage');
      await scene.press(scene.button(scene.say('storage.make')));
      await page.getByText(scene.say('guide.storageMade', { name: 'main' })).waitFor();

      await scene.goTo('overview');
      await scene.link(scene.say('overview.guide')).click();
      const head = page.locator('.q-stepper__tab--active');
      await head.filter({ hasText: scene.say('guide.host') }).waitFor();
      await scene.fill(scene.say('host.address'), '127.0.0.1');
      await scene.fill(scene.say('host.name'), 'lab');
      await scene.fill(scene.say('host.password'), 'not the password');
      await page.getByText(scene.say('host.more')).click();
      await scene.fill(scene.say('host.sshPort'), String(lab.sshPort));
      await scene.fill(scene.say('host.httpsPort'), String(lab.httpsPort));
      await scene.button(scene.say('host.try')).click();
      await page.getByRole('alert').getByText(scene.say('codes.HOST_LOGIN_REFUSED'), { exact: true }).waitFor();
      await scene.looksWell('guide-host-refused');
      assert.equal(await scene.isInSight(scene.button(scene.say('host.try'))), true, 'it is in sight how to try again');
      await scene.fill(scene.say('host.password'), LAB_PASSWORD);
      await page.getByText(scene.say('host.stale')).waitFor();
      await scene.button(scene.say('host.try')).click();
      await page.getByText(lab.sshHostKey).first().waitFor();
      await scene.looksWell('guide-host');
      await scene.button(scene.say('host.add')).click();
      await page.getByText(scene.say('guide.hostAdded', { name: 'lab' })).waitFor();
      await scene.looksWell('guide-task');
      await scene.button(scene.say('task.create')).click();
      await page.waitForURL(/#\/tasks\/new/);
    }

    /** A task is made in ten steps, and its first run is watched and cancelled. */
    async function tenSteps(): Promise<void> {
      const { page, api } = scene;
      const fill: Partial<Record<TaskStep, () => Promise<void>>> = {
        machines: async () => {
          for (const name of ['web', 'db']) await page.getByRole('checkbox', { name, exact: true }).click();
          const disks = page.getByRole('checkbox', { name: /ds1/ });
          await scene.until('three disks', async () => ((await disks.count()) === 3 ? true : null));
          const isDb = (await page.getByRole('checkbox', { name: /ds1/ }).nth(1).isVisible()) ? 1 : 0;
          await disks.nth(isDb).click();
        },
        name: async () => {
          const proposed = scene.say('task.proposedName', { host: 'lab' }).replaceAll(/[\u2068\u2069]/g, '');
          const field = page.getByRole('textbox', { name: scene.say('task.name'), exact: true });
          await scene.until('a proposed name that has no marks of the window in it', async () =>
            (await field.inputValue()) === proposed ? true : null,
          );
          await field.fill(TASK);
        },
        destination: async () => {
          assert.equal(await page.getByRole('radio', { name: 'main', exact: true }).isChecked(), true);
        },
        options: async () => {
          await page.getByRole('radio', { name: scene.say('task.quiesceKind.off'), exact: true }).click();
          await page.getByText(scene.say('task.advanced'), { exact: true }).click();
          await scene.fill(scene.say('task.throttle'), String(SLOW));
        },
        check: () => page.getByText(scene.say('check.hostReady', { host: 'lab' })).waitFor(),
        schedule: async () => {
          await scene.choose(scene.say('schedule.often'), scene.say('schedule.kind.weekly'));
          const days = page.getByRole('group', { name: scene.say('schedule.days'), exact: true });
          // Saturday is what is proposed.
          for (const day of ['wednesday', 'saturday']) {
            await days.getByRole('checkbox', { name: scene.say(`schedule.weekday.${day}`), exact: true }).click();
          }
          const next = page
            .getByRole('region', { name: scene.say('schedule.next'), exact: true })
            .getByRole('listitem');
          await scene.until('ten Wednesdays', async () => {
            const days = await next.allInnerTexts();
            return days.length === 10 && days.every((day) => day.includes(wednesday)) ? true : null;
          });
        },
        retention: async () => {
          await page.getByRole('radio', { name: scene.say('retention.kind.own'), exact: true }).click();
          await scene.fill(scene.say('retention.field.last'), '5');
          await page.getByRole('heading', { name: scene.say('retention.picture') }).waitFor();
        },
        people: () => page.getByText(scene.say('task.noPeople')).waitFor(),
        summary: () => page.getByText(scene.say('task.quiesceKind.off'), { exact: true }).waitFor(),
      };
      for (const step of TASK_STEPS) {
        await page.locator('.q-stepper__tab--active', { hasText: scene.say(`task.step.${step}`) }).waitFor();
        await fill[step]?.();
        await scene.looksWell(`task-${step}`);
        const way = scene.button(scene.say(step === 'summary' ? 'task.saveAndRun' : 'common.next'));
        assert.equal(await scene.isInSight(way), true, `the way on from ${step} is in sight`);
        if (step === 'summary') await way.click();
        else await scene.next();
      }

      await page.waitForURL(/#\/activities\/[0-9a-f]{16}/);
      const [job] = await api.get<Job[]>('/jobs');
      assert.ok(job !== undefined);
      assert.equal(job.name, TASK);
      assert.equal(job.machineIds.length, 2);
      assert.deepEqual(
        job.schedule?.rules.map(({ rule }) => rule),
        [{ kind: 'weekly', days: ['wednesday'], time: '22:00' }],
      );
      assert.equal(job.options.quiesce, 'off');
      assert.equal(job.options.retention?.last, 5);
      assert.equal(job.options.throttle?.otherwise, SLOW);
      assert.deepEqual(
        Object.values(job.options.excludedDisks).map((disks) => disks.length),
        [1],
      );

      await page.getByText(scene.say('stage.reading'), { exact: true }).first().waitFor();
      await scene.goTo('activities');
      await scene.looksWell('activities-live');
      await page.getByRole('article').getByRole('link').click();
      await page.getByText(scene.say('stage.reading'), { exact: true }).first().waitFor();
      await scene.looksWell('run-live');
      await scene.button(scene.say('run.cancel')).click();
      const question = page.getByRole('dialog');
      await question.getByText(scene.say('run.cancelText')).waitFor();
      await scene.looksWell('run-cancel');
      await scene.button(scene.say('run.cancel'), question).click();
      assert.ok((await scene.runEnded()).includes(scene.say('state.cancelled')));
      runIds.push((await scene.shownRun()).id);
      await page.getByText(scene.say('explain.unreached')).first().waitFor();
      assert.equal(await page.getByText(scene.say('explain.unread')).count(), 0, 'nothing is said to be unchanged');
      await scene.looksWell('run-cancelled');
    }

    /** A task is edited, copied, paused, and deleted once its number of machines is typed. */
    async function editTasks(): Promise<void> {
      const { page, api } = scene;
      await openTasks();
      await act(TASK, 'common.edit');
      await step('options');
      const limit = page.getByLabel(scene.say('task.throttle'), { exact: true });
      assert.equal(await limit.inputValue(), String(SLOW), 'what few need is unfolded where it was used');
      await limit.fill('');
      await scene.looksWell('task-edit');
      await scene.button(scene.say('common.save')).click();
      await page.getByText(scene.say('task.savedNamed', { name: TASK })).waitFor();
      await scene.looksWell('tasks');

      await act(TASK, 'task.copy');
      await scene.next();
      await scene.fill(scene.say('task.name'), COPY);
      await scene.button(scene.say('task.toSummary')).click();
      await scene.button(scene.say('common.save')).click();
      await page.getByText(scene.say('task.savedNamed', { name: COPY })).waitFor();
      const jobs = new Map((await api.get<Job[]>('/jobs')).map((job) => [job.name, job]));
      assert.deepEqual([...jobs.keys()].sort(), [TASK, COPY]);
      assert.equal(jobs.get(TASK)?.options.throttle, null);
      assert.deepEqual(jobs.get(COPY)?.machineIds, jobs.get(TASK)?.machineIds);

      await act(TASK, 'task.pause');
      const card = page.getByRole('article').filter({ has: page.getByRole('link', { name: TASK, exact: true }) });
      await card.getByText(scene.say('task.paused'), { exact: true }).waitFor();
      assert.equal((await api.get<Job>(`/jobs/${jobs.get(TASK)?.id ?? ''}`)).schedule?.enabled, false);
      await act(COPY, 'common.delete');
      const dialog = page.getByRole('dialog');
      const remove = scene.button(scene.say('common.delete'), dialog);
      await dialog.getByLabel(scene.say('task.deleteCount'), { exact: true }).fill('3');
      assert.equal(await remove.isDisabled(), true);
      await dialog.getByLabel(scene.say('task.deleteCount'), { exact: true }).fill('2');
      await scene.looksWell('task-delete');
      await scene.press(remove);
      await page.getByRole('link', { name: COPY, exact: true }).waitFor({ state: 'detached' });
      assert.deepEqual(
        (await api.get<Job[]>('/jobs')).map(({ name }) => name),
        [TASK],
      );
      await act(TASK, 'task.resume');
      await card.getByText(scene.say('task.paused'), { exact: true }).waitFor({ state: 'detached' });
    }

    /** Machines are searched and filtered, chosen ones are backed up, and two runs are compared. */
    async function backUpChosen(): Promise<void> {
      const { page } = scene;
      for (let count = 0; count < 2; count += 1) {
        await scene.goTo('machines');
        const filters = scene.button(scene.say('machine.filter'));
        if (await filters.isVisible()) await filters.click();
        await scene.choose(scene.say('machine.show'), scene.say('protection.unprotected'));
        await scene.boxOf('web').waitFor({ state: 'detached' });
        await scene.boxOf('mail').waitFor();
        await scene.choose(scene.say('machine.show'), scene.say('machine.all'));
        const search = page.getByLabel(scene.say('common.search'), { exact: true });
        await search.fill('db');
        await scene.boxOf('web').waitFor({ state: 'detached' });
        await scene.boxOf('db').click();
        await search.fill('');
        await scene.boxOf('web').click();
        await scene.looksWell('machines-chosen');
        await scene.press(scene.button(scene.say('task.runNow')));
        assert.ok((await scene.runEnded()).includes(scene.say('state.success')));
        const { id } = await scene.shownRun();
        runIds.push(id);
        const { parts } = await scene.api.get<Run>(`/runs/${id}`);
        assert.deepEqual(parts.map(({ name }) => name).sort(), ['db', 'web']);
      }
      await page.getByText(scene.say('explain.title')).first().waitFor();
      const compared = page.getByRole('row', { name: scene.say('compare.read') }).first();
      await compared.waitFor();
      await scene.looksWell('run-compared');
    }

    /** A log is searched and exported, the history filtered, a day of the overview leads to its runs. */
    async function lookBack(): Promise<void> {
      const { page, api } = scene;
      const [cancelled = '', first = '', second = ''] = runIds;
      const { lines } = await api.get<{ lines: unknown[] }>(`/runs/${second}/log?limit=5000`);
      await page.getByRole('tab', { name: scene.say('run.log', { n: String(lines.length) }), exact: true }).click();
      await page.getByLabel(scene.say('common.search'), { exact: true }).fill('db');
      const shown = page.locator('.log .line');
      await scene.until('fewer lines', async () => {
        const count = await shown.count();
        return count > 0 && count < lines.length ? true : null;
      });
      await scene.looksWell('run-log');
      const downloading = page.waitForEvent('download');
      await scene.button(scene.say('run.exportLog')).click();
      const path = join(scene.folder, 'log.txt');
      await (await downloading).saveAs(path);
      assert.equal((await readFile(path, 'utf8')).trimEnd().split('\n').length, lines.length);

      await scene.goTo('activities');
      await lists([second, first, cancelled]);
      await scene.choose(scene.say('run.result'), scene.say('state.cancelled'));
      await lists([cancelled]);
      await scene.looksWell('activities-filtered');
      await scene.choose(scene.say('run.kind'), scene.say('kind.check'));
      await page.getByText(scene.say('run.noneFits')).waitFor();
      const isCut = await page
        .locator('.filters .q-field__native .ellipsis')
        .evaluateAll((values) => values.some(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth));
      assert.equal(isCut, false, 'what is filtered by can be read');
      await scene.looksWell('activities-none');
      await scene.button(scene.say('run.showAll')).click();
      await page.getByLabel(scene.say('run.search'), { exact: true }).fill('web');
      await page.waitForURL(/search=web/);
      await lists([second, first, cancelled]);
      await scene.button(scene.say('common.chooseDay')).click();
      await page.locator('.q-date__calendar-item--in .q-date__today').click();
      await page.waitForURL(/day=\d+/);
      await lists([second, first, cancelled]);
      await scene.looksWell('activities-day');

      await scene.goTo('overview');
      await scene.looksWell('overview');
      const days = page.getByRole('group', { name: scene.say('overview.calendar') }).getByRole('button');
      await days.first().click();
      await page.getByText(scene.say('run.none'), { exact: true }).waitFor();
      await days.last().click();
      await lists([second, first, cancelled]);
      await scene.looksWell('overview-day');
      await page.locator(`main a[href="#/activities/${first}"]`).click();
      await page.getByText(scene.say('explain.title')).first().waitFor();
    }

    /** What a retention would do is said before, and chosen versions come back from the trash. */
    async function removeVersions(): Promise<void> {
      const { page, api } = scene;
      await openTasks();
      await act(TASK, 'common.edit');
      await step('retention');
      await scene.fill(scene.say('retention.field.last'), '1');
      const [effect = ''] = scene.say('retention.effect', { gone: '2', kept: '2', freed: '\0' }).split('\0');
      await page.getByText(effect).waitFor();
      await scene.looksWell('retention-effect');
      await scene.button(scene.say('common.save')).click();
      await page.getByText(scene.say('task.savedNamed', { name: TASK })).waitFor();
      assert.equal((await api.get<Job[]>('/jobs'))[0]?.options.retention?.last, 1);

      await scene.goTo('storage');
      await scene.looksWell('storage');
      await scene.link(scene.say('storage.showVersions')).click();
      const boxes = page.getByRole('checkbox');
      await scene.until('four versions', async () => ((await boxes.count()) === 4 ? true : null));
      for (const at of [0, 2, 3]) await boxes.nth(at).click();
      await page.getByText(scene.say('task.chosen', { n: '3' }, 3), { exact: true }).waitFor();
      await scene.looksWell('versions-chosen');
      await scene.button(scene.say('trash.delete')).click();
      const dialog = page.getByRole('dialog');
      await scene.looksWell('versions-delete');
      await scene.button(scene.say('trash.toTrash'), dialog).click();
      await page.getByText(scene.say('trash.deleted', { n: '3' }, 3), { exact: true }).waitFor();
      assert.equal(await page.locator('.notice').count(), 1, 'nothing that was said before covers the offer to undo');
      assert.deepEqual(await counts(), [1, 3]);
      await scene.looksWell('versions-deleted');
      await scene.press(scene.button(scene.say('trash.undo')));
      await page.getByText(scene.say('trash.broughtBack', { n: '3' }, 3), { exact: true }).waitFor();
      await scene.until('four versions', async () => ((await boxes.count()) === 4 ? true : null));
      assert.deepEqual(await counts(), [4, 0]);
      await scene.looksWell('versions-back');
    }

    /** How many versions there are, and how many in the trash. */
    async function counts(): Promise<number[]> {
      const [repository] = await scene.api.get<Named[]>('/repositories');
      const path = `/points?repositoryId=${repository?.id ?? ''}`;
      const lists = await Promise.all(
        [path, `${path}&trash=true`].map((query) => scene.api.get<{ points: unknown[] }>(query)),
      );
      return lists.map(({ points }) => points.length);
    }

    async function openTasks(): Promise<void> {
      await scene.goTo('machines');
      await scene.page.getByRole('tab', { name: scene.say('task.tasks'), exact: true }).click();
      await scene.page.getByRole('article').first().waitFor();
    }

    /** By the menu of a task. */
    async function act(task: string, action: string): Promise<void> {
      await scene.button(scene.say('task.actionsOf', { name: task })).click();
      const menu = scene.page.locator('.q-menu');
      await menu.getByText(scene.say(action), { exact: true }).click();
      await menu.waitFor({ state: 'detached' });
    }

    /** Of a task that is open, by its head. */
    async function step(name: TaskStep): Promise<void> {
      const head = scene.page.locator('.q-stepper__tab', { hasText: scene.say(`task.step.${name}`) });
      await head.first().click();
    }

    /** Waits until these runs are listed, in this order. */
    async function lists(ids: string[]): Promise<void> {
      const links = scene.page.locator('main .q-list a[href^="#/activities/"]');
      const wanted = ids.map((id) => `#/activities/${id}`).join();
      await scene.until(`these runs are listed: ${wanted}`, async () =>
        (await links.evaluateAll((list) => list.map((link) => link.getAttribute('href')).join())) === wanted
          ? true
          : null,
      );
    }
  });
}
