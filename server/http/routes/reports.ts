import {
  monthlyReportSchema,
  reportPageQuerySchema,
  reportParamsSchema,
  reportQuerySchema,
} from '../../contract/api/report.schema.ts';
import { defineRoute } from '../route.ts';

const tag = 'reports';
const params = reportParamsSchema;

export const reportRoutes = [
  defineRoute({
    method: 'get',
    path: '/reports/:month',
    tag,
    permission: 'view',
    summary: 'What became of the backups in a month: protected, unprotected, tested, failed, storage',
    params,
    query: reportQuerySchema,
    answer: monthlyReportSchema,
    handle: ({ services, params: { month }, query: { timeZone } }) =>
      services.orchestration.reports.compile(month, timeZone),
  }),
  defineRoute({
    method: 'get',
    path: '/reports/:month/page',
    tag,
    permission: 'view',
    summary: 'The same as a page to print, in a language',
    params,
    query: reportPageQuerySchema,
    contentType: 'text/html',
    handle: async ({ services, params: { month }, query, response }) => {
      const page = await services.orchestration.reports.renderPage(month, query);
      response.setHeader('Content-Type', 'text/html; charset=utf-8');
      response.end(page);
    },
  }),
];
