import type { Route } from '../route.ts';
import { auditRoutes } from './audit.ts';
import { eventRoutes } from './events.ts';
import { hostRoutes } from './hosts.ts';
import { jobRoutes } from './jobs.ts';
import { machineRoutes } from './machines.ts';
import { pointRoutes } from './points.ts';
import { repositoryRoutes } from './repositories.ts';
import { restoreRoutes } from './restores.ts';
import { retentionRoutes } from './retention.ts';
import { runRoutes } from './runs.ts';
import { sessionRoutes } from './session.ts';
import { systemRoutes } from './system.ts';

/** Every function of the API. */
import { tokenRoutes } from './tokens.ts';
import { userRoutes } from './users.ts';
export function listRoutes(): Route[] {
  return [
    ...systemRoutes,
    ...sessionRoutes,
    ...hostRoutes,
    ...machineRoutes,
    ...tokenRoutes,
    ...userRoutes,
    ...auditRoutes,
    ...repositoryRoutes,
    ...jobRoutes,
    ...retentionRoutes,
    ...runRoutes,
    ...pointRoutes,
    ...restoreRoutes,
    ...eventRoutes,
  ];
}
