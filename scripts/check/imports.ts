import { spawnSync } from 'node:child_process';

interface CruiseResult {
  summary: {
    totalCruised: number;
    violations: { from: string; to: string; rule: { name: string } }[];
  };
  modules: { source: string }[];
}

const ROOTS = ['server', 'ui', 'scripts', 'test'];

/**
 * Problems of the import graph against `.dependency-cruiser.cjs`. Seeing fewer modules than git tracks
 * sources is a problem of its own: a tool that could not read the sources would report nothing.
 */
export function checkImports(): string[] {
  const sources = spawnSync(
    'git',
    ['ls-files', '--', ...ROOTS.map((root) => `${root}/**/*.ts`), ...ROOTS.map((root) => `${root}/*.ts`)],
    {
      encoding: 'utf8',
    },
  ).stdout.split('\n');
  const tracked = new Set(sources.filter((name) => name !== '' && !name.endsWith('.d.ts')));
  const run = spawnSync('depcruise', ['--output-type', 'json', '--config', '.dependency-cruiser.cjs', ...ROOTS], {
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
  });
  let result: CruiseResult;
  try {
    result = JSON.parse(run.stdout) as CruiseResult;
  } catch {
    return [`dependency-cruiser gave no result: ${run.stderr}`];
  }
  const seen = new Set(result.modules.map((module) => module.source));
  const problems = [...tracked]
    .filter((name) => !seen.has(name))
    .map((name) => `${name}: not seen by the import check`);
  if (tracked.size < 20) problems.push(`only ${tracked.size} sources found: the check itself is broken`);
  for (const { from, to, rule } of result.summary.violations) problems.push(`${from} -> ${to} (${rule.name})`);
  return problems;
}
