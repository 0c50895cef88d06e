/**
 * Bundles the server, its workers and threads and the command line into a few files in
 * `dist/server`, with the native addons beside them, the restore tool into one more, and the window into `dist/ui`.
 * What is there runs with the Node that Dozo ships and needs no node_modules.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs';
import { npmLicences } from '../package/npm-licences.ts';
import { bundleRestoreTool } from './bundle-restore-tool.ts';
import { bundleServer } from './bundle-server.ts';

const OUT = 'dist/server';

/** Modules that are started, not imported: each becomes a file of its own, all side by side. */
const entries = [
  'server/cli/main.ts',
  ...globSync('server/app/*-main.ts'),
  ...globSync('server/**/*-thread.ts'),
].filter((name) => existsSync(name));

const names = await bundleServer(entries, OUT);
await bundleRestoreTool(`${OUT}/dozo-restore.js`);

if (existsSync('ui/vite.config.ts')) {
  const result = spawnSync('vite', ['build', '--config', 'ui/vite.config.ts', '--logLevel', 'warn'], {
    stdio: 'inherit',
  });
  if (result.status !== 0) process.exit(1);
  // Shown by the window: what is in the bundles, and under which terms.
  writeFileSync('dist/ui/licences.txt', `Dozo\n\n${readFileSync('LICENSE', 'utf8')}\n\n${npmLicences()}`);
}

console.log(`built ${names.length} entries in ${OUT}`);
