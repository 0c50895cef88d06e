import type { LogLine } from '../contract/run.ts';
import type { NumberedLine } from '../queue/index.ts';
import type { OrchestrationContext } from './context.ts';

/** Lines of runs: the workers' and the server's own, each stored once and told to who listens. */
export class RunLog {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  /** A line of the server's own. */
  async write(runId: string, partId: string | null, line: Omit<LogLine, 'atMs'>): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    const dated: LogLine = { atMs: clock.nowMs(), ...line };
    const isNew = await catalogue.transaction(async (tables) => {
      const sequence = await tables.log.nextSequence(runId, 'server');
      return tables.log.add({ runId, partId, source: 'server', sequence, line: dated });
    });
    if (isNew) events.emit({ type: 'log', runId, partId, line: dated });
  }

  /** Lines of a worker; those that are there already change nothing. */
  async take(runId: string, partId: string, source: string, entries: readonly NumberedLine[]): Promise<void> {
    if (entries.length === 0) return;
    const { catalogue, events } = this.#context;
    const fresh: LogLine[] = [];
    await catalogue.transaction(async (tables) => {
      for (const { sequence, line } of entries) {
        // The same execution has its own numbers; the part sets apart what two parts have alike.
        const isNew = await tables.log.add({ runId, partId, source: `${partId} ${source}`, sequence, line });
        if (isNew) fresh.push(line);
      }
    });
    for (const line of fresh) events.emit({ type: 'log', runId, partId, line });
  }
}
