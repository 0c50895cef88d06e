import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Logger } from '../runtime/index.ts';
import type { Nas, NoticeLevel } from './nas.ts';

/** Programs of a NAS sometimes hang while its database is busy. */
const PROGRAM_TIMEOUT_MS = 20_000;
const TEXT_CHARACTERS_MAX = 400;

/** Programs with their arguments: tried in turn until one takes the notice. */
type Ways = (level: NoticeLevel, text: string) => string[][];

/**
 * Chooses by the programs that are there.
 * @param root of the file system; another one in tests
 */
export function detectNas(logger: Logger, root = '/'): Nas {
  const program = (path: string): string | null => (existsSync(join(root, path)) ? join(root, path) : null);
  const desktopNote = program('usr/syno/bin/synodsmnotify');
  const eventLog = program('sbin/log_tool');
  if (desktopNote !== null) {
    const system = program('usr/syno/bin/synonotify');
    return makeNas('DSM', logger, (level, text) => dsmWays({ system, desktopNote }, level, text));
  }
  if (eventLog !== null) return makeNas('QTS', logger, (level, text) => qtsWays(eventLog, level, text));
  return makeNas('Linux', logger, null);
}

/**
 * First the system's notification, which goes on to mail and phone by the rules of the control panel; its words are in
 * spk/desktop/texts/<language>/mails. A package without the right to it leaves a note on the desktop of every
 * administrator: since DSM 7 its words must be keys of the package's own texts, which take the sentence as an argument.
 */
function dsmWays(
  programs: { system: string | null; desktopNote: string },
  level: NoticeLevel,
  text: string,
): string[][] {
  const application = 'SYNO.SDS.Dozo.Application';
  const { system, desktopNote } = programs;
  const tag = { info: 'DozoInfo', warning: 'DozoWarning', error: 'DozoError' }[level];
  const values = JSON.stringify({ '%TEXT%': text, DESKTOP_NOTIFY_CLASSNAME: application });
  return [
    ...(system === null ? [] : [[system, tag, values]]),
    [desktopNote, '-c', application, '@administrators', `Dozo:notify:${level}`, 'Dozo:notify:text', text],
  ];
}

/**
 * A line in the event log; rules of Notification Center pick it up by the word in front. Newer systems file it under the
 * application's name; older ones refuse the options for it.
 */
function qtsWays(eventLog: string, level: NoticeLevel, text: string): string[][] {
  const number = { info: '0', warning: '1', error: '2' }[level];
  const line = ['-t', number, '-u', 'System', '-p', '127.0.0.1', '-m', 'localhost', '-a', `[Dozo] ${text}`];
  return [
    [eventLog, '-N', 'Dozo', '-G', 'Backup', ...line],
    [eventLog, ...line],
  ];
}

function makeNas(name: string, logger: Logger, ways: Ways | null): Nas {
  return {
    name,
    notify: async (level, text) => {
      const line = toLine(text);
      if (ways === null) {
        logger.info({ level, text: line }, 'notice');
        return true;
      }
      for (const [program = '', ...rest] of ways(level, line)) {
        const error = await execute(program, rest);
        if (error === null) return true;
        logger.warn({ err: error.message, nas: name, program: basename(program) }, 'the NAS did not take a notice');
      }
      return false;
    },
  };
}

function execute(program: string, args: readonly string[]): Promise<Error | null> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: PROGRAM_TIMEOUT_MS }, (error) => resolve(error));
  });
}

/** Names of machines come from a host: nothing of them may end the line. */
function toLine(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').trim();
  return line.length > TEXT_CHARACTERS_MAX ? `${line.slice(0, TEXT_CHARACTERS_MAX - 1)}…` : line;
}
