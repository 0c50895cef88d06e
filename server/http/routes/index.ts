import type { Route } from '../route.ts';
import { auditRoutes } from './audit.ts';
import { configurationRoutes } from './configuration.ts';
import { eventRoutes } from './events.ts';
import { healthRoutes } from './health.ts';
import { hookRoutes } from './hooks.ts';
import { hostRoutes } from './hosts.ts';
import { jobRoutes } from './jobs.ts';
import { machineRoutes } from './machines.ts';
import { overviewRoutes } from './overview.ts';
import { notificationRoutes } from './notifications.ts';
import { nasRoutes } from './nas.ts';
import { pointRoutes } from './points.ts';
import { reportRoutes } from './reports.ts';
import { repositoryRoutes } from './repositories.ts';
import { repositoryKeyRoutes } from './repository-keys.ts';
import { restoreRoutes } from './restores.ts';
import { retentionRoutes } from './retention.ts';
import { runRoutes } from './runs.ts';
import { sessionRoutes } from './session.ts';
import { systemRoutes } from './system.ts';
import { tokenRoutes } from './tokens.ts';
import { userRoutes } from './users.ts';

/** Every function of the API. */
export function listRoutes(): Route[] {
  return [
    ...systemRoutes,
    ...healthRoutes,
    ...sessionRoutes,
    ...tokenRoutes,
    ...userRoutes,
    ...nasRoutes,
    ...auditRoutes,
    ...hostRoutes,
    ...machineRoutes,
    ...overviewRoutes,
    ...repositoryRoutes,
    ...repositoryKeyRoutes,
    ...jobRoutes,
    ...hookRoutes,
    ...retentionRoutes,
    ...runRoutes,
    ...pointRoutes,
    ...restoreRoutes,
    ...notificationRoutes,
    ...reportRoutes,
    ...configurationRoutes,
    ...eventRoutes,
  ];
}
