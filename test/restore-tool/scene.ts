import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { bundleRestoreTool } from '../../scripts/build/bundle-restore-tool.ts';

/** The bundled tool in a folder of its own, run as a stranger would. */
export interface ToolScene {
  folder: string;
  tool: string;
  /** Runs it, in this Node or another. */
  run(args: readonly string[], options?: { node?: string; input?: string; tool?: string }): Promise<ToolRun>;
  close(): Promise<void>;
}

export interface ToolRun {
  status: number | null;
  output: string;
  errors: string;
}

export async function openToolScene(): Promise<ToolScene> {
  const folder = await mkdtemp(path.join(tmpdir(), 'dozo-restore-tool-'));
  const tool = path.join(folder, 'dozo-restore.js');
  await bundleRestoreTool(tool);
  return {
    folder,
    tool,
    run: (args, options = {}) =>
      runNode(options.node ?? process.execPath, [options.tool ?? tool, ...args], options.input),
    close: () => rm(folder, { recursive: true, force: true }),
  };
}

async function runNode(node: string, args: readonly string[], input = ''): Promise<ToolRun> {
  // Nothing of this process's environment: no NODE_PATH, no options.
  const child = spawn(node, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: '/usr/bin:/bin' } });
  let output = '';
  let errors = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { status, output, errors };
}

/**
 * A Node of another version, from npm; null with a reason when it cannot be had.
 * @param version as published, for instance `20.3.1`
 */
export async function installNode(folder: string, version: string): Promise<{ node: string } | { why: string }> {
  const name = `node-linux-${process.arch}`;
  const prefix = path.join(folder, `node-${version}`);
  const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', prefix, `${name}@${version}`];
  const installed = await new Promise<boolean>((resolve) => {
    const child = spawn('npm', args, { stdio: 'ignore', timeout: 180_000 });
    child.on('error', () => resolve(false));
    child.on('close', (status) => resolve(status === 0));
  });
  const node = path.join(prefix, 'node_modules', name, 'bin', 'node');
  return installed ? { node } : { why: `npm could not install ${name}@${version}` };
}

/** SHA-256 of every file below a folder, by its path. */
export async function hashFolder(folder: string): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    hashes[path.relative(folder, file)] = sha256(await readFile(file));
  }
  return hashes;
}

export function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
