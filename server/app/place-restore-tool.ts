import { readFile } from 'node:fs/promises';
import { publishRestoreTool } from '../repository/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { openLocalStorage } from '../storage/index.ts';
import { readVersion } from './version.ts';

/** Beside the bundles; from the sources, where the build has put it. */
const TOOL = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/server/dozo-restore.js' : './dozo-restore.js',
  import.meta.url,
);

/**
 * Puts the restore tool of this version into a repository that has it not yet. Never fails: a backup does not
 * depend on it.
 */
export async function placeRestoreTool(
  path: string,
  { clock, logger }: { clock: Clock; logger: Logger },
): Promise<void> {
  try {
    const content = await readFile(TOOL);
    await publishRestoreTool(await openLocalStorage({ folder: path, clock, logger }), {
      version: readVersion(),
      content,
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // Run from its sources before a build, Dozo has none.
    logger.info({ path, reason }, 'the restore tool could not be put into the repository');
  }
}
