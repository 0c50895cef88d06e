import type { Logger } from '../runtime/index.ts';
import type { Nas } from './nas.ts';
import { toLine } from './program.ts';

/** A Linux that is no NAS: its log is the only place to tell anybody. */
export function createLinux(logger: Logger): Nas {
  return {
    name: 'Linux',
    hasSignIn: false,
    vouchesForAddress: false,
    exampleFolder: '/srv/dozo',
    notify: async (level, text) => {
      logger.info({ level, text: toLine(text) }, 'notice');
      return true;
    },
    identify: async () => null,
    listShares: async () => [],
    hasFirewall: async () => null,
  };
}
