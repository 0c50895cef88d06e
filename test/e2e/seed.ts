import { DatabaseSync } from 'node:sqlite';
import { jobOptionsSchema } from '../../server/contract/api/job.schema.ts';
import { scheduleSchema } from '../../server/contract/api/schedule.schema.ts';

export interface SeedSizes {
  hosts: number;
  machines: number;
  jobs: number;
  points: number;
  /** Besides `points`. */
  trashed: number;
  auditEntries: number;
  logLines: number;
}

/** A house far larger than any that Dozo is made for. */
export const LARGE: SeedSizes = {
  hosts: 200,
  machines: 5_000,
  jobs: 2_000,
  points: 100_000,
  trashed: 10_000,
  auditEntries: 20_000,
  logLines: 200_000,
};

const DAY_MS = 86_400_000;
const GIB = 2 ** 30;
/** Every so many runs fail, every so many have warnings. */
const FAILS_EVERY = 37;
const WARNS_EVERY = 11;

/**
 * Fills a catalogue that a server has made and left: hosts that nobody can reach, their machines, tasks, versions
 * and what ran in the last days. Schedules are due in days only and repeat nothing, so
 * that nothing begins by itself.
 */
export function seedCatalogue(path: string, sizes: SeedSizes, nowMs: number): void {
  const database = new DatabaseSync(path);
  try {
    database.exec('PRAGMA synchronous = OFF; BEGIN');
    const run = (sql: string): ((...values: (string | number | null)[]) => void) => {
      const statement = database.prepare(sql);
      return (...values) => void statement.run(...values);
    };
    const id = (kind: number, number: number): string =>
      (kind * 0x1_0000_0000 + number + 1).toString(16).padStart(16, '0');

    const addHost = run(
      `INSERT INTO hosts (id, name, host, ssh_port, https_port, user, auth, secret, checked_at_ms, created_at_ms)
       VALUES (?, ?, ?, 22, 443, 'root', 'password', 'sealed', ?, ?)`,
    );
    for (let host = 0; host < sizes.hosts; host += 1) {
      const name = `esxi-${String(host).padStart(3, '0')}.example`;
      addHost(id(1, host), name, `192.0.2.${host % 254}`, nowMs, nowMs);
    }

    const addMachine = run(
      `INSERT INTO machines (id, host_id, name, identity, summary, present, seen_at_ms) VALUES (?, ?, ?, ?, ?, 1, ?)`,
    );
    for (let machine = 0; machine < sizes.machines; machine += 1) {
      const name = `vm-${String(machine).padStart(5, '0')}`;
      const hostId = id(1, machine % sizes.hosts);
      const identity = { name, instanceUuid: null, biosUuid: null, path: `[ds1] ${name}/${name}.vmx`, diskUuids: [] };
      const disks = Array.from({ length: 1 + (machine % 3) }, (_, disk) => ({
        key: `scsi0:${disk}`,
        label: `Hard disk ${disk + 1}`,
        sizeBytes: (20 + (machine % 7) * 10) * GIB,
        datastore: 'ds1',
        path: `[ds1] ${name}/${name}_${disk}.vmdk`,
        diskUuid: null,
        provisioning: 'thin',
        excluded: null,
      }));
      const summary = {
        identity,
        hostId: String(machine),
        powerState: 'on',
        guest: 'Debian GNU/Linux 12 (64-bit)',
        hardwareVersion: 'vmx-20',
        changeTracking: true,
        toolsRunning: true,
        hasSnapshots: false,
        consolidationNeeded: false,
        annotation: '',
        networks: ['VM Network'],
        disks,
      };
      addMachine(id(2, machine), hostId, name, JSON.stringify(identity), JSON.stringify(summary), nowMs);
    }

    const stats = { points: sizes.points, packs: 90_000, chunks: 2e8, storedBytes: 9e12, nominalBytes: 9e13 };
    run(`INSERT INTO repositories (id, name, path, stats, seen_at_ms, created_at_ms) VALUES (?, 'main', ?, ?, ?, ?)`)(
      id(3, 0),
      '/nowhere/main',
      JSON.stringify(stats),
      nowMs,
      nowMs,
    );
    const addSize = run(
      'INSERT INTO repository_sizes (repository_id, day_ms, stored_bytes, nominal_bytes, points) VALUES (?, ?, ?, ?, ?)',
    );
    for (let day = 0; day < 60; day += 1) {
      const dayMs = Math.floor(nowMs / DAY_MS) * DAY_MS - day * DAY_MS;
      addSize(id(3, 0), dayMs, 9e12 - day * 6e10, 9e13 - day * 1e11, sizes.points - day * 1_000);
    }

    const addJob = run(
      `INSERT INTO jobs (id, name, repository_id, options, revision, created_at_ms, updated_at_ms)
       VALUES (?, ?, ?, ?, 1, ?, ?)`,
    );
    const addJobMachine = run('INSERT INTO job_machines (job_id, machine_id, position) VALUES (?, ?, ?)');
    const addSchedule = run('INSERT INTO job_schedules (job_id, schedule, done_until_ms) VALUES (?, ?, ?)');
    const options = JSON.stringify(jobOptionsSchema.parse({}));
    const dueDay = new Date(nowMs + 15 * DAY_MS).getUTCDate();
    const machinesOf = (job: number): number[] =>
      Array.from({ length: 2 }, (_, index) => job * 2 + index).filter((machine) => machine < sizes.machines);
    for (let job = 0; job < sizes.jobs; job += 1) {
      addJob(id(4, job), `task ${String(job).padStart(4, '0')}`, id(3, 0), options, nowMs, nowMs);
      for (const [position, machine] of machinesOf(job).entries()) addJobMachine(id(4, job), id(2, machine), position);
      const time = `${String(job % 24).padStart(2, '0')}:${String(job % 60).padStart(2, '0')}`;
      const rule = { kind: 'monthly', on: { kind: 'day', day: Math.min(dueDay, 28) }, time };
      const schedule = scheduleSchema.parse({ timeZone: 'UTC', rules: [{ rule }], retry: { times: 0 } });
      addSchedule(id(4, job), JSON.stringify(schedule), nowMs);
    }

    const addPoint = run(
      `INSERT INTO points (id, repository_id, machine_id, machine_name, created_at_ms, state, state_reasons, consistency,
         size_bytes, disks, trash) VALUES (?, ?, ?, ?, ?, 'complete', '[]', 'filesystem', ?, ?, ?)`,
    );
    const trash = JSON.stringify({ deletedAtMs: nowMs, keepUntilMs: nowMs + 14 * DAY_MS, reason: 'manual' });
    const pointDisks = JSON.stringify([
      { key: 'scsi0:0', label: 'Hard disk 1', sizeBytes: 40 * GIB, storedBytes: GIB / 8 },
    ]);
    for (let point = 0; point < sizes.points + sizes.trashed; point += 1) {
      const machine = point % sizes.machines;
      const atMs = nowMs - Math.floor(point / sizes.machines) * DAY_MS - (machine % 1_440) * 60_000;
      const name = `vm-${String(machine).padStart(5, '0')}`;
      addPoint(
        id(5, point),
        id(3, 0),
        id(2, machine),
        name,
        atMs,
        40 * GIB,
        pointDisks,
        point < sizes.points ? null : trash,
      );
    }

    const addRun = run(
      `INSERT INTO runs (id, kind, job_id, repository_id, title, state, created_at_ms, started_at_ms, finished_at_ms,
         started_by, noticed) VALUES (?, 'backup', ?, ?, ?, ?, ?, ?, ?, 'schedule', 1)`,
    );
    const addPart = run(
      `INSERT INTO run_parts (id, run_id, position, machine_id, host_id, name, state, task, started_at_ms,
         finished_at_ms, result) VALUES (?, ?, ?, ?, ?, ?, ?, '{}', ?, ?, ?)`,
    );
    const addLine = run(
      `INSERT INTO log_lines (run_id, source, sequence, at_ms, level, code, text) VALUES (?, 'seed', ?, ?, ?, ?, ?)`,
    );
    const runCount = sizes.jobs * 10;
    const linesPerRun = Math.floor(sizes.logLines / runCount);
    for (let number = 0; number < runCount; number += 1) {
      const job = number % sizes.jobs;
      const atMs = nowMs - (10 - Math.floor(number / sizes.jobs)) * DAY_MS + (job % 1_200) * 60_000;
      const state = number % FAILS_EVERY === 0 ? 'failed' : number % WARNS_EVERY === 0 ? 'warning' : 'success';
      const title = `task ${String(job).padStart(4, '0')}`;
      addRun(id(6, number), id(4, job), id(3, 0), title, state, atMs, atMs, atMs + 600_000);
      for (const [position, machine] of machinesOf(job).entries()) {
        const result = JSON.stringify({
          state,
          pointId: state === 'failed' ? null : id(5, machine),
          error: null,
          stats: {
            nominalBytes: 40 * GIB,
            readBytes: GIB,
            sentBytes: GIB / 2,
            storedBytes: GIB / 8,
            zeroBytes: 0,
            duplicateBytes: 0,
          },
          disks: [],
          consistency: null,
          holdReleased: true,
          identity: null,
          startedAtMs: atMs,
          finishedAtMs: atMs + 600_000,
        });
        const name = `vm-${String(machine).padStart(5, '0')}`;
        const hostId = id(1, machine % sizes.hosts);
        addPart(
          id(7, number * 2 + position),
          id(6, number),
          position,
          id(2, machine),
          hostId,
          name,
          state,
          atMs,
          atMs + 600_000,
          result,
        );
      }
      // One run has very many lines, to be scrolled through.
      const lines = number === runCount - 1 ? 20_000 : linesPerRun - 1;
      for (let line = 0; line < lines; line += 1) {
        addLine(
          id(6, number),
          line,
          atMs + line * 20,
          line % 50 === 49 ? 'warning' : 'info',
          'SEEDED',
          `Line ${line} of a run that never was.`,
        );
      }
    }

    const addEntry = run(
      `INSERT INTO audit_log (number, at_ms, actor, by, address, action, target, outcome, details, previous_hash, hash)
       VALUES (?, ?, 'admin', 'cookie', '192.0.2.1', 'POST /jobs/:id/run', ?, 'done', '{}', ?, ?)`,
    );
    // No chain: pages of it are asked for, and it is not verified.
    const hash = '0'.repeat(64);
    const { number: lastNumber } = database.prepare('SELECT max(number) AS number FROM audit_log').get() as {
      number: number;
    };
    for (let entry = 1; entry <= sizes.auditEntries; entry += 1) {
      addEntry(lastNumber + entry, nowMs, id(4, entry % sizes.jobs), hash, hash);
    }
    database.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)');
  } finally {
    database.close();
  }
}
