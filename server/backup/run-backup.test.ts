import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { randomBytes } from 'node:crypto';

import { AppError } from '../errors/index.ts';
import { KIB, MIB, silentLogger, systemClock } from '../runtime/index.ts';
import type { LogLine, MachineProgress } from '../contract/run.ts';
import { FakeSourceHost, type FakeMachine } from '../../test/fakes/fake-source-host.ts';
import { MemoryRepository } from '../../test/fakes/memory-repository.ts';

import { runBackup, type BackupHooks, type BackupTask } from './index.ts';

let holds = 0;

function setUp() {
  const source = new FakeSourceHost();
  const repository = new MemoryRepository();
  const machine = source.addMachine('web');
  const content = Buffer.alloc(4 * MIB);
  randomBytes(MIB).copy(content, MIB);
  machine.addDisk('scsi0:0', content);
  const data = machine.addDisk('scsi0:1', randomBytes(700 * KIB + 512));
  const deps = { source, repository, clock: { ...systemClock, sleep: () => Promise.resolve() }, logger: silentLogger };
  const lines: LogLine[] = [];
  const progress: MachineProgress[] = [];
  const back = (options: Partial<BackupTask['options']> = {}, hooks: Partial<BackupHooks> = {}, hold = newHold()) =>
    runBackup(deps, taskFor(machine, options, hold), {
      progress: (step) => progress.push(step),
      log: (line) => lines.push(line),
      signal: new AbortController().signal,
      ...hooks,
    });
  const stored = (key: string, index = -1) => repository.points.at(index)?.disks.get(key);
  return { source, repository, machine, data, back, lines, progress, stored, deps };
}

function newHold(): string {
  holds += 1;
  return `dozo-${holds.toString(16).padStart(16, '0')}`;
}

function taskFor(machine: FakeMachine, options: Partial<BackupTask['options']>, hold: string): BackupTask {
  return {
    runId: `run-${hold}`,
    hold,
    machineId: 'm1',
    identity: machine.identity,
    repository: { path: '/nowhere' },
    options: {
      quiesce: 'try',
      fullRead: false,
      verifySample: 0,
      nfsStaging: null,
      excludedDisks: [],
      ...options,
    },
  };
}

describe('a backup', () => {
  test('stores every disk as it was frozen, reads only what is allocated, and thaws', async () => {
    const { source, machine, back, stored, progress, lines, repository } = setUp();

    const result = await back();

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    for (const key of ['scsi0:0', 'scsi0:1']) assert.ok(stored(key)?.equals(machine.diskAt(key).content));
    assert.equal(source.snapshots.size, 0);
    assert.equal(result.holdReleased, true);
    assert.ok(source.takeReadBytes() < 2 * MIB);
    assert.deepEqual(
      result.disks.map((disk) => disk.kind),
      ['allocated', 'allocated'],
    );
    assert.equal(repository.points[0]?.manifest.state, 'complete');
    for (const { label, why } of result.disks) {
      assert.ok(
        lines.some(({ code, text }) => code === why.code && text === `${label}: ${why.text}`),
        `the log says of ${label} why it was read so`,
      );
    }
    const last = progress.at(-1);
    assert.equal(last?.stage, 'done');
    assert.equal(last.doneBytes, last.totalBytes);
    assert.ok(last.totalBytes > 0);
  });

  test('reads only what changed since the last version, which it builds on', async () => {
    const { source, machine, back, stored } = setUp();
    await back();
    source.takeReadBytes();
    machine.diskAt('scsi0:0').write(3 * MIB + 5, randomBytes(1000));

    const result = await back();

    assert.equal(result.state, 'success');
    assert.equal(source.takeReadBytes(), 64 * KIB);
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
    assert.equal(result.disks[0]?.kind, 'changed');
  });

  test('reads all that is allocated when told to, although a change map is there', async () => {
    const { source, back, lines } = setUp();
    await back();
    source.takeReadBytes();

    const result = await back({ fullRead: true });

    assert.deepEqual([result.state, result.disks[0]?.kind], ['success', 'allocated']);
    assert.equal(source.takeReadBytes(), MIB + 700 * KIB + 512);
    assert.ok(lines.some((line) => line.code === 'DISK_DONE'));
  });

  test('tells each step on the way, in order', async () => {
    const { back, lines } = setUp();
    await back();

    const steps = ['SNAPSHOT_STARTED', 'SNAPSHOT_TAKEN', 'DISK_DONE', 'VERSION_MADE', 'SNAPSHOT_REMOVED'];
    const told = lines.map(({ code }) => code).filter((code) => steps.includes(code));
    assert.deepEqual(
      told.filter((code, index) => code !== told[index - 1]),
      steps,
    );
  });

  test('finds a change map that hides changes, reads all and distrusts the token', async () => {
    const { source, machine, back, stored, lines, repository } = setUp();
    await back();
    machine.diskAt('scsi0:0').write(0, randomBytes(MIB));
    source.faults.changeMap = () => [];

    const result = await back({ verifySample: 0.3 });

    assert.equal(result.state, 'warning');
    assert.ok(lines.some((line) => line.code === 'CHANGE_MAP_INVALID'));
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
    assert.equal(result.disks[0]?.kind, 'everything');
    assert.equal(repository.points.at(-1)?.manifest.disks[0]?.changeToken, null);
    assert.equal(repository.points.at(-1)?.manifest.state, 'complete');
  });

  test('reads in full what a map outside the disk would leave unclear', async () => {
    const { source, machine, back, stored } = setUp();
    await back();
    machine.diskAt('scsi0:0').write(0, randomBytes(4096));
    source.faults.changeMap = () => [{ offsetBytes: 64 * MIB, lengthBytes: 512 }];

    const result = await back();

    assert.equal(result.state, 'warning');
    assert.equal(result.disks[0]?.kind, 'everything');
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
  });

  test('goes on after cuts and after a transfer that ends early, reading nothing twice', async () => {
    const { source, machine, back, stored, lines } = setUp();
    const lost = () => new AppError('HOST_CONNECTION_LOST', 'The connection broke.');
    source.faults.cuts = [
      { afterBytes: 256 * KIB, error: lost() },
      { afterBytes: 256 * KIB, error: 'short' },
      { afterBytes: 128 * KIB, error: lost() },
    ];

    const result = await back();

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.equal(source.takeReadBytes(), MIB + 700 * KIB + 512);
    assert.equal(lines.filter((line) => line.code === 'TRANSFER_RESUMED').length, 3);
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
  });

  test('makes no version where the source says only after the last byte that the disk did not stand still', async () => {
    const { source, back, repository } = setUp();
    const error = new AppError('MACHINE_STATE_CHANGED', 'It was switched on.');
    source.faults.cuts = [{ key: 'scsi0:0', afterBytes: MIB, error }];

    const result = await back();

    assert.equal(result.error?.code, 'MACHINE_STATE_CHANGED', result.state);
    assert.equal(repository.points.length, 0);
    assert.equal(result.holdReleased, true);
  });

  test('asks for no byte again when the connection breaks after the last one', async () => {
    const { source, machine, back, stored } = setUp();
    const error = new AppError('HOST_CONNECTION_LOST', 'The connection broke.');
    source.faults.cuts = [{ key: 'scsi0:0', afterBytes: MIB, error }];

    const result = await back();

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.equal(source.takeReadBytes(), MIB + 700 * KIB + 512);
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
  });

  test('fails with the code of a connection that stays away, and thaws', async () => {
    const { source, back, repository } = setUp();
    const error = new AppError('HOST_CONNECTION_LOST', 'The connection broke.');
    source.faults.cuts = Array.from({ length: 20 }, () => ({ afterBytes: 0, error }));

    const result = await back();

    assert.equal(result.state, 'failed');
    assert.equal(result.error?.code, 'HOST_CONNECTION_LOST');
    assert.equal(repository.points.length, 0);
    assert.equal(source.snapshots.size, 0);
    assert.equal(result.holdReleased, true);
  });

  test('commits what is whole when one disk cannot be read, and says which', async () => {
    const { source, machine, back, stored, repository } = setUp();
    source.faults.unreadable.set('scsi0:1', new AppError('DISK_READ_REFUSED', 'Device or resource busy.'));

    const result = await back();

    assert.equal(result.state, 'incomplete');
    assert.equal(result.error, null);
    const { manifest } = repository.points[0] ?? {};
    assert.equal(manifest?.state, 'incomplete');
    assert.match(manifest.stateReasons.join(), /Hard disk scsi0:1.*busy/);
    assert.deepEqual(
      manifest.disks.map((disk) => disk.key),
      ['scsi0:0'],
    );
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
    assert.equal(result.disks.find((disk) => disk.key === 'scsi0:1')?.kind, 'failed');
  });

  test('takes the good disk of an incomplete version as a base, and reads the other in full', async () => {
    const { source, machine, back, stored } = setUp();
    source.faults.plan.set('scsi0:1', new AppError('DISK_DESCRIPTOR_INVALID', 'No extent line.'));
    await back();
    source.faults.plan.clear();
    source.takeReadBytes();

    const result = await back();

    assert.equal(result.state, 'success');
    assert.equal(source.takeReadBytes(), 700 * KIB + 512);
    assert.ok(stored('scsi0:1')?.equals(machine.diskAt('scsi0:1').content));
  });

  test('commits nothing when no disk is whole', async () => {
    const { source, back, repository } = setUp();
    for (const key of ['scsi0:0', 'scsi0:1']) {
      source.faults.unreadable.set(key, new AppError('DISK_READ_REFUSED', 'Device or resource busy.'));
    }

    const result = await back();

    assert.equal(result.state, 'failed');
    assert.equal(result.error?.code, 'DISK_READ_REFUSED');
    assert.equal(repository.points.length, 0);
    assert.equal(source.snapshots.size, 0);
  });

  test('names a disk that snapshots leave out and marks the version incomplete', async () => {
    const { machine, back, repository } = setUp();
    const { disk } = machine.diskAt('scsi0:1');
    machine.disks.delete('scsi0:1');
    machine.excluded = [{ disk, reason: 'independent' }];

    const result = await back();
    const byChoice = await back({ excludedDisks: ['scsi0:1'] });

    assert.equal(result.state, 'incomplete');
    assert.match(repository.points[0]?.manifest.stateReasons[0] ?? '', /independent mode/);
    assert.equal(byChoice.state, 'success');
    assert.equal(repository.points[1]?.manifest.state, 'complete');
  });

  test('warns when the guest was not made quiet although that was to be tried', async () => {
    const { source, back } = setUp();
    source.faults.quiesceRefused = true;

    const tried = await back({ quiesce: 'try' });
    const off = await back({ quiesce: 'off' });
    const required = await back({ quiesce: 'require' });

    assert.deepEqual([tried.state, tried.consistency?.level], ['warning', 'crash']);
    assert.equal(off.state, 'success');
    assert.deepEqual([required.state, required.error?.code], ['failed', 'SNAPSHOT_QUIESCE_REFUSED']);
    assert.equal(source.snapshots.size, 0);
  });

  test('keeps the version but not the hold when the snapshot cannot be removed', async () => {
    const { source, back, lines, repository } = setUp();
    source.faults.thaw = [new AppError('SNAPSHOT_REMOVE_FAILED', 'Busy.')];
    source.faults.sweepFails = true;

    const result = await back();

    assert.equal(result.state, 'warning');
    assert.equal(result.holdReleased, false);
    assert.equal(repository.points.length, 1);
    assert.ok(lines.some((line) => line.code === 'SNAPSHOT_REMOVE_FAILED'));
  });

  test('keeps the hold when the machine is out of sight, and its VM snapshot with it', async () => {
    const { source, back } = setUp();
    source.faults.thaw = [new AppError('MACHINE_NOT_FOUND', 'Its datastore is away.')];
    source.faults.unseen = ['usb'];

    const result = await back();

    assert.deepEqual([result.state, result.holdReleased], ['warning', false]);
  });

  test('sweeps what thaw could not remove', async () => {
    const { source, back } = setUp();
    source.faults.thaw = [new AppError('SNAPSHOT_REMOVE_FAILED', 'Busy.')];

    const result = await back();

    assert.deepEqual([result.state, result.holdReleased], ['success', true]);
    assert.equal(source.snapshots.size, 0);
  });

  test('ends on cancel with nothing committed and nothing left', async () => {
    const { source, back, repository } = setUp();
    const cancel = new AbortController();
    source.faults.beforeDelivery = (_key, bytes) => {
      if (bytes > 300 * KIB) cancel.abort();
    };

    const result = await back({}, { signal: cancel.signal, checkpointEveryBytes: 128 * KIB });

    assert.equal(result.state, 'cancelled');
    assert.equal(result.error?.code, 'CANCELLED');
    assert.equal(repository.points.length, 0);
    assert.equal(source.snapshots.size, 0);
  });

  for (const code of ['STORAGE_FULL', 'STORAGE_READ_ONLY'] as const) {
    test(`fails clearly on ${code} while writing and while committing, and thaws`, async () => {
      const { source, back, repository } = setUp();
      for (const call of ['write', 'commit'] as const) {
        repository.failures.set(call, [new AppError(code, 'The repository takes nothing more.')]);

        const result = await back();

        assert.deepEqual([result.state, result.error?.code], ['failed', code]);
        assert.equal(repository.points.length, 0);
        assert.equal(source.snapshots.size, 0);
      }
    });
  }

  test('fails without a trace when the host cannot freeze', async () => {
    const { source, back } = setUp();
    source.faults.freeze = [new AppError('SNAPSHOT_NOT_TAKEN', 'The host said done, but there is no snapshot.')];

    const result = await back();

    assert.deepEqual([result.state, result.error?.code], ['failed', 'SNAPSHOT_NOT_TAKEN']);
    assert.equal(result.holdReleased, true);
  });

  test('goes on from the checkpoint while the snapshot stands, reading nothing twice', async () => {
    const { source, machine, back, stored, lines } = setUp();
    const hold = newHold();
    const all = MIB + 700 * KIB + 512;
    source.faults.beforeDelivery = (key, bytes) => (key === 'scsi0:0' && bytes > 600 * KIB ? never() : undefined);
    void back({}, { checkpointEveryBytes: 64 * KIB }, hold);
    await quiet(() => source.asked.reads.length);
    source.faults.beforeDelivery = null;
    const firstBytes = source.takeReadBytes();
    machine.diskAt('scsi0:0').write(0, randomBytes(MIB));
    const frozen = [...source.snapshots.values()][0]?.disks.map((disk) => disk.content) ?? [];

    const result = await back({}, {}, hold);

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.ok(firstBytes > MIB);
    assert.equal(firstBytes + source.takeReadBytes(), all);
    assert.ok(lines.some((line) => line.code === 'RUN_RESUMED'));
    assert.ok(frozen[0] !== undefined && stored('scsi0:0')?.equals(frozen[0]));
    assert.ok(frozen[1] !== undefined && stored('scsi0:1')?.equals(frozen[1]));
    assert.equal(source.asked.freezes, 1);
  });

  test('never mixes the data of two snapshots', async () => {
    const { source, machine, back, stored } = setUp();
    const hold = newHold();
    source.faults.beforeDelivery = (key, bytes) => (key === 'scsi0:0' && bytes > 600 * KIB ? never() : undefined);
    void back({}, { checkpointEveryBytes: 64 * KIB }, hold);
    await quiet(() => source.asked.reads.length);
    source.faults.beforeDelivery = null;
    source.faults.resumeUnavailable = true;
    machine.diskAt('scsi0:0').write(0, randomBytes(2 * MIB));

    const result = await back({}, {}, hold);

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
    assert.equal(source.asked.freezes, 2);
  });

  test('a repeated task whose version is committed only thaws', async () => {
    const { source, back, repository } = setUp();
    const hold = newHold();
    void back({}, { arrow: (name) => (name === 'committed' ? never() : undefined) }, hold);
    await quiet(() => repository.points.length);

    const result = await back({}, {}, hold);

    assert.deepEqual([result.state, result.holdReleased], ['success', true]);
    assert.equal(repository.points.length, 1);
    assert.equal(result.pointId, repository.points[0]?.manifest.pointId);
    assert.equal(source.snapshots.size, 0);
  });

  test('follows a disk that is added, grown, shrunk, moved to another slot and removed', async () => {
    const { source, machine, back, stored, lines } = setUp();
    await back();
    const system = machine.diskAt('scsi0:0');
    machine.addDisk('scsi0:2', randomBytes(MIB));
    system.resize(5 * MIB);
    randomBytes(MIB).copy(system.content, 4 * MIB);
    source.takeReadBytes();

    const grown = await back();

    assert.equal(grown.state, 'success');
    assert.equal(source.takeReadBytes(), 2 * MIB);
    for (const key of ['scsi0:0', 'scsi0:2']) assert.ok(stored(key)?.equals(machine.diskAt(key).content));

    system.resize(2 * MIB);
    const moved = machine.diskAt('scsi0:2');
    machine.disks.delete('scsi0:2');
    moved.disk = { ...moved.disk, key: 'scsi0:3' };
    machine.disks.set('scsi0:3', moved);
    machine.disks.delete('scsi0:1');
    const shrunk = await back();

    assert.equal(shrunk.state, 'success');
    assert.equal(source.takeReadBytes(), MIB);
    for (const key of ['scsi0:0', 'scsi0:3']) assert.ok(stored(key)?.equals(machine.diskAt(key).content));
    const codes = lines.map((line) => line.code);
    for (const code of ['DISK_ADDED', 'DISK_GROWN', 'DISK_SHRUNK', 'DISK_REMOVED']) assert.ok(codes.includes(code));
  });

  test('reads the machine in full when its last version is damaged beyond use', async () => {
    const { machine, back, stored, repository, lines } = setUp();
    await back();
    repository.failures.set('openDisk', [
      new AppError('REPOSITORY_CHUNK_DAMAGED', 'A page has a wrong hash.'),
      new AppError('REPOSITORY_CHUNK_DAMAGED', 'A page has a wrong hash.'),
    ]);

    const result = await back();

    assert.equal(result.state, 'warning');
    assert.ok(lines.some((line) => line.code === 'BASE_UNREADABLE'));
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
  });

  test('completes the disk from the living machine when the base fails at the end', async () => {
    const { machine, back, stored, repository } = setUp();
    await back();
    machine.diskAt('scsi0:0').write(0, randomBytes(512));
    repository.failures.set('finish', [new AppError('REPOSITORY_CHUNK_DAMAGED', 'A chunk has a wrong hash.')]);

    const result = await back();

    assert.equal(result.state, 'warning');
    assert.ok(result.disks.some((disk) => disk.kind === 'everything'));
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
  });

  test('lists a damaged manifest as a warning and uses the version before', async () => {
    const { machine, back, stored, repository, source } = setUp();
    await back();
    await back();
    repository.damaged.add(repository.points[1]?.manifest.pointId ?? '');
    machine.diskAt('scsi0:0').write(0, randomBytes(512));
    source.takeReadBytes();

    const result = await back();

    assert.equal(result.state, 'warning');
    assert.equal(source.takeReadBytes(), 64 * KIB);
    assert.ok(stored('scsi0:0')?.equals(machine.diskAt('scsi0:0').content));
  });
});

function never(): Promise<never> {
  return new Promise(() => undefined);
}

/** Waits until a number above 0 stands still. */
async function quiet(number: () => number): Promise<void> {
  for (let last = -1; last !== number() || last <= 0;) {
    last = number();
    await systemClock.sleep(30);
  }
}
