interface Part {
  name: string;
  state: string;
  progress: { stage: string; totalBytes: number; doneBytes: number } | null;
}

const WIDTH = 28;

/** One line a machine on standard error: redrawn in a terminal, a line at each change of stage elsewhere. */
export class ProgressBars {
  readonly #title: string;
  readonly #live = process.stderr.isTTY;
  #lines = 0;
  readonly #told = new Map<string, string>();

  constructor(title: string) {
    this.#title = title;
    if (this.#live) process.stderr.write(`${title}\n`);
  }

  show(parts: readonly Part[]): void {
    if (!this.#live) {
      for (const part of parts) {
        const stage = part.progress?.stage ?? part.state;
        if (this.#told.get(part.name) === stage) continue;
        this.#told.set(part.name, stage);
        process.stderr.write(`${this.#title}: ${part.name}: ${stage}\n`);
      }
      return;
    }
    if (this.#lines > 0) process.stderr.write(`\x1b[${this.#lines}A`);
    for (const part of parts) process.stderr.write(`\x1b[2K  ${renderBar(part)}\n`);
    this.#lines = parts.length;
  }

  end(): void {
    this.#lines = 0;
  }
}

function renderBar({ name, state, progress }: Part): string {
  const total = progress?.totalBytes ?? 0;
  const ended = state !== 'waiting' && state !== 'running';
  const share = ended ? 1 : total === 0 ? 0 : Math.min(1, (progress?.doneBytes ?? 0) / total);
  const filled = Math.round(share * WIDTH);
  const bar = '█'.repeat(filled) + '░'.repeat(WIDTH - filled);
  return `${bar} ${String(Math.round(share * 100)).padStart(3)} %  ${name}  ${ended ? state : (progress?.stage ?? state)}`;
}
