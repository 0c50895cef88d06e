import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readServerConfiguration } from '../../server/app/configuration.ts';
import { startServer } from '../../server/app/start-server.ts';
import { settingsSchema } from '../../server/contract/api/settings.schema.ts';
import { openCatalogue } from '../../server/database/index.ts';
import { createLogger } from '../../server/runtime/index.ts';
import { quietDay } from '../product/quiet-day.ts';

const configuration = readServerConfiguration(process.env);
const catalogueFile = join(configuration.dataFolder, 'catalogue.sqlite');
if (!existsSync(catalogueFile)) {
  // By hand, so that no entry of the audit log is of it.
  mkdirSync(configuration.dataFolder, { recursive: true, mode: 0o700 });
  const catalogue = await openCatalogue(catalogueFile);
  await catalogue.settings.save('settings', settingsSchema.parse(quietDay()));
  await catalogue.close();
}

/** A server process with the scripted worker; tells its address and its children's ids on standard output. */
const server = await startServer(configuration, {
  logger: createLogger('server', process.env['DOZO_LOG_LEVEL'] ?? 'fatal'),
  workerModule: new URL('./server-fake-worker.ts', import.meta.url),
});
process.stdout.write(`${JSON.stringify({ port: server.port, fingerprint: server.fingerprint })}\n`);
process.on('SIGTERM', () => void server.stop().then(() => process.exit(0)));
process.on('SIGUSR2', () => process.stdout.write(`${JSON.stringify({ pids: server.pids() })}\n`));
