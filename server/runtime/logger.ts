import pino from 'pino';

export type Logger = pino.Logger;

/** Lines that wait for room on a full volume; what is beyond is left out. */
const WAITING_BYTES_MAX = 256 * 1024;

/**
 * A logger that writes one JSON line an event to standard error. Messages are fixed texts, what varies
 * goes into fields; fields that could hold a secret are cut out. It never throws: standard error is a file on the
 * volume of the NAS, and a process that ended when that is full would leave its VM snapshots on the hosts.
 */
export function createLogger(name: string, level = process.env['DOZO_LOG_LEVEL'] ?? 'info'): Logger {
  const destination = pino.destination({ dest: 2, sync: true, maxLength: WAITING_BYTES_MAX });
  // Nobody could be told; what waits is written with the next line that finds room.
  destination.on('error', () => undefined);
  return pino(
    {
      name,
      level,
      base: { pid: process.pid },
      redact: {
        paths: [
          'password',
          'secret',
          'privateKey',
          'passphrase',
          '*.password',
          '*.secret',
          '*.privateKey',
          '*.passphrase',
        ],
        censor: '[secret]',
      },
    },
    destination,
  );
}

/** A logger that says nothing: the default in tests and in the one-file tools. */
export const silentLogger: Logger = pino({ level: 'silent' });
