import { eventQuerySchema } from '../../contract/api/event.schema.ts';
import { streamEvents } from '../event-stream.ts';
import { defineRoute, known } from '../route.ts';

export const eventRoutes = [
  defineRoute({
    method: 'get',
    path: '/events',
    permission: 'browse',
    tag: 'events',
    summary: 'What happens, as server-sent events (see Event); Last-Event-ID goes on after a break',
    query: eventQuerySchema,
    contentType: 'text/event-stream',
    place: 'stream',
    handle: async ({ services, caller, query: { runId }, request, response }) => {
      const { reach } = known(caller);
      const isReached = reach === null ? () => true : await reach.watch(services.orchestration.context.catalogue);
      const lastId = request.headers['last-event-id'];
      streamEvents(response, {
        events: services.orchestration.context.events,
        lastId: typeof lastId === 'string' ? lastId : null,
        accepts: (event) => {
          if (!isReached(event)) return false;
          if (runId === undefined) return true;
          if (event.type === 'run') return event.run.id === runId;
          return 'runId' in event && event.runId === runId;
        },
        isAlive: () => services.authentication.isAlive(known(caller)),
      });
    },
  }),
];
