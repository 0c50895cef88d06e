import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';

import { FakeSourceHost } from '../../test/fakes/fake-source-host.ts';
import { MemoryRepository } from '../../test/fakes/memory-repository.ts';
import { runBackup } from '../backup/index.ts';
import type { LogLine, MachineProgress } from '../contract/run.ts';
import { AppError } from '../errors/index.ts';
import type { MachineSummary } from '../source/index.ts';
import { KIB, MIB, silentLogger, systemClock } from '../runtime/index.ts';

import { RESTORE_ARROWS, runRestore, type RestoreHooks, type RestoreTask } from './index.ts';

async function setUp(options: { excluded?: boolean } = {}) {
  const source = new FakeSourceHost();
  const repository = new MemoryRepository();
  const machine = source.addMachine('web');
  const content = Buffer.alloc(12 * MIB);
  randomBytes(6 * MIB).copy(content, 3 * MIB);
  machine.addDisk('scsi0:0', content);
  machine.addDisk('scsi0:1', randomBytes(700 * KIB + 512));
  if (options.excluded === true) {
    const { disk } = machine.diskAt('scsi0:1');
    machine.disks.delete('scsi0:1');
    machine.excluded = [{ disk, reason: 'independent' }];
  }
  const deps = { source, repository, clock: systemClock, logger: silentLogger };
  const lines: LogLine[] = [];
  const progress: MachineProgress[] = [];
  const hooks = {
    progress: (step: MachineProgress) => void progress.push(step),
    log: (line: LogLine) => void lines.push(line),
    signal: new AbortController().signal,
  };
  const backup = await runBackup(
    deps,
    {
      runId: 'b1',
      hold: 'dozo-00000000000000b1',
      machineId: 'm1',
      identity: machine.identity,
      repository: { path: '/nowhere' },
      options: { quiesce: 'off', fullRead: false, verifySample: 0, nfsStaging: null, excludedDisks: [] },
    },
    hooks,
  );
  const frozen = new Map([...machine.disks].map(([key, disk]) => [key, Buffer.from(disk.content)]));
  const back = (target: Partial<RestoreTask['target']> = {}, more: Partial<RestoreHooks> = {}) =>
    runRestore(
      deps,
      {
        runId: 'r1',
        hold: 'dozo-00000000000000a1',
        repository: { path: '/nowhere' },
        pointId: backup.pointId ?? '',
        target: {
          mode: { kind: 'new', name: 'web-restored' },
          datastore: null,
          provisioning: 'as-source',
          networks: {},
          identity: 'new',
          powerOn: false,
          ...target,
        },
      },
      { ...hooks, ...more },
    );
  /** The guest goes on writing after the backup: what a failed restore must not touch. */
  machine.diskAt('scsi0:0').write(0, randomBytes(MIB));
  const now = new Map([...machine.disks].map(([key, disk]) => [key, Buffer.from(disk.content)]));
  const assertOriginalUntouched = () => {
    assert.deepEqual(
      source.machines.map(({ identity }) => identity.name),
      ['web'],
    );
    for (const [key, before] of now) assert.ok(machine.diskAt(key).content.equals(before));
    assert.equal(source.targets.size, 0);
  };
  return { source, machine, repository, back, frozen, lines, progress, assertOriginalUntouched };
}

describe('a restore', () => {
  test('makes a new machine with the bytes of the version, verified on the host', async () => {
    const { source, back, frozen, progress } = await setUp();

    const result = await back();

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    const restored = source.machines.find(({ identity }) => identity.name === 'web-restored');
    for (const [key, content] of frozen) assert.ok(restored?.diskAt(key).content.equals(content), key);
    assert.equal(result.writtenBytes, result.verifiedBytes);
    assert.ok(result.writtenBytes >= 6 * MIB + 700 * KIB && result.writtenBytes < 7 * MIB);
    assert.equal(result.holdReleased, true);
    assert.equal(progress.at(-1)?.doneBytes, progress.at(-1)?.totalBytes);
    const counted = progress.filter(({ stage }) => stage === 'writing' || stage === 'verifying');
    assert.deepEqual([...new Set(counted.map(({ totalBytes }) => totalBytes))], [result.writtenBytes]);
    for (const stage of ['writing', 'verifying']) {
      assert.equal(counted.find((step) => step.stage === stage)?.doneBytes, 0, `${stage} begins at the beginning`);
    }
    assert.deepEqual(
      counted.at(-1)?.disks.map(({ label }) => label),
      ['Hard disk scsi0:0', 'Hard disk scsi0:1'],
    );
  });

  test('takes the place of the original, which keeps its identity', async () => {
    const { source, machine, back, frozen } = await setUp();

    const result = await back({ mode: { kind: 'replace', identity: machine.identity }, identity: 'keep' });

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.equal(source.machines.length, 1);
    assert.equal(source.machines[0]?.identity.instanceUuid, machine.identity.instanceUuid);
    assert.ok(source.machines[0]?.diskAt('scsi0:0').content.equals(frozen.get('scsi0:0') ?? Buffer.alloc(0)));
  });

  test('finds a bit that the host changed on the way, and leaves the original alone', async () => {
    const { source, machine, back, assertOriginalUntouched } = await setUp();
    source.faults.targetFlipAtBytes = 4 * MIB + 17;

    const result = await back({ mode: { kind: 'replace', identity: machine.identity } });

    assert.deepEqual([result.state, result.error?.code], ['failed', 'DISK_VERIFY_FAILED']);
    assertOriginalUntouched();
    assert.equal(result.holdReleased, true);
  });

  test('leaves the original alone when writes, the swap or the start fail', async () => {
    const { source, machine, back, assertOriginalUntouched } = await setUp();
    const replace = { mode: { kind: 'replace' as const, identity: machine.identity } };
    source.faults.targetWriteAfterBytes = 5 * MIB;
    assert.equal((await back(replace)).error?.code, 'DISK_WRITE_FAILED');
    assertOriginalUntouched();

    source.faults.targetWriteAfterBytes = null;
    source.faults.finish = [new AppError('RESTORE_MACHINE_RUNNING', 'It is powered on.')];
    assert.equal((await back(replace)).error?.code, 'RESTORE_MACHINE_RUNNING');
    assertOriginalUntouched();

    source.faults.createTarget = [new AppError('DATASTORE_FULL', 'datastore1 has 1 GiB left.')];
    assert.equal((await back(replace)).error?.code, 'DATASTORE_FULL');
    assertOriginalUntouched();
  });

  test('leaves the original alone when cut after each step, and works when run again', async () => {
    const { source, machine, back, frozen, assertOriginalUntouched } = await setUp();
    const replace = { mode: { kind: 'replace' as const, identity: machine.identity } };
    for (const arrow of RESTORE_ARROWS.filter((name) => name !== 'finished')) {
      const cut = (name: string) => {
        if (name === arrow) throw new Error(`cut after ${name}`);
      };
      assert.equal((await back(replace, { arrow: cut })).state, 'failed', arrow);
      assertOriginalUntouched();
    }

    const result = await back(replace);

    assert.equal(result.state, 'success');
    assert.ok(source.machines[0]?.diskAt('scsi0:0').content.equals(frozen.get('scsi0:0') ?? Buffer.alloc(0)));
  });

  for (const kind of ['new', 'replace'] as const) {
    test(`knows its own machine (${kind}) when it was cut after that stood`, async () => {
      const { source, machine, back, frozen, lines } = await setUp();
      const mode = kind === 'new' ? { kind, name: 'web-restored' } : { kind, identity: machine.identity };
      const cut = (name: string) => {
        if (name === 'finished') throw new Error('cut after finished');
      };
      await back({ mode }, { arrow: cut });
      const stands = [...source.machines];
      source.faults.createTarget = [new AppError('DATASTORE_FULL', 'Nothing may be written again.')];

      const result = await back({ mode });

      assert.equal(result.state, 'success', JSON.stringify(result.error));
      assert.deepEqual(source.machines, stands);
      assert.equal((result.machine as MachineSummary).hostId, stands.at(-1)?.hostId);
      assert.ok(
        stands
          .at(-1)
          ?.diskAt('scsi0:0')
          .content.equals(frozen.get('scsi0:0') ?? Buffer.alloc(0)),
      );
      assert.ok(lines.some((line) => line.code === 'RESTORE_FINISHED_BEFORE'));
    });
  }

  test('ends on cancel with nothing left', async () => {
    const { source, back, assertOriginalUntouched } = await setUp();
    const cancel = new AbortController();
    const progress = (step: MachineProgress) => {
      if (step.stage === 'writing') cancel.abort();
    };

    const result = await back({}, { signal: cancel.signal, progress });

    assert.deepEqual([result.state, result.error?.code], ['cancelled', 'CANCELLED']);
    assertOriginalUntouched();
    assert.equal(source.machines.length, 1);
  });

  test('refuses an incomplete version unless asked for what it holds', async () => {
    const { source, back, frozen } = await setUp({ excluded: true });

    const refused = await back();
    const accepted = await back({ acceptIncomplete: true });

    assert.deepEqual([refused.state, refused.error?.code], ['failed', 'POINT_INCOMPLETE']);
    assert.match(refused.error?.message ?? '', /independent/);
    assert.equal(accepted.state, 'warning', JSON.stringify(accepted.error));
    const restored = source.machines.find(({ identity }) => identity.name === 'web-restored');
    assert.deepEqual([...(restored?.disks.keys() ?? [])], ['scsi0:0']);
    assert.ok(restored?.diskAt('scsi0:0').content.equals(frozen.get('scsi0:0') ?? Buffer.alloc(0)));
  });

  test('names a taken name and a version that is not there', async () => {
    const { back, repository } = await setUp();

    assert.equal((await back({ mode: { kind: 'new', name: 'web' } })).error?.code, 'RESTORE_NAME_TAKEN');
    repository.points.length = 0;
    assert.equal((await back()).error?.code, 'POINT_NOT_FOUND');
  });

  test('says when the host may not be clean', async () => {
    const { source, back, lines } = await setUp();
    source.faults.finish = [new AppError('HOST_CONNECTION_LOST', 'Gone.')];
    source.sweep = () => Promise.reject(new AppError('HOST_UNREACHABLE', 'No route to host.'));

    const result = await back();

    assert.equal(result.state, 'failed');
    assert.equal(result.holdReleased, false);
    assert.ok(lines.some((line) => line.code === 'RESTORE_LEFT' || line.code === 'HOST_UNREACHABLE'));
  });

  test('keeps its hold when a datastore does not answer, on which the original may wait', async () => {
    const { source, back, lines } = await setUp();
    source.faults.finish = [new AppError('HOST_COMMAND_FAILED', 'Gone.')];
    source.faults.unseen = ['usb'];

    const result = await back();

    assert.deepEqual([result.state, result.holdReleased], ['failed', false]);
    assert.match(lines.find((line) => line.code === 'RESTORE_LEFT')?.text ?? '', /datastore usb does not answer/);
  });
});
