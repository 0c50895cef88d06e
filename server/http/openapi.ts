import * as z from 'zod';
import { errorBodySchema } from '../contract/api/common.schema.ts';
import { eventSchema } from '../contract/api/event.schema.ts';
import type { Route } from './route.ts';
import { REQUEST_HEADER, SESSION_COOKIE } from './session-secrets.ts';

type Json = Record<string, unknown>;

/** OpenAPI 3.1 of the routes, made from the schemas that check the input. */
export function createOpenApi(routes: readonly Route[], version: string): Json {
  const components: Record<string, unknown> = {};
  const paths: Record<string, Json> = {};
  toSchema(eventSchema, 'output', components);
  for (const route of routes) {
    const path = route.path.replaceAll(/:([A-Za-z]+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method]: describeOperation(route, components) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Dozo',
      version,
      description: 'Agentless backup of ESXi machines to a NAS. Times are milliseconds since 1970, sizes are bytes.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/api/v1' }],
    security: [{ token: [] }, { cookie: [] }],
    paths,
    components: {
      schemas: components,
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer' },
        cookie: {
          type: 'apiKey',
          in: 'cookie',
          name: SESSION_COOKIE,
          description: `Changing requests carry the header ${REQUEST_HEADER}: 1 as well.`,
        },
      },
    },
  };
}

function describeOperation(route: Route, components: Record<string, unknown>): Json {
  const failure = {
    description: 'An error.',
    content: { 'application/json': { schema: toSchema(errorBodySchema, 'output', components) } },
  };
  return {
    operationId: operationId(route),
    summary: route.summary,
    tags: [route.tag],
    ...(route.permission === 'open' ? { security: [] } : {}),
    'x-permission': route.permission,
    parameters: [
      ...describeParameters(route.params, 'path', components),
      ...describeParameters(route.query, 'query', components),
    ],
    ...(route.body === null
      ? {}
      : {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: toSchema(route.body, 'input', components) } },
          },
        }),
    responses: {
      [String(route.status)]: describeAnswer(route, components),
      default: failure,
    },
  };
}

function describeAnswer(route: Route, components: Record<string, unknown>): Json {
  if (route.contentType !== null) {
    return { description: route.summary, content: { [route.contentType]: { schema: { type: 'string' } } } };
  }
  if (route.answer === null) return { description: 'Done.' };
  return {
    description: route.summary,
    content: { 'application/json': { schema: toSchema(route.answer, 'output', components) } },
  };
}

function describeParameters(
  schema: z.ZodObject | null,
  where: 'path' | 'query',
  components: Record<string, unknown>,
): Json[] {
  return Object.entries(schema?.shape ?? {}).map(([name, field]) => {
    const type = field as z.ZodType;
    return {
      name,
      in: where,
      required: where === 'path' || !type.safeParse(undefined).success,
      schema: toSchema(type, 'input', components),
    };
  });
}

/** Named schemas become components; the rest stands where it is used. */
function toSchema(schema: z.ZodType, io: 'input' | 'output', components: Record<string, unknown>): Json {
  const text = JSON.stringify(z.toJSONSchema(schema, { io, unrepresentable: 'any' })).replaceAll(
    '"#/$defs/',
    '"#/components/schemas/',
  );
  const { $schema: _schema, $defs, id, ...rest } = JSON.parse(text) as Json;
  for (const [name, definition] of Object.entries(($defs ?? {}) as Record<string, Json>)) {
    const { id: _id, ...content } = definition;
    components[name] = content;
  }
  if (typeof id !== 'string') return rest;
  components[id] = rest;
  return { $ref: `#/components/schemas/${id}` };
}

/** `getHostsByIdMachines` for GET /hosts/:id/machines. */
function operationId(route: Route): string {
  const words = route.path
    .split('/')
    .filter((part) => part !== '')
    .map((part) => (part.startsWith(':') ? `By${capitalize(part.slice(1))}` : capitalize(part.replaceAll(/\W/g, ''))));
  return route.method + words.join('');
}

function capitalize(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
