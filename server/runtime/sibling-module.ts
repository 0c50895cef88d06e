/**
 * Address of a module that is started rather than imported (a worker thread, a child process).
 * In the sources it lies at `relativePath` from the caller; in the bundles every entry lies beside
 * the others, so only its base name counts.
 *
 * @param base the caller's `import.meta.url`
 * @param relativePath as in an import, without extension: `./codec-thread`
 */
export function siblingModule(base: string, relativePath: string): URL {
  if (base.endsWith('.ts')) return new URL(`${relativePath}.ts`, base);
  const name = relativePath.slice(relativePath.lastIndexOf('/') + 1);
  return new URL(`./${name}.js`, base);
}
