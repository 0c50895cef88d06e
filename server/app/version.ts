import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Version of Dozo: from the package's description, beside the bundles or above the sources. */
export function readVersion(): string {
  for (const folder of ['.', '..', '../..']) {
    try {
      const text = readFileSync(join(import.meta.dirname, folder, 'package.json'), 'utf8');
      const { version } = JSON.parse(text) as { version?: unknown };
      if (typeof version === 'string') return version;
    } catch {
      // Not there: the next place.
    }
  }
  return 'unknown';
}
