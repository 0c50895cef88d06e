import { spawnSync } from 'node:child_process';

export interface ExecuteOptions {
  cwd?: string;
  env?: Record<string, string>;
}

/** Runs a program to its end. @returns its standard output. @throws Error with its last words */
export function execute(program: string, args: readonly string[], options: ExecuteOptions = {}): string {
  const result = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC', ...options.env },
  });
  if (result.status === 0) return result.stdout;
  const words = `${result.stdout ?? ''}${result.stderr ?? ''}`.trimEnd().split('\n').slice(-20).join('\n');
  throw new Error(`${program} ${args.join(' ')}: ${result.error?.message ?? `exit status ${result.status}`}\n${words}`);
}
