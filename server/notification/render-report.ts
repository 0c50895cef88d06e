import type { Language } from '../contract/api/notification.schema.ts';
import type { MonthlyReport } from '../contract/api/report.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { RunState } from '../contract/run.ts';
import { Formats } from './formats.ts';
import { html, Html } from './html.ts';
import { plain } from './plain.ts';
import { describeError } from './sentences.ts';
import { textsOf } from './texts/texts-of.ts';
import type { Texts } from './texts/texts.ts';

interface Words {
  texts: Texts;
  formats: Formats;
  language: Language;
}

/** The monthly report as a page that prints on A4 and reads on a phone. It loads nothing and runs nothing. */
export function renderReport(report: MonthlyReport, reader: { language: Language; timeZone: string }): string {
  const { language, timeZone } = reader;
  const words: Words = { texts: textsOf(language), formats: new Formats(language, timeZone), language };
  const { texts, formats } = words;
  const { runs } = report;
  // The middle of the month is in it, wherever the page is read.
  const month = new Intl.DateTimeFormat(language, { year: 'numeric', month: 'long', timeZone }).format(
    (report.fromMs + report.toMs) / 2,
  );
  const all = runs.success + runs.warning + runs.failure + runs.cancelled;
  const counts = {
    protected: report.protected.length,
    unprotected: report.unprotected.length,
    runs: all,
    failed: runs.failure,
  };
  return html`<!doctype html>
    <html lang="${language}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${texts.report.title} ${month}</title>
        <style>
          ${new Html(STYLE)}
        </style>
      </head>
      <body>
        <header>
          <p>Dozo</p>
          <h1>${texts.report.title}</h1>
          <p class="month">${month}</p>
        </header>
        <p>${texts.reportSummary(counts)}</p>
        <dl class="tiles">
          ${[
            tile(texts.report.protected, counts.protected, 'good'),
            tile(texts.report.unprotected, counts.unprotected, counts.unprotected > 0 ? 'warning' : 'good'),
            tile(texts.report.tested, report.tested.length, report.tested.length > 0 ? 'good' : 'warning'),
            tile(texts.report.failed, counts.failed, counts.failed > 0 ? 'bad' : 'good'),
          ]}
        </dl>
        ${section(texts.report.failed, renderFailed(report, words))}
        ${section(texts.report.unprotected, renderUnprotected(report, words))}
        ${section(texts.report.tested, renderTested(report, words))}
        ${section(texts.report.storageTrend, renderStorage(report, words))}
        ${section(texts.report.protected, renderProtected(report, words))}
        <footer>
          <p>${texts.report.made}: ${formats.time(report.madeAtMs)}</p>
          <p class="screen">${texts.report.print}</p>
        </footer>
      </body>
    </html> `.source;
}

/** Widths are of paper; colours stay readable where a printer leaves backgrounds out. */
const STYLE = `
@page{size:A4;margin:16mm}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px 16px 48px;max-width:820px;color:#1d2733;background:#fff;font:15px/1.5 -apple-system,'Segoe UI',Roboto,'Hiragino Sans','Noto Sans JP',Meiryo,Arial,sans-serif}
header{border-bottom:3px solid #20588f;margin-bottom:16px}
header p{margin:0;color:#56626f}
header .month{font-size:18px;color:#1d2733;margin-bottom:8px}
h1{margin:0;font-size:26px;line-height:1.3}
h2{margin:28px 0 8px;font-size:18px;break-after:avoid}
h3{margin:16px 0 4px;font-size:15px;break-after:avoid}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:16px 0}
.tiles div{border:1px solid #d5dbe2;border-top:4px solid #37506b;border-radius:4px;padding:8px 12px;display:flex;flex-direction:column-reverse}
.tiles dt{color:#56626f;font-size:13px}
.tiles dd{margin:0;font-size:26px;font-weight:600}
.tiles .good{border-top-color:#1b6e43}.tiles .warning{border-top-color:#8a5200}.tiles .bad{border-top-color:#a8201a}
table{width:100%;border-collapse:collapse;font-size:13px}
th,td{text-align:left;vertical-align:top;padding:5px 12px 5px 0;border-bottom:1px solid #d5dbe2}
th{color:#56626f;font-weight:600}
td.name{overflow-wrap:anywhere;min-width:7em}
td.short{white-space:nowrap}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
thead{display:table-header-group}
tr{break-inside:avoid}
.state-failed bdi,.state-incomplete bdi{color:#a8201a;font-weight:600}
svg{display:block;width:100%;height:auto;margin:4px 0}
figure{margin:0 0 12px;break-inside:avoid}
figcaption{font-size:13px;color:#56626f}
footer{margin-top:32px;color:#56626f;font-size:12px}
footer p{margin:0}
@media screen and (max-width:600px){thead{display:none}table,tbody,tr,td{display:block}tr{padding:6px 0;border-bottom:1px solid #d5dbe2}td,td.number,td.short{display:flex;gap:12px;text-align:left;white-space:normal;border:0;padding:1px 0}td:before{content:attr(data-label);flex:0 0 38%;color:#56626f}td:has(bdi:empty){display:none}}
@media print{body{padding:0;max-width:none;font-size:11pt}.screen{display:none}}
`;

function tile(label: string, value: number, tone: 'good' | 'warning' | 'bad'): Html {
  return html`<div class="${tone}">
    <dt>${label}</dt>
    <dd>${value}</dd>
  </div>`;
}

function section(title: string, content: Html): Html {
  return html`<section>
    <h2>${title}</h2>
    ${content}
  </section>`;
}

interface Column {
  heading: string;
  isNumber?: true;
}

/** Text alone: a name, which may break anywhere. */
type Cell = string | { text: string; kind: 'number' | 'short' | `state-${RunState}` };

/** A time or a size: stays on its line. */
function short(text: string): Cell {
  return { text, kind: 'short' };
}

function number(text: string): Cell {
  return { text, kind: 'number' };
}

function table(columns: readonly Column[], rows: readonly (readonly Cell[])[], { texts }: Words): Html {
  if (rows.length === 0) return html`<p>${texts.report.none}</p>`;
  return html`<table>
    <thead>
      <tr>
        ${columns.map(({ heading, isNumber }) => html`<th class="${isNumber === true ? 'number' : ''}">${heading}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${rows.map(
        (row) =>
          html`<tr>
            ${row.map((cell, index) => renderCell(cell, columns[index]?.heading ?? ''))}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

/** On a phone each cell is a line of its own, with its heading in front. */
function renderCell(cell: Cell, heading: string): Html {
  const { text, kind } = typeof cell === 'string' ? { text: cell, kind: 'name' } : cell;
  return html`<td class="${kind}" data-label="${heading}"><bdi>${text}</bdi></td>`;
}

function renderFailed(report: MonthlyReport, words: Words): Html {
  const { texts, formats, language } = words;
  return table(
    [
      { heading: texts.report.when },
      { heading: texts.labels.task },
      { heading: texts.report.result },
      { heading: texts.report.reason },
    ],
    report.failed.map(({ finishedAtMs, title, state, error }) => [
      short(formats.time(finishedAtMs)),
      plain(title, 100),
      stateCell(state, texts),
      error === null ? '' : (describeError(error as ErrorBody, language)[0] ?? ''),
    ]),
    words,
  );
}

function renderUnprotected(report: MonthlyReport, words: Words): Html {
  const { texts } = words;
  return table(
    [{ heading: texts.report.machine }, { heading: texts.report.host }, { heading: texts.report.tasks }],
    report.unprotected.map(({ name, host, tasks }) => [
      plain(name, 100),
      host === null ? '' : plain(host, 100),
      texts.list(tasks.map((task) => plain(task, 100))),
    ]),
    words,
  );
}

function renderTested(report: MonthlyReport, words: Words): Html {
  const { texts, formats } = words;
  return table(
    [
      { heading: texts.report.when },
      { heading: texts.report.what },
      { heading: texts.report.run },
      { heading: texts.report.result },
    ],
    report.tested.map(({ kind, title, state, finishedAtMs }) => [
      short(formats.time(finishedAtMs)),
      kind === 'check' ? texts.report.check : texts.report.restoreTest,
      plain(title, 100),
      stateCell(state, texts),
    ]),
    words,
  );
}

function renderProtected(report: MonthlyReport, words: Words): Html {
  const { texts, formats } = words;
  return table(
    [
      { heading: texts.report.machine },
      { heading: texts.report.host },
      { heading: texts.report.tasks },
      { heading: texts.report.versions, isNumber: true },
      { heading: texts.report.newestVersion },
    ],
    report.protected.map(({ name, host, present, tasks, versionCount, lastVersionAtMs }) => [
      plain(name, 100),
      present ? (host === null ? '' : plain(host, 100)) : texts.report.unseen,
      texts.list(tasks.map((task) => plain(task, 100))),
      number(String(versionCount)),
      short(lastVersionAtMs === null ? texts.never : formats.time(lastVersionAtMs)),
    ]),
    words,
  );
}

function stateCell(state: RunState, texts: Texts): Cell {
  return { text: texts.states[state], kind: `state-${state}` };
}

function renderStorage(report: MonthlyReport, words: Words): Html {
  const { texts, formats } = words;
  if (report.storage.length === 0) return html`<p>${texts.report.none}</p>`;
  return html`${report.storage.map(({ name, days }) => {
    const [first] = days;
    const last = days.at(-1);
    if (first === undefined || last === undefined) {
      return html`<h3><bdi>${plain(name, 100)}</bdi></h3>
        <p>${texts.report.noData}</p>`;
    }
    return html`<figure>
      <h3><bdi>${plain(name, 100)}</bdi></h3>
      ${table(
        [
          { heading: texts.report.atBegin },
          { heading: texts.report.atEnd },
          { heading: texts.report.growth },
          { heading: texts.report.versions, isNumber: true },
        ],
        [
          [
            short(formats.bytes(first.storedBytes)),
            short(formats.bytes(last.storedBytes)),
            short(formats.growth(last.storedBytes - first.storedBytes)),
            number(String(last.points)),
          ],
        ],
        words,
      )}${days.length > 1 ? drawTrend(days, report) : ''}${
        days.length > 1 ? html`<figcaption>${formats.day(first.dayMs)} – ${formats.day(last.dayMs)}</figcaption>` : ''
      }
    </figure>`;
  })}`;
}

const CHART = { width: 780, height: 120 };

/** Bytes over the days of the month, from nothing at the bottom to the largest figure at the top. */
function drawTrend(days: MonthlyReport['storage'][number]['days'], { fromMs, toMs }: MonthlyReport): Html {
  const largest = Math.max(1, ...days.map(({ storedBytes }) => storedBytes));
  const points = days.map(({ dayMs, storedBytes }) => {
    const x = ((Math.max(dayMs, fromMs) - fromMs) / (toMs - fromMs)) * CHART.width;
    const y = CHART.height - 4 - (storedBytes / largest) * (CHART.height - 12);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  const [firstX = '0'] = (points[0] ?? '').split(',');
  const [lastX = '0'] = (points.at(-1) ?? '').split(',');
  const floor = CHART.height - 4;
  return html`<svg viewBox="0 0 ${CHART.width} ${CHART.height}" role="img" aria-hidden="true">
    <polygon points="${firstX},${floor} ${points.join(' ')} ${lastX},${floor}" fill="#dbe7f3" />
    <polyline points="${points.join(' ')}" fill="none" stroke="#20588f" stroke-width="2" />
    <line x1="0" y1="${floor}" x2="${CHART.width}" y2="${floor}" stroke="#56626f" />
  </svg>`;
}
