import {
  configurationDocumentSchema,
  configurationExportInputSchema,
  configurationImportInputSchema,
  ghettoImportInputSchema,
  ghettoImportReportSchema,
  importReportSchema,
} from '../../contract/api/configuration.schema.ts';
import { defineRoute } from '../route.ts';

const tag = 'configuration';

export const configurationRoutes = [
  defineRoute({
    method: 'post',
    path: '/configuration/export',
    tag,
    permission: 'administer',
    summary: 'Everything that was configured, as a document; with secrets only under a passphrase',
    body: configurationExportInputSchema,
    answer: configurationDocumentSchema,
    handle: ({ services, body }) => services.orchestration.configuration.export(body.passphrase),
  }),
  defineRoute({
    method: 'post',
    path: '/configuration/import',
    tag,
    permission: 'administer',
    summary: 'Add what a document holds and is not there yet; tells what was and was not taken over',
    body: configurationImportInputSchema,
    answer: importReportSchema,
    handle: ({ services, body }) => services.orchestration.configuration.import(body),
  }),
  defineRoute({
    method: 'post',
    path: '/configuration/import/ghettovcb',
    tag,
    permission: 'configure',
    summary: 'Make a job of a ghettoVCB.conf and its list of VMs; tells what was and was not taken over',
    body: ghettoImportInputSchema,
    answer: ghettoImportReportSchema,
    handle: ({ services, body }) => services.orchestration.importGhetto(body),
  }),
];
