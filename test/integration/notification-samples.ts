import type { ErrorBody } from '../../server/contract/error-codes.ts';
import type { DigestNotice, MachineNotice, Notice, RunNotice } from '../../server/notification/index.ts';

const HOUR_MS = 3600_000;
export const SAMPLE_END_MS = Date.parse('2027-02-03T22:41:17Z');

/** What a stranger may call a machine: markup, an end of line, and marks that turn what follows. */
export const HOSTILE_NAME =
  '<img src=x onerror=alert(1)>"web"\r\nBcc: thief@example.test\r\n\u202egnp.exe\u0007 {{7*7}} [link](http://example.test)';

const LOCKED: ErrorBody = {
  code: 'SNAPSHOT_REMOVE_FAILED',
  message: 'The snapshot dozo-0123456789abcdef of "db" could not be removed: the file is locked.',
  hint: 'Dozo tries again by itself; otherwise remove it in the Host Client.',
  details: {},
};
const UNREACHABLE: ErrorBody = {
  code: 'HOST_UNREACHABLE',
  message: 'No answer from esx1.example.test (192.0.2.10) on port 22 within 20 seconds.',
  hint: 'Check address, power and network.',
  details: { host: 'esx1.example.test' },
};

function machine(name: string, changes: Partial<MachineNotice> = {}): MachineNotice {
  return {
    name,
    state: 'success',
    error: null,
    startedAtMs: SAMPLE_END_MS - HOUR_MS,
    finishedAtMs: SAMPLE_END_MS - 250_000,
    bytes: { nominal: 128 * 1024 ** 3, read: 1_843_000_000, stored: 402_653_184 },
    rootHash: 'a3f5c9e17b2d4c6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7',
    consistency: 'application',
    warnings: [],
    ...changes,
  };
}

function run(state: RunNotice['state'], changes: Partial<RunNotice> = {}): RunNotice {
  return {
    kind: 'run',
    results: ['success'],
    runId: '0123456789abcdef',
    runKind: 'backup',
    title: 'nightly',
    state,
    startedBy: 'schedule',
    startedAtMs: SAMPLE_END_MS - HOUR_MS,
    finishedAtMs: SAMPLE_END_MS,
    error: null,
    repository: 'main',
    retryAtMs: null,
    machines: [machine('web'), machine('メールサーバー'), machine('Büro-Server')],
    machineCount: 3,
    warnings: [],
    ...changes,
  };
}

const digest: DigestNotice = {
  kind: 'digest',
  period: 'weekly',
  fromMs: SAMPLE_END_MS - 7 * 24 * HOUR_MS,
  toMs: SAMPLE_END_MS,
  runs: { success: 12, warning: 1, failure: 2, cancelled: 0 },
  jobs: [
    {
      title: 'nightly',
      runs: 7,
      failures: 0,
      lastState: 'success',
      lastSuccessAtMs: SAMPLE_END_MS,
      nextRunAtMs: SAMPLE_END_MS + 24 * HOUR_MS,
      lastError: null,
    },
    {
      title: 'Außenstelle',
      runs: 8,
      failures: 2,
      lastState: 'failed',
      lastSuccessAtMs: SAMPLE_END_MS - 3 * 24 * HOUR_MS,
      nextRunAtMs: SAMPLE_END_MS + 10 * HOUR_MS,
      lastError: UNREACHABLE,
    },
  ],
  unprotected: ['test-1', '検証用', HOSTILE_NAME],
  repositories: [
    { name: 'main', storedBytes: 1_431_655_765_000, growthBytes: 21_474_836_480, error: null },
    {
      name: 'second',
      storedBytes: 52_428_800_000,
      growthBytes: -1_073_741_824,
      error: { code: 'STORAGE_MISSING', message: 'The folder /volume2/Dozo is not there.', details: {} },
    },
  ],
  undelivered: 2,
};

/** One of every kind that people get. */
export const SAMPLES: Record<string, Notice> = {
  success: run('success'),
  recovered: run('success', { results: ['success', 'recovered'], machines: [machine('web')], machineCount: 1 }),
  warning: run('warning', {
    results: ['warning'],
    machines: [
      machine('db', {
        state: 'warning',
        error: LOCKED,
        consistency: 'crash',
        warnings: [
          {
            code: 'QUIESCE_FAILED',
            text: 'The guest was not brought to rest; the version is as after a power cut.',
            details: {},
          },
        ],
      }),
      machine('web'),
    ],
    machineCount: 2,
    warnings: [
      {
        code: 'SCHEDULE_SKIPPED',
        text: `A run was due at ${new Date(SAMPLE_END_MS - HOUR_MS).toISOString()}; it was left out, since this one was still at work.`,
        details: { dueAtMs: SAMPLE_END_MS - HOUR_MS },
      },
    ],
  }),
  failure: run('failed', {
    results: ['failure'],
    error: UNREACHABLE,
    retryAtMs: SAMPLE_END_MS + 600_000,
    machines: [
      machine('web', { state: 'failed', error: UNREACHABLE, bytes: null, rootHash: null, consistency: null }),
      machine(HOSTILE_NAME, { state: 'incomplete', consistency: null }),
      machine('メールサーバー'),
    ],
  }),
  notbegun: run('failed', {
    results: ['failure'],
    error: UNREACHABLE,
    machines: [],
    machineCount: 0,
    title: HOSTILE_NAME,
  }),
  restored: run('failed', {
    runKind: 'restore',
    results: ['failure'],
    startedBy: 'request',
    title: 'メールサーバー',
    error: LOCKED,
    machines: [
      machine('メールサーバー', { state: 'failed', error: LOCKED, bytes: null, rootHash: null, consistency: null }),
    ],
    machineCount: 1,
  }),
  missed: { kind: 'missed', title: 'nightly', dueAtMs: SAMPLE_END_MS - 9 * HOUR_MS, isCaughtUp: true },
  catalogue: {
    kind: 'catalogue',
    sinceMs: SAMPLE_END_MS - HOUR_MS,
    error: {
      code: 'STORAGE_FULL',
      message: 'The volume of the catalogue is full.',
      hint: "Free space on the volume that holds Dozo's own data.",
      details: {},
    },
  },
  overdue: {
    kind: 'overdue',
    title: 'nightly',
    lastSuccessAtMs: SAMPLE_END_MS - 4 * 24 * HOUR_MS,
    dueSinceMs: SAMPLE_END_MS - 3 * 24 * HOUR_MS,
    days: 3,
    lastState: 'failed',
    lastError: UNREACHABLE,
  },
  digest,
};
