import type { Step } from './contender.ts';
import type { MachineFacts } from './machine-facts.ts';
import type { Measurement } from './rounds.ts';
import type { Aim, Row } from './summary.ts';

/** Everything that a run of the bench found out. What `--json` prints. */
export interface BenchReport {
  takenAt: string;
  machine: MachineFacts;
  versions: Record<string, string>;
  disk: { sizeBytes: number; fileBytes: number; dataBytes: number; changedBlocks: number };
  rounds: number;
  about: Record<string, string>;
  rows: Row[];
  aims: Aim[];
  measurements: Measurement[];
}

const STEP_TITLES: Record<Step, string> = {
  full: 'Full',
  changed: 'Incremental, 1 % of the blocks changed',
  unchanged: 'Incremental, nothing changed',
  restore: 'Restore',
};

const COLUMNS = [
  '',
  'seconds',
  '(min–max)',
  'disk MB/s',
  'CPU s here',
  'CPU s host',
  'memory MB',
  'wire MB',
  'stored MB',
  'Dozo is',
];

/** Markdown, in columns of even width so that it reads well in a terminal too. */
export function renderTables(report: BenchReport): string {
  const steps = Object.keys(STEP_TITLES) as Step[];
  const tables = steps.map((step) => {
    const rows = report.rows.filter((row) => row.step === step).map((row) => cells(row, report.disk.sizeBytes));
    return `### ${STEP_TITLES[step]}\n\n${renderMarkdown(COLUMNS, rows)}`;
  });
  const aims = report.aims.map(({ text, measured, isMet }) => [text, measured, isMet ? 'met' : 'not met']);
  return [...tables, `### Aims\n\n${renderMarkdown(['aim', 'measured', ''], aims)}`].join('\n\n');
}

function cells(row: Row, diskBytes: number): string[] {
  if (row.isVoid) return [row.contender, 'void: the restored disk was not equal', ...COLUMNS.slice(2).map(() => '')];
  const times = row.subjectIsTimesFaster;
  return [
    row.contender,
    row.seconds.toFixed(2),
    `${row.secondsMin.toFixed(2)}–${row.secondsMax.toFixed(2)}`,
    (diskBytes / 1e6 / row.seconds).toFixed(0),
    row.cpuSeconds.toFixed(2),
    row.hostCpuSeconds.toFixed(2),
    megabytes(row.memorySumBytes, 0),
    megabytes(row.wireBytes, row.wireBytes < 1e8 ? 2 : 0),
    row.step === 'restore' ? '' : megabytes(row.storedBytes, row.storedBytes < 1e8 ? 2 : 0),
    times === null ? '' : `${times.toFixed(2)} × as fast`,
  ];
}

function megabytes(bytes: number, digits: number): string {
  return (bytes / 1e6).toFixed(digits);
}

function renderMarkdown(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (values: readonly string[]): string =>
    `| ${values.map((value, column) => (column === 0 ? value.padEnd(widths[column] ?? 0) : value.padStart(widths[column] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(header), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n');
}

/** The whole generated part of docs/performance.md. */
export function renderDocument(report: BenchReport): string {
  const { machine, disk } = report;
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  return [
    `Taken on ${report.takenAt.slice(0, 10)} on one machine with ${machine.cpuModel}, ${String(machine.cpus)} cores, ` +
      `${gib(machine.memoryBytes)} of memory, Linux ${machine.kernel}; medians of ${String(report.rounds)} ` +
      `${report.rounds === 1 ? 'round' : 'rounds'}; load average before the start ${machine.loadAverage.toFixed(1)}. ` +
      `The disk: ${gib(disk.sizeBytes)}, ext4, with ${gib(disk.fileBytes)} of files of the machine; ` +
      `${gib(disk.dataBytes)} of it lie in 64 KiB blocks that are not zero. Each round changed 4 KiB in ` +
      `${String(disk.changedBlocks)} of them.`,
    renderTables(report),
    '### Contenders',
    Object.entries(report.about)
      .map(([name, about]) => `- **${name}**: ${about}`)
      .join('\n'),
    `Versions: ${Object.values(report.versions)
      .filter((version, at, all) => all.indexOf(version) === at)
      .join(' · ')}.`,
  ].join('\n\n');
}

const BEGIN = '<!-- bench: begin (written by npm run bench -- --write-docs) -->';
const END = '<!-- bench: end -->';

/** Replaces what lies between the two marks. @throws when a mark is missing */
export function replaceSection(document: string, section: string, marks = { begin: BEGIN, end: END }): string {
  const begin = document.indexOf(marks.begin);
  const end = document.indexOf(marks.end);
  if (begin < 0 || end < begin) throw new Error(`the document lacks its marks:\n${marks.begin}\n${marks.end}`);
  return `${document.slice(0, begin)}${marks.begin}\n\n${section}\n\n${document.slice(end)}`;
}
