import { toAppError } from '../errors/index.ts';
import { createLogger } from '../runtime/index.ts';
import { readServerConfiguration } from './configuration.ts';
import { startServer } from './start-server.ts';

/** The server process: settings come from the environment (`configuration.ts`), SIGTERM ends it in order. */
async function main(): Promise<void> {
  const logger = createLogger('server');
  const configuration = readServerConfiguration(process.env);
  // A child has no use for it, and others may read the environment of a process.
  delete process.env['DOZO_ADMIN_PASSWORD'];
  const server = await startServer(configuration, { logger });
  console.log(`Dozo answers at ${server.url}`);
  if (server.fingerprint !== null) console.log(`SHA-256 of its certificate: ${server.fingerprint}`);
  if (server.adminPassword !== null) {
    console.log(`Log in as "admin" with the password ${server.adminPassword} (shown this once only).`);
  }
  let isStopping = false;
  const stop = (signal: string): void => {
    if (isStopping) return;
    isStopping = true;
    logger.info({ signal }, 'stopping');
    server.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, 'did not stop in order');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main().catch((error: unknown) => {
  const { code, message, hint } = toAppError(error);
  console.error(`${code}: ${message}${hint === undefined ? '' : ` ${hint}`}`);
  process.exit(1);
});
