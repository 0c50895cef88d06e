import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { AppError } from '../errors/index.ts';

/** Streams of a command: the process's own, or a test's. */
export interface Terminal {
  input: NodeJS.ReadableStream & { isTTY?: boolean };
  output: NodeJS.WritableStream & { isTTY?: boolean };
  errors: NodeJS.WritableStream & { isTTY?: boolean };
}

/**
 * A secret: from the environment, the first line of standard input, or a person at the terminal; never
 * from an argument, which everyone on the machine can read in the list of processes.
 * @throws INPUT_INVALID when there is nobody to ask
 */
export async function askSecret(
  terminal: Terminal,
  options: {
    question: string;
    fromInput: boolean;
    environment: string;
    variables: Record<string, string | undefined>;
    /** The option that takes it from standard input. */
    option?: string;
  },
): Promise<string> {
  const known = options.variables[options.environment];
  if (known !== undefined && known !== '') return known;
  if (options.fromInput) return readFirstLine(terminal);
  if (terminal.input.isTTY !== true) {
    throw new AppError('INPUT_INVALID', 'A password is needed, and nobody is at the terminal.', {
      hint: `Use ${options.option ?? '--password-stdin'}, or set ${options.environment}.`,
    });
  }
  return askHidden(terminal, options.question);
}

/** A yes or no; without a terminal the answer is no. */
export async function askYes(terminal: Terminal, question: string): Promise<boolean> {
  if (terminal.input.isTTY !== true) return false;
  const reader = createInterface({ input: terminal.input, output: terminal.errors });
  try {
    const answer = await new Promise<string>((resolve) => reader.question(`${question} [y/N] `, resolve));
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    reader.close();
  }
}

async function readFirstLine(terminal: Terminal): Promise<string> {
  const reader = createInterface({ input: terminal.input });
  for await (const line of reader) {
    reader.close();
    if (line !== '') return line;
  }
  throw new AppError('INPUT_INVALID', 'Standard input holds no password.', { hint: 'Its first line is taken.' });
}

async function askHidden(terminal: Terminal, question: string): Promise<string> {
  terminal.errors.write(question);
  // What is typed is echoed by the reader itself, into nothing.
  const nowhere = new Writable({ write: (_piece, _encoding, done) => done() });
  const reader = createInterface({ input: terminal.input, output: nowhere, terminal: true });
  try {
    return await new Promise<string>((resolve) => reader.question('', resolve));
  } finally {
    reader.close();
    terminal.errors.write('\n');
  }
}
