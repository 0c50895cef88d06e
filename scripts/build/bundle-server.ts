import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build, type Plugin } from 'esbuild';

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

const INDEX = /\/server\/[a-z-]+\/index\.ts$|^\.\.\/[a-z-]+\/index\.ts$/;

/**
 * A room's index names what it gives out and does nothing. Unless esbuild is told, whoever takes one thing of a room
 * gets the modules of all others as well: each thread that compresses would load the logger.
 */
const roomIndexes: Plugin = {
  name: 'room indexes',
  setup(plugin) {
    plugin.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, importer, resolveDir }) => {
      if (!INDEX.test(path) && !INDEX.test(importer)) return undefined;
      return { path: resolve(resolveDir, path), sideEffects: false };
    });
  },
};
/**
 * Bundles entries into a folder, each a file of its own, all side by side, with the native addons beside
 * them. The working folder is the project's. What was in the folder goes.
 *
 * @param entries paths of modules that are started, not imported
 * @returns names of the files made, without extension
 */
export async function bundleServer(entries: readonly string[], out: string): Promise<string[]> {
  const names = entries.map(outputName);
  if (new Set(names).size !== names.length) throw new Error(`two entries of one name: ${names.join(', ')}`);
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const version = (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version;
  const isThread = (entry: string): boolean => entry.endsWith('-thread.ts');
  const bundle = (part: readonly string[], splitting: boolean): Promise<unknown> =>
    build({
      entryPoints: Object.fromEntries(part.map((entry) => [outputName(entry), entry])),
      outdir: out,
      bundle: true,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      splitting,
      chunkNames: 'part-[hash]',
      sourcemap: 'linked',
      legalComments: 'none',
      logLevel: 'warning',
      define: { 'process.env.DOZO_VERSION': JSON.stringify(version) },
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; import { fileURLToPath as __toPath } from 'node:url'; const require = __createRequire(import.meta.url); const __filename = __toPath(import.meta.url); const __dirname = __toPath(new URL('.', import.meta.url));",
      },
      plugins: [addons, roomIndexes],
    });
  await bundle(
    entries.filter((entry) => !isThread(entry)),
    true,
  );
  // Of a part that it shares with others a thread would load all, also what only they use.
  await bundle(entries.filter(isThread), false);
  // Names a parameter `arguments`, which an ES module may not: a file of its own, as CommonJS.
  await build({
    entryPoints: ['node-vsphere-soap'],
    outfile: join(out, 'node-vsphere-soap.cjs'),
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'cjs',
    legalComments: 'none',
    logLevel: 'warning',
  });
  copyFileSync('node_modules/sqlite3/build/Release/node_sqlite3.node', join(out, 'node_sqlite3.node'));
  copyFileSync('node_modules/ssh2/lib/protocol/crypto/build/Release/sshcrypto.node', join(out, 'sshcrypto.node'));
  writeFileSync(join(out, 'package.json'), `${JSON.stringify({ name: 'dozo-server', version, type: 'module' })}\n`);
  return names;
}

/** `main.ts` of the command line is `dozo`; the others keep their name. */
function outputName(entry: string): string {
  return entry === 'server/cli/main.ts' ? 'dozo' : basename(entry, '.ts');
}
