import { eventQuerySchema } from '../../contract/api/event.schema.ts';
import { assert } from '../../errors/index.ts';
import { streamEvents } from '../event-stream.ts';
import { defineRoute } from '../route.ts';

export const eventRoutes = [
  defineRoute({
    method: 'get',
    path: '/events',
    tag: 'events',
    summary: 'What happens, as server-sent events (see Event); Last-Event-ID goes on after a break',
    query: eventQuerySchema,
    contentType: 'text/event-stream',
    handle: async ({ services, session, query: { runId }, request, response }) => {
      assert(session !== null, 'events are behind the login');
      const lastId = request.headers['last-event-id'];
      streamEvents(response, {
        events: services.orchestration.context.events,
        lastId: typeof lastId === 'string' ? lastId : null,
        accepts: (event) => {
          if (runId === undefined) return true;
          if (event.type === 'run') return event.run.id === runId;
          return 'runId' in event && event.runId === runId;
        },
        isAlive: () => services.authentication.isAlive(session),
      });
    },
  }),
];
