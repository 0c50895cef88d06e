import type { Clock } from '../runtime/index.ts';
import type { FolderContents } from './guest-archive.ts';

/** Long enough for a browser that was told that a download would come to ask for it. */
const KEPT_MS = 60_000;
/** What one holds may take megabytes. */
const KEPT_MAX = 2;

/**
 * Contents of folders between the question whether a download would come and the download: a large folder is looked
 * through once. A version never changes, so neither do they.
 */
export class KeptContents {
  readonly #clock: Clock;
  readonly #kept = new Map<string, { contents: FolderContents; end: AbortController }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** For a minute at most, and until so many others have come. @param key of version, disk, volume and path */
  keep(key: string, contents: FolderContents): void {
    this.take(key);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size === KEPT_MAX && oldest !== undefined) this.take(oldest);
    const end = new AbortController();
    this.#kept.set(key, { contents, end });
    void this.#clock.sleep(KEPT_MS, end.signal).then(
      () => this.take(key),
      () => undefined,
    );
  }

  /** Once: they are not kept any longer then. */
  take(key: string): FolderContents | undefined {
    const kept = this.#kept.get(key);
    this.#kept.delete(key);
    kept?.end.abort();
    return kept?.contents;
  }
}
