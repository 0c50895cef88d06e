import { api } from '../../api/client.ts';
import type { RunLog, RunPartView } from '../../api/types.ts';
import { diskLabel } from '../../composables/disk-label.ts';
import { formatIsoTime } from '../../composables/format.ts';
import { tellLine } from '../../composables/sentences.ts';

type Line = RunLog['lines'][number];

/** What a line says, with the disk that it is about: each disk has lines like those of the others. */
export function tellWithDisk(line: Line): string {
  const told = tellLine(line);
  const given = line.details?.['label'];
  if (typeof given !== 'string') return told;
  const label = diskLabel(given);
  return told.includes(label) || told.includes(given) ? told : `${label}: ${told}`;
}

/** Names of the machines of a run by part. */
export function namesOf(parts: readonly RunPartView[]): Map<string | null, string> {
  return new Map(parts.map(({ id, name }) => [id, name]));
}

/**
 * The whole log of a run as a file, however long: one line of text each with time (the reader's, ISO 8601 with its
 * distance from UTC), level, code, machine and what it says. @throws ApiError
 */
export async function readLogText(runId: string, names: ReadonlyMap<string | null, string>): Promise<string> {
  const texts: string[] = [];
  for (let after = 0; ;) {
    const page = await api.runLog(runId, after);
    if (page.lines.length === 0) break;
    for (const line of page.lines) {
      const of = names.get(line.partId);
      const told = of === undefined ? tellWithDisk(line) : `${of}: ${tellWithDisk(line)}`;
      texts.push(`${formatIsoTime(line.atMs)} ${line.level} ${line.code} ${inOneLine(told)}\n`);
    }
    after = page.next;
  }
  return texts.join('');
}

/**
 * Whatever a name or the word of a host holds begins no line of its own. The marks around it that keep its direction
 * of reading apart, and those that keep words whole, are for the window: a search in the file would stumble over them.
 */
function inOneLine(text: string): string {
  return text.replaceAll(/[\u2060\u2066-\u2069]/g, '').replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ');
}
