/**
 * Bundles the server, its workers and threads and the command line into a few files in
 * `dist/server`, with the native addons beside them, and the window into `dist/ui`. What is there
 * runs with the Node that Dozo ships and needs no node_modules.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build, type Plugin } from 'esbuild';

const OUT = 'dist/server';

/** Modules that are started, not imported: each becomes a file of its own, all side by side. */
const entries = [
  'server/cli/main.ts',
  ...globSync('server/app/*-main.ts'),
  ...globSync('server/**/*-thread.ts'),
].filter((name) => existsSync(name));

const names = entries.map(outputName);
if (new Set(names).size !== names.length) throw new Error(`two entries of one name: ${names.join(', ')}`);

rmSync('dist/server', { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });

/** sqlite3 looks for its addon by walking up from the caller; in a bundle it lies beside us. */
const addons: Plugin = {
  name: 'addons',
  setup(plugin) {
    plugin.onResolve({ filter: /^bindings$/ }, () => ({ path: 'bindings', namespace: 'addon-shim' }));
    plugin.onLoad({ filter: /.*/, namespace: 'addon-shim' }, () => ({
      contents:
        "const { createRequire } = require('node:module'); module.exports = (name) => createRequire(__filename)('./' + name.replace(/\\.node$/, '') + '.node');",
      loader: 'js',
    }));
    plugin.onResolve({ filter: /sshcrypto\.node$/ }, () => ({ path: './sshcrypto.node', external: true }));
    // An optional probe of ssh2 for processor features; without it ssh2 chooses by itself.
    plugin.onResolve({ filter: /^cpu-features$/ }, () => ({ path: 'cpu-features', external: true }));
    plugin.onResolve({ filter: /^node-vsphere-soap$/ }, ({ kind }) =>
      kind === 'entry-point' ? undefined : { path: './node-vsphere-soap.cjs', external: true },
    );
  },
};

const version = (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version;
await build({
  entryPoints: Object.fromEntries(entries.map((entry) => [outputName(entry), entry])),
  outdir: OUT,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  splitting: true,
  chunkNames: 'part-[hash]',
  sourcemap: 'linked',
  legalComments: 'none',
  logLevel: 'warning',
  define: { 'process.env.DOZO_VERSION': JSON.stringify(version) },
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; import { fileURLToPath as __toPath } from 'node:url'; const require = __createRequire(import.meta.url); const __filename = __toPath(import.meta.url); const __dirname = __toPath(new URL('.', import.meta.url));",
  },
  plugins: [addons],
});
// Names a parameter `arguments`, which an ES module may not: a file of its own, as CommonJS.
await build({
  entryPoints: ['node-vsphere-soap'],
  outfile: join(OUT, 'node-vsphere-soap.cjs'),
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  legalComments: 'none',
  logLevel: 'warning',
});
copyFileSync('node_modules/sqlite3/build/Release/node_sqlite3.node', join(OUT, 'node_sqlite3.node'));
copyFileSync('node_modules/ssh2/lib/protocol/crypto/build/Release/sshcrypto.node', join(OUT, 'sshcrypto.node'));
writeFileSync(join(OUT, 'package.json'), `${JSON.stringify({ name: 'dozo-server', version, type: 'module' })}\n`);

if (existsSync('ui/vite.config.ts')) {
  const result = spawnSync('vite', ['build', '--config', 'ui/vite.config.ts', '--logLevel', 'warn'], {
    stdio: 'inherit',
  });
  if (result.status !== 0) process.exit(1);
}

console.log(`built ${names.length} entries in ${OUT}`);

/** `main.ts` of the command line is `dozo`; the others keep their name. */
function outputName(entry: string): string {
  return entry === 'server/cli/main.ts' ? 'dozo' : basename(entry, '.ts');
}
