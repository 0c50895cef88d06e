import { isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';

/**
 * The restore tool within a repository, section 2 of the format: one file a version of Dozo, beside the readme that
 * names it. As every file it is published once; a newer Dozo puts its own beside it.
 */
export async function publishRestoreTool(storage: Storage, tool: { version: string; content: Buffer }): Promise<void> {
  const name = restoreToolName(tool.version);
  if (await storage.exists(name)) return;
  try {
    await storage.publish(name, tool.content);
  } catch (error) {
    // Another worker was faster.
    if (!isAppError(error) || error.code !== 'STORAGE_EXISTS') throw error;
  }
}

/** @param version as in package.json; whatever a name may not hold becomes a dash */
export function restoreToolName(version: string): string {
  return `dozo-restore-${version.toLowerCase().replaceAll(/[^a-z0-9.]+/g, '-')}.js`;
}
