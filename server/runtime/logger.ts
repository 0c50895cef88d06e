import pino from 'pino';

export type Logger = pino.Logger;

/**
 * A logger that writes one JSON line an event to standard error. Messages are fixed texts, what varies
 * goes into fields; fields that could hold a secret are cut out.
 */
export function createLogger(name: string, level = process.env['DOZO_LOG_LEVEL'] ?? 'info'): Logger {
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
    pino.destination({ dest: 2, sync: true }),
  );
}

/** A logger that says nothing: the default in tests and in the one-file tools. */
export const silentLogger: Logger = pino({ level: 'silent' });
