import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import type { z } from 'zod';
import { auditEntrySchema, type auditPageSchema, type AuditVerdict } from '../../contract/api/audit.schema.ts';
import { encodeAuditEntry } from '../../contract/audit-chain.ts';
import { AppError } from '../../errors/index.ts';
import { EXIT_FAILED, doneOutput, listOutput, type CommandContext, type Output } from '../command-context.ts';
import { openAnswer } from '../connection.ts';
import { formatTime } from '../format.ts';
import { parseInteger } from '../parse-options.ts';

interface VerifyOptions {
  file?: string;
  number?: number;
  hash?: string;
}

export function addAuditCommands(program: Command, context: CommandContext): void {
  const audit = program.command('audit').description('who did what');
  const list = context
    .leaf(audit, 'list', 'newest first')
    .option('--actor <name>', 'of one account')
    .option('--action <action>', 'of one kind, as the list shows it')
    .option('--limit <number>', 'at most so many', parseInteger(1, 500), 50);
  context.handle<{ actor?: string; action?: string; limit: number }>(list, async ({ api, options }) => {
    const { actor, action, limit } = options;
    const page = await api.get<z.infer<typeof auditPageSchema>>('/audit', { actor, action, limit });
    return listOutput(page.entries, ['NO', 'TIME', 'WHO', 'FROM', 'WHAT', 'TO WHAT', 'OUTCOME'], (entry) => [
      String(entry.number),
      formatTime(entry.atMs),
      entry.actor ?? '-',
      entry.address ?? '-',
      entry.action,
      entry.target ?? '-',
      entry.outcome,
    ]);
  });
  context.handle(
    context.leaf(audit, 'export <file>', 'the whole log into a file, one JSON document a line'),
    async ({ connection, args }) => {
      const answer = await openAnswer(connection, { method: 'GET', path: '/audit/export' });
      await pipeline(answer, createWriteStream(args[0] ?? '', { flags: 'wx', mode: 0o600 }));
      return doneOutput({ file: args[0] }, `Wrote ${args[0] ?? ''}.`);
    },
  );
  const verify = context
    .leaf(audit, 'verify', 'whether the log is as it was written')
    .option('--file <file>', 'an exported log instead of that of the server')
    .option('--number <number>', 'of an entry that was noted down elsewhere', parseInteger(1, Number.MAX_SAFE_INTEGER))
    .option('--hash <hash>', 'of that entry');
  context.handle<VerifyOptions>(verify, async ({ api, options: { file, number, hash } }) => {
    const verdict =
      file === undefined
        ? await api.get<AuditVerdict>('/audit/verify', { number, hash })
        : await verifyFile(file, { number, hash });
    return describeVerdict(verdict);
  });
}

/** An export proves its own chain; that nothing is missing behind its end only a noted entry can show. */
async function verifyFile(
  file: string,
  noted: { number: number | undefined; hash: string | undefined },
): Promise<AuditVerdict> {
  let head: AuditVerdict['head'] = null;
  let number = 0;
  const bad = (what: NonNullable<AuditVerdict['problem']>['what']): AuditVerdict => ({
    isIntact: false,
    entries: number - 1,
    problem: { number, what },
    head,
  });
  for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
    if (line === '') continue;
    number += 1;
    const entry = auditEntrySchema.safeParse(parseLine(line, file));
    if (!entry.success) return bad('changed');
    if (entry.data.number !== number) return bad('missing');
    const { hash, previousHash } = entry.data;
    const expected = createHash('sha256').update(encodeAuditEntry(entry.data)).digest('hex');
    if (hash !== expected || previousHash !== (head?.hash ?? '0'.repeat(64))) return bad('changed');
    if (noted.number === number && noted.hash !== undefined && noted.hash !== hash) return bad('other-than-noted');
    head = { number, hash };
  }
  if (number < (noted.number ?? 0)) {
    number += 1;
    return bad('cut-off');
  }
  return { isIntact: true, entries: number, problem: null, head };
}

function parseLine(line: string, file: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (cause) {
    throw new AppError('INPUT_INVALID', `${file} is no exported audit log.`, {
      hint: 'Export it with `dozo audit export`.',
      cause,
    });
  }
}

function describeVerdict(verdict: AuditVerdict): Output {
  const { problem, head, entries } = verdict;
  if (problem !== null) {
    const text = `NOT INTACT: ${problem.what} at entry ${problem.number}. ${entries} entries before it are as they were.\n`;
    return { document: verdict, text, exitStatus: EXIT_FAILED };
  }
  const noted = head === null ? '' : ` Note down the last one: ${head.number} ${head.hash}`;
  return { document: verdict, text: `Intact, ${entries} entries.${noted}\n` };
}
