import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../runtime/index.ts';
import type { Nas, NoticeLevel } from './nas.ts';

/** Programs of a NAS sometimes hang while its database is busy. */
const PROGRAM_TIMEOUT_MS = 20_000;
const TEXT_CHARACTERS_MAX = 400;

/**
 * Chooses by the programs that are there.
 * @param root of the file system; another one in tests
 */
export function detectNas(logger: Logger, root = '/'): Nas {
  const desktopNote = join(root, 'usr/syno/bin/synodsmnotify');
  const eventLog = join(root, 'sbin/log_tool');
  if (existsSync(desktopNote)) {
    return makeNas('DSM', logger, (level, text) => [desktopNote, ...dsmArguments(level, text)]);
  }
  if (existsSync(eventLog)) return makeNas('QTS', logger, (level, text) => [eventLog, ...qtsArguments(level, text)]);
  return makeNas('Linux', logger, null);
}

/**
 * A note on the desktop of every administrator. Since DSM 7 its words must be keys of the package's own texts
 * (spk/desktop/texts), which take the sentence as an argument.
 */
function dsmArguments(level: NoticeLevel, text: string): string[] {
  const application = 'SYNO.SDS.Dozo.Application';
  return ['-c', application, '@administrators', `Dozo:notify:${level}`, 'Dozo:notify:text', text];
}

/** A line in the event log; rules of Notification Center pick it up by the word in front. */
function qtsArguments(level: NoticeLevel, text: string): string[] {
  const number = { info: '0', warning: '1', error: '2' }[level];
  return ['-t', number, '-u', 'System', '-p', '127.0.0.1', '-m', 'localhost', '-a', `[Dozo] ${text}`];
}

function makeNas(name: string, logger: Logger, command: ((level: NoticeLevel, text: string) => string[]) | null): Nas {
  return {
    name,
    notify: (level, text) =>
      new Promise((resolve) => {
        const [program, ...rest] = command?.(level, toLine(text)) ?? [];
        if (program === undefined) {
          logger.info({ level, text }, 'notice');
          resolve();
          return;
        }
        execFile(program, rest, { timeout: PROGRAM_TIMEOUT_MS }, (error) => {
          if (error !== null) logger.warn({ err: error.message, nas: name }, 'the NAS did not take a notice');
          resolve();
        });
      }),
  };
}

/** Names of machines come from a host: nothing of them may end the line. */
function toLine(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').trim();
  return line.length > TEXT_CHARACTERS_MAX ? `${line.slice(0, TEXT_CHARACTERS_MAX - 1)}…` : line;
}
