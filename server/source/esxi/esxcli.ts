/** Texts of `esxcli`, as captured from ESXi 6.5 to 8.0 (see docs/vmware.md). */

/** `   Key: value` lines; the first of two equal keys stays. */
export function parseKeyValues(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^ {2,}([A-Za-z][^:]*): ?(.*?)\s*$/.exec(line);
    if (match?.[1] !== undefined && !values.has(match[1])) values.set(match[1], match[2] ?? '');
  }
  return values;
}

/** `--formatter=csv`: a header row, RFC 4180 quotes, mostly a comma at the end of each row. */
export function parseCsv(text: string): Record<string, string>[] {
  const [header, ...rows] = csvRows(text);
  if (header === undefined) return [];
  return rows.map((row) => Object.fromEntries(header.flatMap((key, at) => (key === '' ? [] : [[key, row[at] ?? '']]))));
}

function csvRows(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let field = '';
  let isQuoted = false;
  const endRow = (): void => {
    row.push(field.replace(/\r$/, ''));
    field = '';
    if (row.length > 1 || row[0] !== '') rows.push(row);
    row = [];
  };
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] ?? '';
    if (isQuoted) {
      if (character !== '"') field += character;
      else if (text[at + 1] === '"') {
        field += '"';
        at += 1;
      } else isQuoted = false;
    } else if (character === '"') isQuoted = true;
    else if (character === ',') {
      row.push(field);
      field = '';
    } else if (character === '\n') endRow();
    else field += character;
  }
  endRow();
  return rows;
}

/** A table under a ruler of dashes: each column is as wide as its dashes, cells may hold blanks. */
export function parseTable(text: string): Record<string, string>[] {
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''));
  const ruler = lines.findIndex((line) => /^-+(?: +-+)* *$/.test(line));
  const header = lines[ruler - 1];
  if (ruler < 1 || header === undefined) return [];
  const columns = [...(lines[ruler] ?? '').matchAll(/-+/g)].map((match, index, all) => ({
    start: match.index,
    end: all[index + 1]?.index ?? Number.POSITIVE_INFINITY,
  }));
  const cells = (line: string): string[] => columns.map(({ start, end }) => line.slice(start, end).trim());
  const keys = cells(header);
  return lines
    .slice(ruler + 1)
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const row = cells(line);
      return Object.fromEntries(keys.map((key, at) => [key, row[at] ?? '']));
    });
}

export interface Filesystem {
  /** `/vmfs/volumes/<uuid>` */
  root: string;
  name: string;
  type: string;
  isMounted: boolean;
  capacityBytes: number;
  freeBytes: number;
}

/** `esxcli --formatter=csv storage filesystem list`, or the table of the same without formatter. */
export function parseFilesystems(text: string): Filesystem[] {
  const rows = text.includes('-----') ? parseTable(text) : parseCsv(text);
  return rows.flatMap((row) => {
    // The CSV formatter writes the keys without blanks.
    const get = (key: string): string => row[key] ?? row[key.replaceAll(' ', '')] ?? '';
    const root = get('Mount Point');
    const capacityBytes = Number(get('Size'));
    const freeBytes = Number(get('Free'));
    if (!root.startsWith('/') || !Number.isSafeInteger(capacityBytes) || !Number.isSafeInteger(freeBytes)) return [];
    const isMounted = get('Mounted').toLowerCase() === 'true';
    return [{ root, name: get('Volume Name'), type: get('Type'), isMounted, capacityBytes, freeBytes }];
  });
}
