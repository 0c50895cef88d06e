import {
  findLastSuccess,
  listHostViews,
  listJobViews,
  listMachineViews,
  listRepositoryViews,
  type Orchestration,
} from '../orchestration/index.ts';
import type { MetricFamily } from './open-metrics.ts';

const TROUBLE_MS = 7 * 86_400_000;

type Sample = MetricFamily['samples'][number];

/** What a monitor wants to know, as of now. Times are seconds since 1970; what never was has no sample. */
export async function collectMetrics(orchestration: Orchestration): Promise<MetricFamily[]> {
  const { catalogue, clock } = orchestration.context;
  const system = await orchestration.describeSystem();
  const jobs = await listJobViews(catalogue, clock.nowMs());
  const machines = await listMachineViews(catalogue);
  const repositories = await listRepositoryViews(catalogue);
  const hosts = await listHostViews(catalogue);
  const troubled = await catalogue.outbox.countTroubled(clock.nowMs() - TROUBLE_MS);
  const successes: Sample[] = [];
  for (const job of jobs) {
    const run = await findLastSuccess(catalogue, job, ['success']);
    successes.push(...timeSample({ job: job.name }, run?.finishedAtMs));
  }
  return [
    gauge('dozo_build', 'The version that runs.', [{ labels: { version: system.version }, value: 1 }]),
    gauge('dozo_queue_up', 'Whether the queue answers.', [{ value: system.queue === 'up' ? 1 : 0 }]),
    gauge('dozo_workers', 'Workers that are there.', [{ value: system.workers.length }]),
    gauge('dozo_active_runs', 'Runs that have not ended.', [{ value: system.activeRuns }]),
    gauge('dozo_open_holds', 'Runs of machines that may have left something on a host.', [{ value: system.openHolds }]),
    gauge('dozo_notifications_waiting', 'Messages that could not be delivered yet and are tried again.', [
      { value: troubled.waiting },
    ]),
    gauge('dozo_notifications_failed', 'Messages of the last seven days that were given up.', [
      { value: troubled.failed },
    ]),
    gauge(
      'dozo_host_up',
      'Whether the last contact with the host went well.',
      hosts.map((host) => ({ labels: { host: host.name }, value: host.error === null ? 1 : 0 })),
    ),
    gauge(
      'dozo_job_last_run_state',
      'State of the last run of a job: 1 for the one it has.',
      jobs.flatMap((job) =>
        job.lastRun === null ? [] : [{ labels: { job: job.name, state: job.lastRun.state }, value: 1 }],
      ),
    ),
    gauge(
      'dozo_job_last_run_end_seconds',
      'When the last run of a job ended.',
      jobs.flatMap((job) => timeSample({ job: job.name }, job.lastRun?.finishedAtMs)),
    ),
    gauge('dozo_job_last_success_seconds', 'When a run of the whole job last ended without any warning.', successes),
    gauge(
      'dozo_job_next_run_seconds',
      'When the job runs by itself next.',
      jobs.flatMap((job) => timeSample({ job: job.name }, job.nextRunAtMs)),
    ),
    gauge(
      'dozo_job_missed_seconds',
      'When the newest run was due that could not begin in time.',
      jobs.flatMap((job) => timeSample({ job: job.name }, job.missedAtMs)),
    ),
    gauge(
      'dozo_machine_protected',
      'Whether a job backs the machine up.',
      machines.map((machine) => ({ labels: labelsOf(machine), value: machine.jobIds.length > 0 ? 1 : 0 })),
    ),
    gauge(
      'dozo_machine_versions',
      'Versions of the machine.',
      machines.map((machine) => ({ labels: labelsOf(machine), value: machine.pointCount })),
    ),
    gauge(
      'dozo_machine_last_version_seconds',
      'When the newest version of the machine was made.',
      machines.flatMap((machine) => timeSample(labelsOf(machine), machine.lastPointAtMs)),
    ),
    gauge(
      'dozo_repository_up',
      'Whether the last contact with the repository went well.',
      repositories.map((repository) => ({
        labels: { repository: repository.name },
        value: repository.error === null ? 1 : 0,
      })),
    ),
    gauge(
      'dozo_repository_stored_bytes',
      'Bytes in the packs of the repository.',
      repositories.flatMap(({ name, stats }) =>
        stats === null ? [] : [{ labels: { repository: name }, value: stats.storedBytes }],
      ),
    ),
  ];
}

function gauge(name: string, help: string, samples: readonly Sample[]): MetricFamily {
  return { name, help, samples };
}

/** Names of machines need not be unique: the id tells them apart. */
function labelsOf(machine: { id: string; name: string }): Record<string, string> {
  return { machine: machine.name, id: machine.id };
}

function timeSample(labels: Record<string, string>, atMs: number | null | undefined): Sample[] {
  return atMs === null || atMs === undefined ? [] : [{ labels, value: atMs / 1000 }];
}
