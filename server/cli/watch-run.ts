import { MultiBar, type SingleBar } from 'cli-progress';
import type { z } from 'zod';
import type { ServerEvent } from '../contract/api/event.schema.ts';
import type { runDetailSchema, RunView } from '../contract/api/run.schema.ts';
import type { MachineProgress } from '../contract/run.ts';
import { formatBytes } from '../runtime/index.ts';
import type { Terminal } from './ask.ts';
import { callApi, type Connection } from './connection.ts';
import { readEvents } from './event-reader.ts';
import { cleanText } from './table.ts';

type RunDetail = z.infer<typeof runDetailSchema>;

/**
 * Follows a run to its end: JSON lines, one an event, or bars at a terminal, or lines of its log.
 * @returns the run as it ended
 */
export async function watchRun(
  connection: Connection,
  runId: string,
  options: { json: boolean; terminal: Terminal },
): Promise<RunDetail> {
  const view = options.json
    ? new JsonView(options.terminal)
    : options.terminal.output.isTTY === true
      ? new BarView(options.terminal)
      : new LineView(options.terminal);
  try {
    const events = readEvents(connection, runId);
    for await (const event of events) {
      if (event.type === 'reset') {
        const run = await load(connection, runId);
        view.load(run);
        if (isEnded(run)) return run;
        continue;
      }
      view.take(event);
      if (event.type === 'run' && isEnded(event.run)) break;
    }
    const run = await load(connection, runId);
    view.load(run);
    return run;
  } finally {
    view.close();
  }
}

export function isEnded(run: Pick<RunView, 'state'>): boolean {
  return run.state !== 'waiting' && run.state !== 'running';
}

async function load(connection: Connection, runId: string): Promise<RunDetail> {
  return (await callApi(connection, { method: 'GET', path: `/runs/${runId}` })) as RunDetail;
}

interface View {
  load(run: RunDetail): void;
  take(event: ServerEvent): void;
  close(): void;
}

class JsonView implements View {
  readonly #terminal: Terminal;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  load(run: RunDetail): void {
    this.#terminal.output.write(`${JSON.stringify({ type: 'run', run })}\n`);
  }

  take(event: ServerEvent): void {
    this.#terminal.output.write(`${JSON.stringify(event)}\n`);
  }

  close(): void {
    // Nothing is open.
  }
}

class LineView implements View {
  readonly #terminal: Terminal;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  load(_run: RunDetail): void {
    // The end is told by the command.
  }

  take(event: ServerEvent): void {
    if (event.type !== 'log') return;
    const time = new Date(event.line.atMs).toISOString();
    this.#terminal.output.write(`${time} ${event.line.level} ${cleanText(event.line.text)}\n`);
  }

  close(): void {
    // Nothing is open.
  }
}

const BAR_FORMAT = '{name} {bar} {percentage}% {done}/{size} {speed} {left} {stage}';

class BarView implements View {
  readonly #bars = new Map<string, SingleBar>();
  readonly #multi: MultiBar;
  #isClosed = false;

  constructor(terminal: Terminal) {
    this.#multi = new MultiBar({
      format: BAR_FORMAT,
      stream: terminal.output,
      barsize: 24,
      hideCursor: true,
      emptyOnZero: true,
      autopadding: true,
    });
  }

  load(run: RunDetail): void {
    for (const part of run.parts) {
      const bar = this.#bars.get(part.id) ?? this.#multi.create(1, 0, fields(part.name, null));
      this.#bars.set(part.id, bar);
      if (part.progress !== null) show(bar, part.progress);
      if (part.state !== 'running') bar.update({ stage: part.state });
    }
  }

  take(event: ServerEvent): void {
    if (event.type === 'progress') {
      const bar = this.#bars.get(event.partId);
      if (bar !== undefined) show(bar, event.progress);
    }
    if (event.type === 'part' && event.part.state !== 'running') {
      this.#bars.get(event.part.id)?.update({ stage: event.part.state });
    }
    if (event.type === 'log' && event.line.level !== 'info') {
      this.#multi.log(`${event.line.level}: ${cleanText(event.line.text)}\n`);
    }
  }

  close(): void {
    if (!this.#isClosed) this.#multi.stop();
    this.#isClosed = true;
  }
}

function show(bar: SingleBar, progress: MachineProgress): void {
  bar.setTotal(Math.max(1, progress.totalBytes));
  bar.update(progress.doneBytes, fields(null, progress));
}

function fields(name: string | null, progress: MachineProgress | null): Record<string, string> {
  const left = progress?.remainingSeconds ?? null;
  return {
    ...(name === null ? {} : { name: cleanText(name).slice(0, 30).padEnd(16) }),
    done: formatBytes(progress?.doneBytes ?? 0),
    size: formatBytes(progress?.totalBytes ?? 0),
    speed: progress === null ? '' : `${formatBytes(progress.bytesPerSecond)}/s`,
    left: left === null ? '' : `${formatDuration(left)} left`,
    stage: progress?.stage ?? 'waiting',
  };
}

function formatDuration(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  if (minutes === 0) return `${Math.round(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
