import { once } from 'node:events';
import {
  auditPageSchema,
  auditQuerySchema,
  auditVerdictSchema,
  auditVerifyQuerySchema,
} from '../../contract/api/audit.schema.ts';
import { AppError } from '../../errors/index.ts';
import { defineRoute } from '../route.ts';

const tag = 'audit';
const EXPORT_BATCH = 500;

export const auditRoutes = [
  defineRoute({
    method: 'get',
    path: '/audit',
    permission: 'administer',
    tag,
    summary: 'Who did what, newest first, in pages',
    query: auditQuerySchema,
    answer: auditPageSchema,
    handle: async ({ services, query: { before, ...filter } }) => {
      const { catalogue } = services.orchestration.context;
      const beforeNumber = before === undefined ? undefined : parseNumber(before);
      const entries = await catalogue.audit.list({ ...filter, beforeNumber });
      const last = entries.length === filter.limit ? entries.at(-1) : undefined;
      return { entries, next: last === undefined ? null : String(last.number) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/audit/verify',
    permission: 'administer',
    tag,
    summary:
      'Whether the audit log is as it was written; number and hash of an entry noted elsewhere make sure of more',
    query: auditVerifyQuerySchema,
    answer: auditVerdictSchema,
    handle: ({ services, query: { number, hash } }) =>
      services.audit.verify({
        ...(number === undefined ? {} : { number }),
        ...(hash === undefined ? {} : { hash }),
      }),
  }),
  defineRoute({
    method: 'get',
    path: '/audit/export',
    permission: 'administer',
    tag,
    summary: 'The whole audit log, oldest first, one JSON document a line',
    contentType: 'application/x-ndjson',
    handle: async ({ services, response }) => {
      const { catalogue } = services.orchestration.context;
      response.writeHead(200, {
        'Content-Type': 'application/x-ndjson; charset=utf-8',
        'Content-Disposition': 'attachment; filename="dozo-audit.ndjson"',
      });
      for (let after = 0; !response.destroyed;) {
        const entries = await catalogue.audit.listAfter(after, EXPORT_BATCH);
        const isRoom = response.write(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
        if (!isRoom) await Promise.race([once(response, 'drain'), once(response, 'close')]);
        after = entries.at(-1)?.number ?? after;
        if (entries.length < EXPORT_BATCH) break;
      }
      response.end();
    },
  }),
];

function parseNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new AppError('INPUT_INVALID', 'This page is not known.', { hint: 'Pass "next" of the page before.' });
}
