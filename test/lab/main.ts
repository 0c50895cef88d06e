/**
 * A lab host from the command line. Prints one line of JSON with its addresses once it runs; ends on
 * Ctrl-C, or with `--until-stdin-ends` when standard input does.
 *
 * usage: scripts/with-node node test/lab/main.ts [--until-stdin-ends] OPTIONS.json
 *        (a file as `LabOptions` in hostd/lab-options.ts; `-` reads one line from standard input)
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { LabOptions } from './hostd/lab-options.ts';
import { startLabHost } from './lab-host.ts';

const args = process.argv.slice(2);
const untilStdinEnds = args.includes('--until-stdin-ends');
const file = args.find((arg) => arg === '-' || !arg.startsWith('-'));
if (file === undefined) {
  console.error('usage: main.ts [--until-stdin-ends] OPTIONS.json');
  process.exit(2);
}

const lines = createInterface({ input: process.stdin });
const text =
  file === '-' ? await new Promise<string>((resolve) => lines.once('line', resolve)) : readFileSync(file, 'utf8');
const lab = await startLabHost(JSON.parse(text) as LabOptions);
const { address, sshPort, httpsPort, user, password, sshHostKey, tlsCertificate, directory } = lab;
console.log(JSON.stringify({ address, sshPort, httpsPort, user, password, sshHostKey, tlsCertificate, directory }));

const end = () => void lab.close().then(() => process.exit(0));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, end);
if (untilStdinEnds) lines.on('close', end);
else lines.close();
