import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Answer, fakeMachine, ServerLab } from './server-lab.ts';

const PASSPHRASE = 'a passphrase of some length';

describe('configuration', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  const other = new ServerLab();
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;

  before(async () => {
    await Promise.all([lab.start(), other.start()]);
    ids = await lab.setUp();
    await lab.call('PUT', `/jobs/${ids.jobId}/schedule`, {
      timeZone: 'Europe/Berlin',
      rules: [{ rule: { kind: 'daily', time: '22:00' } }],
    });
    await lab.call('PATCH', '/notifications/settings', {
      mailServer: { host: 'mail.example.test', from: 'dozo@example.test', user: 'dozo', password: 'mail secret' },
      windowUrl: 'https://nas:5510',
    });
    await lab.call('POST', '/notifications/recipients', {
      name: 'chat',
      jobIds: [ids.jobId],
      channel: { kind: 'webhook', format: 'slack', url: 'https://hooks.example.test/path-secret' },
    });
    await lab.call('PATCH', '/settings', { keepRunsDays: 77 });
  });
  after(async () => {
    await lab.destroy();
    await other.destroy();
  });

  const importInto = (server: ServerLab, body: object): Promise<Answer> =>
    server.call('POST', '/configuration/import', body);
  const outcomes = (report: Answer): string[] =>
    report.items.map(
      (item: { kind: string; name: string; outcome: string }) => `${item.kind} ${item.name} ${item.outcome}`,
    );

  it('holds no secret without a passphrase, and none that can be read with one', async () => {
    const open = await lab.call('POST', '/configuration/export', {});
    const sealed = await lab.call('POST', '/configuration/export', { passphrase: PASSPHRASE });

    assert.equal(open.secrets, null);
    assert.notEqual(sealed.secrets, null);
    for (const document of [open, sealed]) {
      assert.doesNotMatch(JSON.stringify(document), /secret of the host|mail secret|path-secret/);
      // Nor ids, which mean nothing elsewhere.
      for (const id of [ids.hostId, ids.repositoryId, ids.jobId, ...ids.machineIds]) {
        assert.ok(!JSON.stringify(document).includes(id), id);
      }
    }
    assert.equal(
      (await lab.send('/configuration/export', { method: 'POST', body: { passphrase: 'short' } })).status,
      400,
    );
  });

  it('goes over to another installation, which then is set up the same', async () => {
    const document = await lab.call('POST', '/configuration/export', { passphrase: PASSPHRASE });
    // It had been to come when the document was made.
    const passed = { rule: { kind: 'once', at: '2020-02-29T22:00' } };
    document.jobs[0].schedule.rules.push(passed);
    const wrong = await other.send('/configuration/import', {
      method: 'POST',
      body: { document, passphrase: 'another passphrase' },
    });
    assert.equal(wrong.status, 400);
    assert.equal(wrong.json.code, 'INPUT_INVALID');
    const dry = await importInto(other, { document, passphrase: PASSPHRASE, dryRun: true });
    assert.deepEqual(await other.call('GET', '/hosts'), []);
    const report = await importInto(other, { document, passphrase: PASSPHRASE });

    const expected = [
      'settings settings changed',
      'host 192.0.2.1 added',
      'repository store added',
      'job nightly added',
      'notification notification changed',
      'recipient NAS skipped',
      'recipient chat added',
    ];
    const sorted = (list: string[]): string[] => [...list].sort();
    assert.deepEqual(sorted(outcomes(dry)), sorted(expected));
    assert.deepEqual(sorted(outcomes(report)), sorted(expected), JSON.stringify(report));
    const [job] = await other.call('GET', '/jobs');
    const machines = await other.call('GET', '/machines');
    assert.deepEqual(
      job.machineIds.map((id: string) => machines.find((machine: { id: string }) => machine.id === id)?.name),
      ['one', 'two'],
    );
    assert.equal(job.schedule.timeZone, 'Europe/Berlin');
    assert.deepEqual(job.schedule.rules[1], passed);
    assert.equal((await other.call('GET', '/settings')).keepRunsDays, 77);
    const settings = await other.call('GET', '/notifications/settings');
    assert.deepEqual([settings.mailServer.hasPassword, settings.windowUrl], [true, 'https://nas:5510']);
    const chat = (await other.call('GET', '/notifications/recipients')).find(
      ({ name }: { name: string }) => name === 'chat',
    );
    assert.deepEqual([chat.jobIds, chat.channel.origin], [[job.id], 'https://hooks.example.test']);

    // It works: the machines of the document are those that the host lists, and not others beside them.
    await other.until(async () => {
      const all = await other.call('GET', '/machines');
      return all.length === 2 && all.every(({ present }: { present: boolean }) => present) ? true : null;
    }, 'the machines');
    const run = await other.waitForRun((await other.call('POST', `/jobs/${job.id}/run`, {})).id);
    assert.equal(run.state, 'success');
    assert.equal(run.parts.length, 2);
  });

  it('changes nothing that is there when it is imported again, and says so', async () => {
    const document = await lab.call('POST', '/configuration/export', {});
    const report = await importInto(other, { document });
    const skipped = report.items.filter(({ outcome }: { outcome: string }) => outcome === 'skipped');
    assert.equal(skipped.length, 5);
    for (const { reason } of skipped) assert.match(reason, /already/);
    assert.equal((await other.call('GET', '/jobs')).length, 1);
    // What the mail server's password was is not forgotten for want of it in the document.
    assert.equal((await other.call('GET', '/notifications/settings')).mailServer.hasPassword, true);
  });

  it('refuses or reports what is not a configuration', async () => {
    const document = await lab.call('POST', '/configuration/export', { passphrase: PASSPHRASE });
    const refuse = async (body: object): Promise<void> => {
      assert.equal((await other.send('/configuration/import', { method: 'POST', body })).status, 400);
    };
    await refuse({ document: { ...document, version: 2 } });
    await refuse({
      document: { ...document, secrets: { ...document.secrets, cost: 2 ** 30 } },
      passphrase: PASSPHRASE,
    });
    await refuse({ document: 'text' });
    const report = await importInto(other, {
      document: {
        ...document,
        settings: { keepRunsDays: -1 },
        jobs: [
          { ...document.jobs[0], name: 'elsewhere', repositoryId: '@repository:gone' },
          { ...document.jobs[0], name: 'strange', machineIds: ['@machine:99'] },
          { ...document.jobs[0], name: 'newer', somethingNew: true },
        ],
      },
    });
    const reasons: Answer = Object.fromEntries(report.items.map((item: Answer) => [item.name, item.reason]));
    assert.match(reasons.settings, /keepRunsDays/);
    assert.match(reasons.elsewhere, /no repository "gone"/);
    assert.match(reasons.strange, /no machine/);
    assert.match(reasons.newer, /somethingNew|[Uu]nrecognized/);
    assert.equal((await other.call('GET', '/jobs')).length, 1);
  });

  it('tells machines apart that have the UUIDs of another', async () => {
    const identity = (folder: string): object => {
      const diskUuids = [`disk of ${folder}`];
      return {
        name: 'copy',
        instanceUuid: 'one for both',
        biosUuid: 'one for both',
        path: `[ds] ${folder}/copy.vmx`,
        diskUuids,
      };
    };
    const document = await lab.call('POST', '/configuration/export', {});
    const machines = ['a', 'b', 'c'].map((folder) => ({ identity: identity(folder), host: null }));
    const namedAfter = (word: string): object => ({
      ...document,
      machines,
      jobs: machines.map((_, index) => ({
        ...{ ...document.jobs[0], name: `${word} ${index}`, selection: null, schedule: null },
        machineIds: [`@machine:${index}`],
      })),
    });
    const idsOf = async (word: string): Promise<string[]> => {
      const jobs: Answer[] = await other.call('GET', '/jobs');
      return machines.map((_, index) => jobs.find(({ name }) => name === `${word} ${index}`)?.machineIds[0]);
    };
    await importInto(other, { document: namedAfter('first') });
    await importInto(other, { document: namedAfter('second') });
    const first = await idsOf('first');
    assert.equal(new Set(first).size, 3, first.join(' '));
    assert.deepEqual(await idsOf('second'), first);
  });

  it('takes over what ghettoVCB was told to do, and says what not', async () => {
    lab.script({ machines: [fakeMachine('one', 1), fakeMachine('two', 2), fakeMachine('ｗｅｂ サーバー', 3)] });
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    const body = {
      name: 'from ghettoVCB',
      repositoryId: ids.repositoryId,
      configuration: [
        '# a comment',
        'VM_BACKUP_VOLUME=/vmfs/volumes/backup',
        'VM_BACKUP_ROTATION_COUNT=3',
        'VM_SNAPSHOT_QUIESCE=0   # none',
        'POWER_VM_DOWN_BEFORE_BACKUP=1',
        'EMAIL_USER_PASSWORD="mail secret"',
        'MADE_UP="$(reboot)"',
        'VMDK_FILES_TO_BACKUP="all"',
      ].join('\r\n'),
      machines: '\ufeffone\r\n# two\r\n\r\nｗｅｂ サーバー\r\nnot there\r\n',
    };
    const dry = await lab.call('POST', '/configuration/import/ghettovcb', { ...body, dryRun: true });
    assert.equal(dry.jobId, null);
    const report = await lab.call('POST', '/configuration/import/ghettovcb', body);

    assert.deepEqual(
      report.settings.map(({ key, outcome }: { key: string; outcome: string }) => `${key} ${outcome}`),
      [
        'VM_BACKUP_VOLUME replaced',
        'VM_BACKUP_ROTATION_COUNT taken',
        'VM_SNAPSHOT_QUIESCE taken',
        'POWER_VM_DOWN_BEFORE_BACKUP ignored',
        'EMAIL_USER_PASSWORD ignored',
        'MADE_UP ignored',
        'VMDK_FILES_TO_BACKUP taken',
      ],
    );
    assert.doesNotMatch(JSON.stringify(report), /mail secret/);
    assert.deepEqual(
      report.machines.map((machine: Answer) => [machine.line, machine.machineId !== null]),
      [
        ['one', true],
        ['ｗｅｂ サーバー', true],
        ['not there', false],
      ],
    );
    const job = (await lab.call('GET', '/jobs')).find(({ id }: { id: string }) => id === report.jobId);
    assert.deepEqual([job.options.quiesce, job.options.retention.last, job.machineIds.length], ['off', 3, 2]);
    const again = await lab.send('/configuration/import/ghettovcb', { method: 'POST', body });
    assert.equal(again.json.code, 'CONFLICT');
  });
});
