import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Language } from '../../contract/api/notification.schema.ts';
import type { MonthlyReport } from '../../contract/api/report.schema.ts';
import { doneOutput, showOutput, type CommandContext } from '../command-context.ts';
import { openAnswer } from '../connection.ts';
import { oneOf } from '../parse-options.ts';

export function addReportCommands(program: Command, context: CommandContext): void {
  const reports = program.command('reports').description('monthly reports: what was protected and tested');
  const show = context.leaf(reports, 'show <month>', 'in figures; a month like 2027-01').option('--zone <zone>', ZONE);
  context.handle<{ zone?: string }>(show, async ({ api, args, options }) => {
    const report = await api.get<MonthlyReport>(`/reports/${encodeURIComponent(args[0] ?? '')}`, {
      timeZone: options.zone ?? localZone(),
    });
    const { success, warning, failure, cancelled } = report.runs;
    return showOutput(report, [
      ['month', report.month],
      ['runs', `${success} success, ${warning} warnings, ${failure} failed or incomplete, ${cancelled} cancelled`],
      ['protected', String(report.protected.length)],
      ['unprotected', String(report.unprotected.length)],
      ['tested', String(report.tested.length)],
    ]);
  });
  const save = context
    .leaf(reports, 'save <month> <file>', 'as a page to print')
    .option('--zone <zone>', ZONE)
    .option('--language <language>', 'en, de or ja', oneOf(['en', 'de', 'ja']), 'en');
  context.handle<{ zone?: string; language: Language }>(save, async ({ connection, args, options }) => {
    const [month = '', file = ''] = args;
    const answer = await openAnswer(connection, {
      method: 'GET',
      path: `/reports/${encodeURIComponent(month)}/page`,
      query: { language: options.language, timeZone: options.zone ?? localZone() },
    });
    const pieces: Buffer[] = [];
    for await (const piece of answer) pieces.push(piece as Buffer);
    await writeFile(file, Buffer.concat(pieces));
    return doneOutput({ file }, `Saved as ${file}.`);
  });
}

const ZONE = 'time zone like Europe/Berlin; else that of this machine';

function localZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}
