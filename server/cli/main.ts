import { runCli } from './run-cli.ts';

// A reader that ends early (`dozo runs list | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

const status = await runCli(
  process.argv.slice(2),
  { input: process.stdin, output: process.stdout, errors: process.stderr },
  process.env,
);
// Not process.exit: what was written to a pipe must arrive.
process.exitCode = status;
process.stdin.destroy();
