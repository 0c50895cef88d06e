import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { build, type Plugin } from 'esbuild';

const ROOM = path.resolve('server/restore-tool');
const STAND_INS = path.join(ROOM, 'stand-ins');

/** What older Nodes lack, and what the tool has no use for, comes from the room's own stand-ins. */
const standIns: Plugin = {
  name: 'stand-ins',
  setup(plugin) {
    // The stand-ins alone see the real modules.
    plugin.onResolve({ filter: /^(?:node:zlib|node:crypto|pino)$/ }, ({ path: name, importer }) =>
      importer.startsWith(STAND_INS) ? undefined : { path: path.join(STAND_INS, `${name.replace('node:', '')}.ts`) },
    );
    // Messages of zod in 50 languages, of which none is ever shown.
    plugin.onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({ contents: 'export {};' }));
    // A room's index names more than this tool uses; its modules do nothing by being imported.
    plugin.onResolve({ filter: /^[a-z@.]/ }, async ({ path: name, importer, resolveDir, kind, pluginData }) => {
      if (pluginData === 'resolved' || !importer.endsWith('.ts') || name.startsWith('node:')) return undefined;
      const found = await plugin.resolve(name, { importer, resolveDir, kind, pluginData: 'resolved' });
      return { ...found, sideEffects: false };
    });
  },
};

const BANNER = `#!/usr/bin/env node
/*
 * Restores virtual machines from a Dozo repository: node dozo-restore.js --help
 * One file, no installation: needs Node 20.3 or later. Apache-2.0, with parts under the MIT licence:
 * zod (Colin McDonnell), fzstd (Arjun Barrett), @scure/bip39 and @noble/hashes (Paul Miller).
 */
if (typeof AbortSignal === 'undefined' || typeof AbortSignal.any !== 'function') {
  console.error('dozo-restore needs Node 20.3 or later; this is ' + process.version + '.');
  process.exit(2);
}
const __url = require('node:url').pathToFileURL(__filename).href;`;

/**
 * Bundles the restore tool into one file that runs with Node alone, from 20.3 on: CommonJS, so that a folder
 * without package.json can hold it.
 *
 * @returns its size in bytes
 */
export async function bundleRestoreTool(file: string): Promise<number> {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const result = await build({
    entryPoints: [path.join(ROOM, 'main.ts')],
    outfile: file,
    bundle: true,
    platform: 'node',
    target: 'node20.3',
    format: 'cjs',
    legalComments: 'none',
    logLevel: 'warning',
    define: {
      'process.env.DOZO_VERSION': JSON.stringify(version),
      'import.meta.dirname': '__dirname',
      'import.meta.url': '__url',
    },
    banner: { js: BANNER },
    metafile: true,
    plugins: [standIns],
  });
  const needed = Object.values(result.metafile.outputs).flatMap(({ imports }) => imports.map((one) => one.path));
  const foreign = needed.filter((name) => !name.startsWith('node:'));
  if (foreign.length > 0) throw new Error(`the restore tool needs more than Node: ${foreign.join(', ')}`);
  return statSync(file).size;
}
