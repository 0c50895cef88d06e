import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../runtime/index.ts';
import { createDsm } from './dsm.ts';
import { createLinux } from './linux.ts';
import type { Nas } from './nas.ts';
import { createQts } from './qts.ts';

/**
 * Chooses by the programs that are there.
 * @param root of the file system; another one in tests
 */
export function detectNas(logger: Logger, root = '/'): Nas {
  if (existsSync(join(root, 'usr/syno/bin/synodsmnotify'))) return createDsm(logger, root);
  if (existsSync(join(root, 'sbin/log_tool'))) return createQts(logger, root);
  return createLinux(logger);
}
