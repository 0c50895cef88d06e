import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { ERROR_CODES } from '../../server/contract/error-codes.ts';

/** What the documents say against what is there. */
export function checkDocs(): string[] {
  return [...checkErrorBook(), ...checkLinks(), ...checkRooms()];
}

/** Every error code has a row in docs/errors.md, every row a code, and every code is used. */
function checkErrorBook(): string[] {
  const rows = new Set(
    [...readFileSync('docs/errors.md', 'utf8').matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map((match) => match[1] ?? ''),
  );
  const problems: string[] = [];
  const sources = gitFiles('server').filter(
    (name) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !name.endsWith('error-codes.ts'),
  );
  const text = sources.map((name) => readFileSync(name, 'utf8')).join('\n');
  for (const code of Object.keys(ERROR_CODES)) {
    if (!rows.has(code)) problems.push(`docs/errors.md: no row for ${code}`);
    if (!text.includes(`'${code}'`)) problems.push(`server/contract/error-codes.ts: ${code} is never used`);
  }
  for (const row of rows) if (!(row in ERROR_CODES)) problems.push(`docs/errors.md: ${row} is not a code`);
  return problems;
}

/** Relative links of every Markdown file lead to a file, and to a heading in it; sources that it names are there. */
function checkLinks(): string[] {
  const problems: string[] = [];
  const all = gitFiles('.');
  for (const file of all.filter((name) => name.endsWith('.md'))) {
    const text = withoutBlocks(readFileSync(file, 'utf8'));
    for (const [, target = '', heading] of text.matchAll(/\]\(([^)#\s]*)(?:#([^)]*))?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const place = target === '' ? file : normalize(join(dirname(file), target));
      if (!existsSync(place)) problems.push(`${file}: dead link ${target}`);
      else if (heading !== undefined && !headingsOf(place).has(heading)) {
        problems.push(`${file}: no heading for the link ${target}#${heading}`);
      }
    }
    for (const [, source = ''] of text.matchAll(/`([\w./-]+\.(?:ts|vue|go))`/g)) {
      if (!all.some((name) => name === source || name.endsWith(`/${source}`))) {
        problems.push(`${file}: there is no ${source}`);
      }
    }
  }
  return problems;
}

/** Headings of a document as links name them. */
function headingsOf(file: string): Set<string> {
  const titles = withoutBlocks(readFileSync(file, 'utf8')).matchAll(/^#+ +(.*)$/gm);
  return new Set(
    [...titles].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
        .trim()
        .replaceAll(' ', '-'),
    ),
  );
}

function withoutBlocks(markdown: string): string {
  return markdown.replace(/```[\s\S]*?```/g, '');
}

/** Every room says what it is for. */
function checkRooms(): string[] {
  const rooms = new Set(
    gitFiles('server')
      .map((name) => name.split('/')[1] ?? '')
      .filter((name) => name !== '' && !name.includes('.')),
  );
  return [...rooms]
    .filter((room) => !existsSync(`server/${room}/README.md`))
    .map((room) => `server/${room}: no README.md`);
}

function gitFiles(folder: string): string[] {
  return spawnSync('git', ['ls-files', '--', folder], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter((name) => name !== '' && existsSync(name));
}
