/**
 * `npm run check`: everything that can be judged without running Dozo. Runs all parts and fails at
 * the end, so that one call shows all there is to mend.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { checkDocs } from './docs.ts';
import { checkImports } from './imports.ts';
import { checkTexts } from './texts.ts';

interface Part {
  name: string;
  run(): string[];
}

function command(program: string, ...args: string[]): () => string[] {
  return () => {
    const result = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
    if (result.status === 0) return [];
    return [result.error?.message ?? `${result.stdout}${result.stderr}`];
  };
}

const shellScripts = spawnSync('git', ['grep', '-lE', '^#!/bin/(ba|da|a)?sh|^#!/usr/bin/env (ba)?sh'], {
  encoding: 'utf8',
})
  .stdout.split('\n')
  .filter((name) => name !== '' && !name.endsWith('.md'));

const parts: Part[] = [
  { name: 'format', run: command('prettier', '--check', '--log-level=warn', '.') },
  { name: 'types', run: command('tsc', '-p', 'tsconfig.json') },
  ...(existsSync('ui/tsconfig.json')
    ? [{ name: 'types of the window', run: command('vue-tsc', '--noEmit', '-p', 'ui/tsconfig.json') }]
    : []),
  { name: 'lint', run: command('eslint', '--max-warnings=0', '.') },
  { name: 'shell', run: command('shellcheck', '--severity=warning', ...shellScripts) },
  { name: 'imports', run: checkImports },
  { name: 'dead code', run: command('knip', '--no-progress') },
  { name: 'docs', run: checkDocs },
  { name: 'texts', run: checkTexts },
];

const wanted = process.argv.slice(2);
let failed = 0;
for (const part of parts) {
  if (wanted.length > 0 && !wanted.includes(part.name)) continue;
  const problems = part.run();
  console.log(`${problems.length === 0 ? 'ok  ' : 'FAIL'} ${part.name}`);
  for (const problem of problems) console.log(problem);
  if (problems.length > 0) failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;
