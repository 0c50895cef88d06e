import { readServerConfiguration } from '../../server/app/configuration.ts';
import { startServer } from '../../server/app/start-server.ts';
import { createLogger } from '../../server/runtime/index.ts';

/** A server process with the scripted worker; tells its address and its children's ids on standard output. */
const server = await startServer(readServerConfiguration(process.env), {
  logger: createLogger('server', process.env['DOZO_LOG_LEVEL'] ?? 'fatal'),
  workerModule: new URL('./server-fake-worker.ts', import.meta.url),
});
process.stdout.write(`${JSON.stringify({ port: server.port, fingerprint: server.fingerprint })}\n`);
process.on('SIGTERM', () => void server.stop().then(() => process.exit(0)));
process.on('SIGUSR2', () => process.stdout.write(`${JSON.stringify({ pids: server.pids() })}\n`));
