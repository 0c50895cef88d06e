import { api } from '../../api/client.ts';
import type { RunLog, RunPartView } from '../../api/types.ts';
import { tellLine } from '../../composables/sentences.ts';

type Line = RunLog['lines'][number];

/** What a line says, with the disk that it is about: each disk has lines like those of the others. */
export function tellWithDisk(line: Line): string {
  const told = tellLine(line);
  const label = line.details?.['label'];
  return typeof label !== 'string' || told.includes(label) ? told : `${label}: ${told}`;
}

/** Names of the machines of a run by part. */
export function namesOf(parts: readonly RunPartView[]): Map<string | null, string> {
  return new Map(parts.map(({ id, name }) => [id, name]));
}

/**
 * The whole log of a run as a file, however long: one line of text each with time in UTC, level, code, machine and
 * what it says. @throws ApiError
 */
export async function readLogText(runId: string, names: ReadonlyMap<string | null, string>): Promise<string> {
  const texts: string[] = [];
  for (let after = 0; ;) {
    const page = await api.runLog(runId, after);
    if (page.lines.length === 0) break;
    for (const line of page.lines) {
      const of = names.get(line.partId);
      const told = of === undefined ? tellWithDisk(line) : `${of}: ${tellWithDisk(line)}`;
      texts.push(`${new Date(line.atMs).toISOString()} ${line.level} ${line.code} ${inOneLine(told)}\n`);
    }
    after = page.next;
  }
  return texts.join('');
}

/** Whatever a name or the word of a host holds begins no line of its own. */
function inOneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ');
}
