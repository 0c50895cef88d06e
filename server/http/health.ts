import type { HealthDetails } from '../contract/api/health.schema.ts';
import { listHostViews, listJobViews, listRepositoryViews, type Orchestration } from '../orchestration/index.ts';

type Check = HealthDetails['checks'][number];

const DAY_MS = 86_400_000;
/** From good to bad. */
const ORDER = ['ok', 'warning', 'critical'] as const;
/** A run that is so late should have been told of: nobody has looked, or nobody could. */
const LATE_MS = 3600_000;

/** Everything that a person would want to be woken for, or should look at in the morning. */
export async function describeHealth(orchestration: Orchestration): Promise<HealthDetails> {
  const { catalogue, clock } = orchestration.context;
  const nowMs = clock.nowMs();
  const system = await orchestration.describeSystem();
  const jobs = await listJobViews(catalogue, nowMs);
  const hosts = await listHostViews(catalogue);
  const repositories = await listRepositoryViews(catalogue);
  const troubled = await catalogue.outbox.countTroubled(nowMs - 7 * DAY_MS);
  const trouble = orchestration.notifications.catalogueTrouble;
  const checks: Check[] = [
    check('queue', system.queue === 'up' ? 'ok' : 'critical', 'The queue answers.', 'The queue does not answer.'),
    check('catalogue', trouble === null ? 'ok' : 'critical', 'The catalogue can be written.', trouble?.message ?? ''),
    check(
      'workers',
      system.workers.length > 0 ? 'ok' : 'critical',
      `Workers: ${system.workers.length}.`,
      'No worker is there: nothing is backed up.',
    ),
    checkItems('hosts', 'warning', 'host', failing(hosts)),
    checkItems('repositories', 'critical', 'repository', failing(repositories)),
    checkItems(
      'tasks',
      jobs.some(({ lastRun }) => isFailed(lastRun?.state)) ? 'critical' : 'warning',
      'task',
      jobs.flatMap(({ name, lastRun }) =>
        lastRun !== null && (isFailed(lastRun.state) || lastRun.state === 'warning')
          ? [{ name, reason: lastRun.state }]
          : [],
      ),
    ),
    checkItems('overdue', 'critical', 'task', await listOverdue(orchestration, jobs, nowMs)),
    check(
      'holds',
      system.openHolds > 0 && system.activeRuns === 0 ? 'warning' : 'ok',
      'Nothing of Dozo is left on a host.',
      `${system.openHolds} runs may have left something on a host; Dozo keeps removing it.`,
    ),
    check(
      'notifications',
      troubled.waiting + troubled.failed > 0 ? 'warning' : 'ok',
      'All messages were delivered.',
      `${troubled.waiting} messages wait after a failure, ${troubled.failed} were given up.`,
    ),
  ];
  const worst = Math.max(...checks.map(({ status }) => ORDER.indexOf(status)));
  return { status: ORDER[worst] ?? 'critical', atMs: nowMs, checks };
}

function check(name: Check['name'], status: Check['status'], good: string, bad: string): Check {
  return { name, status, text: status === 'ok' ? good : bad, items: [] };
}

function checkItems(name: Check['name'], bad: Check['status'], noun: string, items: Check['items']): Check {
  if (items.length === 0) return { name, status: 'ok', text: `No ${noun} is in trouble.`, items };
  return { name, status: bad, text: `In trouble: ${items.map((item) => item.name).join(', ')}.`, items };
}

function failing(things: readonly { name: string; error: { code: string } | null }[]): Check['items'] {
  return things.flatMap(({ name, error }) => (error === null ? [] : [{ name, reason: error.code }]));
}

function isFailed(state: string | undefined): boolean {
  return state === 'failed' || state === 'incomplete';
}

/** Tasks whose last run was missed and not made up for since, or that have told that they have no success. */
async function listOverdue(
  orchestration: Orchestration,
  jobs: readonly {
    id: string;
    name: string;
    missedAtMs: number | null;
    lastRun: { finishedAtMs: number | null } | null;
  }[],
  nowMs: number,
): Promise<Check['items']> {
  const { catalogue } = orchestration.context;
  const items: Check['items'] = [];
  for (const { id, name, missedAtMs, lastRun } of jobs) {
    const isMissed = missedAtMs !== null && missedAtMs > (lastRun?.finishedAtMs ?? 0) && nowMs - missedAtMs > LATE_MS;
    const isOverdue = (await catalogue.outbox.loadMark(`overdue ${id}`)) !== null;
    if (isMissed || isOverdue) items.push({ name, reason: isOverdue ? 'no success for days' : 'missed' });
  }
  return items;
}
