import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where Debian puts the Go libraries of its packages. */
const GO_LIBRARIES = '/usr/share/gocode';
const SIMULATOR = 'src/github.com/vmware/govmomi/simulator/simulator.go';
const INSTALL_HINT = 'scripts/setup installs it (Debian: golang-go golang-github-vmware-govmomi-dev)';

let pending: Promise<string> | null = null;

/** Why the HTTPS front cannot be built here, or null when it can. */
export async function labSoapObstacle(): Promise<string | null> {
  if (!existsSync(join(GO_LIBRARIES, SIMULATOR))) return `the Go library govmomi is missing; ${INSTALL_HINT}`;
  try {
    await run('go', ['version']);
    return null;
  } catch {
    return `Go is missing; ${INSTALL_HINT}`;
  }
}

/**
 * Compiles the lab host's HTTPS front once per state of its sources.
 * @returns the program's path
 * @throws Error when Go or its library is missing, or with the compiler's words
 */
export function buildLabSoap(): Promise<string> {
  pending ??= build().catch((error: unknown) => {
    pending = null;
    throw error;
  });
  return pending;
}

async function build(): Promise<string> {
  const obstacle = await labSoapObstacle();
  if (obstacle !== null) throw new Error(`The lab's HTTPS front cannot be built: ${obstacle}`);

  const { stdout: version } = await run('go', ['version']);
  const digest = createHash('sha256').update(version);
  for (const name of readdirSync(import.meta.dirname).sort()) {
    if (!name.endsWith('.go') || name.endsWith('_test.go')) continue;
    digest.update(`${name}\0`).update(readFileSync(join(import.meta.dirname, name)));
  }
  const folder = join(import.meta.dirname, '../../../.cache/lab');
  const program = join(folder, `lab-soap-${digest.digest('hex').slice(0, 16)}`);
  if (existsSync(program)) return program;

  mkdirSync(folder, { recursive: true });
  // Built beside and renamed: two test files may build at once, and neither may run half a program.
  const unfinished = `${program}.${randomBytes(4).toString('hex')}`;
  try {
    await run('go', ['build', '-ldflags=-s -w', '-o', unfinished, '.'], {
      cwd: import.meta.dirname,
      env: { ...process.env, GO111MODULE: 'off', GOPATH: GO_LIBRARIES, GOFLAGS: '', CGO_ENABLED: '0' },
    });
    renameSync(unfinished, program);
  } catch (error) {
    const text = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    throw new Error(`The lab's HTTPS front does not compile:\n${text}`, { cause: error });
  } finally {
    rmSync(unfinished, { force: true });
  }
  return program;
}

if (import.meta.main) console.log(await buildLabSoap());
