import type { Language } from '../contract/api/notification.schema.ts';
import type { RunState } from '../contract/run.ts';
import { Formats } from './formats.ts';
import type { Block, Fact, Message, Tone } from './message.ts';
import type {
  CatalogueNotice,
  DigestJob,
  DigestNotice,
  MachineNotice,
  MissedNotice,
  Notice,
  OverdueNotice,
  RunNotice,
} from './notice.ts';
import { plain } from './plain.ts';
import { describeError, describeLine } from './sentences.ts';
import { textsOf } from './texts/texts-of.ts';
import type { Texts } from './texts/texts.ts';

/** For whom a message is made. */
export interface Reader {
  language: Language;
  timeZone: string;
  /** Where they reach the window, without a slash at its end; null: no links. */
  windowUrl: string | null;
  /** Name of the NAS. */
  sender: string;
}

/** A mail that names more is read by nobody. */
const MACHINES_SHOWN = 50;

/** The message that a notice is for this reader. */
export function composeMessage(notice: Notice, reader: Reader): Message {
  const words: Words = {
    texts: textsOf(reader.language),
    formats: new Formats(reader.language, reader.timeZone),
    reader,
  };
  switch (notice.kind) {
    case 'run':
      return composeRun(notice, words);
    case 'missed':
      return composeMissed(notice, words);
    case 'overdue':
      return composeOverdue(notice, words);
    case 'catalogue':
      return composeCatalogue(notice, words);
    case 'digest':
      return composeDigest(notice, words);
  }
}

/** What the test button sends. */
export function composeTest(reader: Reader): Message {
  const words: Words = {
    texts: textsOf(reader.language),
    formats: new Formats(reader.language, reader.timeZone),
    reader,
  };
  const { testHeading, testLead } = words.texts;
  return frame(words, { tone: 'good', heading: testHeading, lead: [testLead], link: '' });
}

interface Words {
  texts: Texts;
  formats: Formats;
  reader: Reader;
}

function frame(
  { texts, reader }: Words,
  content: {
    tone: Tone;
    heading: string;
    /** Sentences. */
    lead: readonly string[];
    facts?: Fact[];
    blocks?: Block[];
    /** Of the window, behind its address. */
    link: string;
  },
): Message {
  const { windowUrl } = reader;
  return {
    language: reader.language,
    tone: content.tone,
    subject: `Dozo: ${content.heading}`,
    heading: content.heading,
    lead: joinSentences(content.lead, reader.language),
    facts: content.facts ?? [],
    blocks: content.blocks ?? [],
    link: windowUrl === null ? null : { label: texts.openWindow, url: `${windowUrl}/${content.link}` },
    footer: texts.footer(plain(reader.sender)),
  };
}

/** Japanese puts nothing between sentences, but after one in other letters. */
function joinSentences(sentences: readonly string[], language: Language): string {
  const joined = sentences.join(' ');
  return language === 'ja' ? joined.replaceAll('。 ', '。') : joined;
}

function composeRun(notice: RunNotice, words: Words): Message {
  const { texts, formats } = words;
  const kind = texts.runKinds[notice.runKind];
  const title = plain(notice.title, 100);
  const hasRecovered = notice.results.includes('recovered');
  const succeeded = notice.machines.filter(({ state }) => state === 'success').length;
  const lead = [
    ...(notice.machineCount > 1 ? [texts.machineCount(succeeded, notice.machineCount)] : []),
    ...(hasRecovered ? [texts.recovered] : []),
    ...(notice.results.includes('failure') && notice.runKind === 'backup' && notice.startedBy !== 'request'
      ? [notice.retryAtMs === null ? texts.noRetry : texts.retryAt(formats.time(notice.retryAtMs))]
      : []),
  ];
  const isOwnError = notice.error !== null && notice.machines.every(({ error }) => error === null);
  const shown = notice.machines.slice(0, MACHINES_SHOWN);
  const hidden = notice.machineCount - shown.length;
  return frame(words, {
    tone: toneOf(notice.state),
    heading:
      hasRecovered && notice.state === 'success'
        ? texts.recoveredHeading(kind, title)
        : texts.runHeading(kind, title, endState(notice.state)),
    lead: [...(isOwnError && notice.error !== null ? describeError(notice.error, words.reader.language) : []), ...lead],
    facts: [
      { label: texts.labels.result, value: texts.states[notice.state] },
      { label: texts.labels.startedBy, value: texts.startedBy[notice.startedBy] ?? notice.startedBy },
      ...times(notice, words),
      ...(notice.repository === null ? [] : [{ label: texts.labels.storage, value: plain(notice.repository, 100) }]),
    ],
    blocks: [
      ...(notice.warnings.length === 0
        ? []
        : [
            {
              title: texts.labels.warning,
              tone: 'warning' as const,
              badge: null,
              facts: [],
              remarks: notice.warnings.map((line) => describeLine(line, words.reader.language, formats)),
            },
          ]),
      ...shown.map((machine) => blockOf(machine, words)),
      ...(hidden > 0
        ? [{ title: texts.moreMachines(hidden), tone: 'neutral' as const, badge: null, facts: [], remarks: [] }]
        : []),
    ],
    link: `#/activities/${notice.runId}`,
  });
}

function blockOf(machine: MachineNotice, { texts, formats, reader }: Words): Block {
  const { labels } = texts;
  const { bytes, rootHash, consistency } = machine;
  const level = consistency !== null && consistency in texts.consistency ? consistency : null;
  return {
    title: plain(machine.name, 100),
    tone: toneOf(machine.state),
    badge: texts.states[machine.state],
    facts: [
      ...times(machine, { texts, formats, reader }),
      ...(bytes === null
        ? []
        : [
            { label: labels.size, value: formats.bytes(bytes.nominal) },
            { label: labels.read, value: formats.bytes(bytes.read) },
            { label: labels.stored, value: formats.bytes(bytes.stored) },
          ]),
      ...(level === null
        ? []
        : [{ label: labels.consistency, value: texts.consistency[level as keyof Texts['consistency']] }]),
      ...(rootHash === null ? [] : [{ label: labels.rootHash, value: plain(rootHash, 200), isCode: true as const }]),
    ],
    remarks: [
      ...(machine.error === null ? [] : describeError(machine.error, reader.language)),
      ...machine.warnings.map((line) => `${labels.warning}: ${describeLine(line, reader.language, formats)}`),
    ],
  };
}

function times(
  span: { startedAtMs: number | null; finishedAtMs: number | null },
  { texts: { labels }, formats }: Words,
): Fact[] {
  const { startedAtMs, finishedAtMs } = span;
  return [
    ...(startedAtMs === null ? [] : [{ label: labels.begin, value: formats.time(startedAtMs) }]),
    ...(finishedAtMs === null ? [] : [{ label: labels.end, value: formats.time(finishedAtMs) }]),
    ...(startedAtMs === null || finishedAtMs === null
      ? []
      : [{ label: labels.duration, value: formats.duration(finishedAtMs - startedAtMs) }]),
  ];
}

function composeMissed(notice: MissedNotice, words: Words): Message {
  const { texts, formats } = words;
  const title = plain(notice.title, 100);
  const dueAt = formats.time(notice.dueAtMs);
  return frame(words, {
    tone: 'warning',
    heading: texts.missedHeading(title),
    lead: [texts.missedLead(dueAt), notice.isCaughtUp ? texts.missedCaughtUp : texts.missedLeftOut],
    facts: [
      { label: texts.labels.task, value: title },
      { label: texts.labels.dueAt, value: dueAt },
    ],
    link: '#/activities',
  });
}

function composeOverdue(notice: OverdueNotice, words: Words): Message {
  const { texts, formats, reader } = words;
  const title = plain(notice.title, 100);
  const { lastSuccessAtMs, lastState, lastError, dueSinceMs, days } = notice;
  return frame(words, {
    tone: 'bad',
    heading: texts.overdueHeading(title, days),
    lead: [texts.overdueLead(formats.time(dueSinceMs)), texts.overdueRemedy],
    facts: [
      { label: texts.labels.task, value: title },
      {
        label: texts.labels.lastSuccess,
        value: lastSuccessAtMs === null ? texts.never : formats.time(lastSuccessAtMs),
      },
      ...(lastState === null ? [] : [{ label: texts.labels.lastResult, value: texts.states[lastState] }]),
    ],
    blocks:
      lastError === null
        ? []
        : [
            {
              title: texts.labels.reason,
              tone: 'bad',
              badge: null,
              facts: [],
              remarks: describeError(lastError, reader.language),
            },
          ],
    link: '#/activities',
  });
}

function composeCatalogue({ sinceMs, error }: CatalogueNotice, words: Words): Message {
  const { texts, formats, reader } = words;
  return frame(words, {
    tone: 'bad',
    heading: texts.catalogueHeading,
    lead: [texts.catalogueLead(formats.time(sinceMs))],
    blocks: [
      {
        title: texts.labels.reason,
        tone: 'bad',
        badge: null,
        facts: [],
        remarks: describeError(error, reader.language),
      },
    ],
    link: '',
  });
}

function composeDigest(notice: DigestNotice, words: Words): Message {
  const { texts, formats } = words;
  const { runs, unprotected, undelivered } = notice;
  const ran = runs.success + runs.warning + runs.failure + runs.cancelled;
  const isBad = runs.failure > 0 || notice.jobs.some(({ lastState }) => lastState === 'failed');
  const isWorrying = runs.warning > 0 || undelivered > 0 || notice.repositories.some(({ error }) => error !== null);
  return frame(words, {
    tone: isBad ? 'bad' : isWorrying ? 'warning' : 'good',
    heading: `${texts.digestHeading[notice.period]}: ${texts.digestShort(runs)}`,
    lead: [
      ran === 0 ? texts.digestNothing : texts.digestLead(runs),
      ...(undelivered > 0 ? [texts.undelivered(undelivered)] : []),
    ],
    facts: [{ label: texts.labels.period, value: `${formats.time(notice.fromMs)} – ${formats.time(notice.toMs)}` }],
    blocks: [
      ...notice.jobs.map((job) => blockOfJob(job, words)),
      ...notice.repositories.map((repository) => blockOfRepository(repository, words)),
      ...(unprotected.length === 0
        ? []
        : [
            {
              title: texts.unprotectedBlock(unprotected.length),
              tone: 'warning' as const,
              badge: null,
              facts: [],
              remarks: [
                texts.list([
                  ...unprotected.slice(0, MACHINES_SHOWN).map((name) => plain(name, 100)),
                  ...(unprotected.length > MACHINES_SHOWN ? ['…'] : []),
                ]),
                texts.unprotectedRemedy,
              ],
            },
          ]),
    ],
    link: '',
  });
}

function blockOfJob(job: DigestJob, { texts, formats, reader }: Words): Block {
  const { labels } = texts;
  return {
    title: plain(job.title, 100),
    tone: job.lastState === null ? 'neutral' : toneOf(job.lastState),
    badge: job.lastState === null ? null : texts.states[job.lastState],
    facts: [
      { label: labels.runs, value: String(job.runs) },
      ...(job.failures === 0 ? [] : [{ label: labels.failures, value: String(job.failures) }]),
      {
        label: labels.lastSuccess,
        value: job.lastSuccessAtMs === null ? texts.never : formats.time(job.lastSuccessAtMs),
      },
      ...(job.nextRunAtMs === null ? [] : [{ label: labels.nextRun, value: formats.time(job.nextRunAtMs) }]),
    ],
    remarks: job.lastError === null ? [] : describeError(job.lastError, reader.language),
  };
}

function blockOfRepository(repository: DigestNotice['repositories'][number], words: Words): Block {
  const { texts, formats, reader } = words;
  const { storedBytes, growthBytes, error } = repository;
  return {
    title: texts.storage(plain(repository.name, 100)),
    tone: error === null ? 'neutral' : 'bad',
    badge: null,
    facts: [
      ...(storedBytes === null ? [] : [{ label: texts.labels.inUse, value: formats.bytes(storedBytes) }]),
      ...(growthBytes === null ? [] : [{ label: texts.labels.growth, value: formats.growth(growthBytes) }]),
    ],
    remarks: error === null ? [] : describeError(error, reader.language),
  };
}

function toneOf(state: RunState): Tone {
  switch (state) {
    case 'success':
      return 'good';
    case 'warning':
    case 'cancelled':
      return 'warning';
    case 'incomplete':
    case 'failed':
      return 'bad';
    case 'waiting':
    case 'running':
      return 'neutral';
  }
}

function endState(state: RunState): Exclude<RunState, 'waiting' | 'running'> {
  return state === 'waiting' || state === 'running' ? 'failed' : state;
}
