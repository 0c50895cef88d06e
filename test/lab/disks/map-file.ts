import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';
import type { Run } from './disk-chain.ts';

const run = promisify(execFile);

/** Where a sparse file has blocks. @param tool the compiled lab-map */
export async function mapFile(tool: string, path: string): Promise<Run[]> {
  const { stdout } = await run(tool, [path], { maxBuffer: 256 * 1024 * 1024 });
  return parseMap(stdout);
}

export function mapFileSync(tool: string, path: string): Run[] {
  return parseMap(execFileSync(tool, [path], { encoding: 'utf8', maxBuffer: 256 * 1024 * 1024 }));
}

function parseMap(text: string): Run[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [offset = '0', length = '0'] = line.split(' ');
      return { offsetBytes: Number(offset), lengthBytes: Number(length) };
    });
}
