import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { AppError, isAppError } from '../errors/index.ts';
import { looksLikeRecoveryKey, openRepository, type KeySecret, type Repository } from '../repository/index.ts';
import { openLocalStorage } from '../storage/index.ts';
import type { ToolStreams } from './tool-streams.ts';

/**
 * Opens the repository in a folder, for reading. An encrypted one asks for its passphrase or its recovery key:
 * from a file, from standard input, or at the terminal.
 * @throws STORAGE_MISSING, REPOSITORY_*
 */
export async function openFolder(
  folder: string,
  keyFile: string | undefined,
  streams: ToolStreams,
): Promise<Repository> {
  const storage = await openLocalStorage({ folder });
  const open = (secret: KeySecret): Promise<Repository> => openRepository({ storage, threads: 0, ...secret });
  try {
    return await open({});
  } catch (error) {
    if (!isAppError(error) || error.code !== 'REPOSITORY_KEY_NEEDED') throw error;
  }
  const text = keyFile === undefined ? await ask(streams) : await readKey(keyFile, streams);
  return open(looksLikeRecoveryKey(text) ? { recoveryKey: text } : { passphrase: text });
}

async function readKey(file: string, streams: ToolStreams): Promise<string> {
  if (file !== '-') return withoutLineEnd(await readFile(file, 'utf8'));
  let text = '';
  for await (const part of streams.input) text += String(part);
  return withoutLineEnd(text);
}

/** An editor's newline is not part of a passphrase; spaces may be. */
function withoutLineEnd(text: string): string {
  return text.replace(/^\uFEFF/, '').replace(/[\r\n]+$/, '');
}

async function ask({ input, errors }: ToolStreams): Promise<string> {
  if (!('isTTY' in input) || input.isTTY !== true) {
    throw new AppError('REPOSITORY_KEY_NEEDED', 'The repository is encrypted.', {
      hint: 'Give a file with its passphrase or recovery key: --key-file FILE, or --key-file - for standard input.',
    });
  }
  errors.write('Passphrase, or the 24 words of the recovery key: ');
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input, output: silent, terminal: true });
  try {
    return await lines.question('');
  } finally {
    lines.close();
    errors.write('\n');
  }
}
