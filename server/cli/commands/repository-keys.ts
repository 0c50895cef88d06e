import type { Command } from 'commander';
import { renderUnicodeCompact } from 'uqr';
import type { RepositoryKeyView } from '../../contract/api/repository-key.schema.ts';
import type { RepositoryView } from '../../contract/api/repository.schema.ts';
import { AppError } from '../../errors/index.ts';
import { askSecret } from '../ask.ts';
import { doneOutput, listOutput, type Api, type CommandContext } from '../command-context.ts';
import { findNamed } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { oneOf } from '../parse-options.ts';
import { cleanText } from '../table.ts';

export interface KeyInputOptions {
  passphraseStdin?: boolean;
}

interface KeyAdded {
  key: RepositoryKeyView;
  recoveryKey: string | null;
}

/** Keys of encrypted repositories: `dozo repositories keys …`. */
export function addRepositoryKeyCommands(repositories: Command, context: CommandContext): void {
  const keys = repositories.command('keys').description('keys of an encrypted repository');
  context.handle(context.leaf(keys, 'list <repository>', 'its keys'), async ({ api, args }) => {
    const id = await findId(api, args[0]);
    return listOutput(
      await api.get<RepositoryKeyView[]>(`/repositories/${id}/keys`),
      ['KEY', 'KIND', 'LABEL', 'SINCE', 'PROVEN', ''],
      (key) => [
        key.slotId,
        key.kind,
        key.label,
        formatTime(key.createdAtMs),
        key.drilledAtMs === null ? 'never' : formatTime(key.drilledAtMs),
        key.isOwn ? "Dozo's own" : '',
      ],
    );
  });

  const kinds = oneOf(['passphrase', 'recovery', 'machine']);
  const add = addKeyInput(
    context
      .leaf(keys, 'add <repository> <kind>', 'add a passphrase, a recovery key or a new key for Dozo itself')
      .option('--label <text>', 'what it is for')
      .option('--replaces <key>', 'a key of the same kind that goes once the new one is proven'),
  );
  context.handle<KeyInputOptions & { label?: string; replaces?: string }>(add, async ({ api, args, options }) => {
    const id = await findId(api, args[0]);
    const kind = kinds(args[1] ?? '');
    const passphrase = kind === 'passphrase' ? await askNewPassphrase(context, options) : undefined;
    const label = options.label ?? `${kind} key`;
    const added = await api.post<KeyAdded>(`/repositories/${id}/keys`, {
      kind,
      label,
      passphrase,
      replaces: options.replaces,
    });
    const sentence = `Added ${added.key.slotId}; it was read back and opens the repository.`;
    return doneOutput(added, [sentence, ...describeRecoveryKey(added.recoveryKey)].join('\n'));
  });

  context.handle(
    context.leaf(keys, 'remove <repository> <key>', 'remove one; the last that a person can use stays'),
    async ({ api, args }) => {
      const id = await findId(api, args[0]);
      const slotId = args[1] ?? '';
      await api.delete(`/repositories/${id}/keys/${slotId}`);
      return doneOutput(
        { removed: slotId },
        `Removed ${cleanText(slotId)}. Who opened the repository with it before may still have what it opened: if it was stolen, copy the versions into a new repository.`,
      );
    },
  );

  const drill = addKeyInput(
    context.leaf(keys, 'drill <repository>', 'prove that a passphrase or a recovery key opens it'),
  );
  context.handle<KeyInputOptions>(drill, async ({ api, args, options }) => {
    const id = await findId(api, args[0]);
    const key = await askKey(context, options, 'Passphrase, or the 24 words of the recovery key: ');
    const drilled = await api.post<{ key: RepositoryKeyView; readPointId: string | null }>(
      `/repositories/${id}/keys/drill`,
      { key },
    );
    const read = drilled.readPointId === null ? 'there is no version yet' : `version ${drilled.readPointId} was read`;
    return doneOutput(drilled, `The key "${cleanText(drilled.key.label)}" opens the repository; ${read}.`);
  });
}

export function addKeyInput(command: Command): Command {
  return command.option('--passphrase-stdin', 'read passphrase or recovery key from standard input, in one line');
}

/** A passphrase or recovery key that is there. */
export async function askKey(context: CommandContext, options: KeyInputOptions, question: string): Promise<string> {
  return askSecret(context.terminal, {
    question,
    fromInput: options.passphraseStdin === true,
    environment: 'DOZO_PASSPHRASE',
    variables: context.environment,
    option: '--passphrase-stdin',
  });
}

/** A new passphrase: a person types it twice, since a slip would lock the data away. */
export async function askNewPassphrase(context: CommandContext, options: KeyInputOptions): Promise<string> {
  const passphrase = await askKey(context, options, 'New passphrase (12 characters or more): ');
  if (options.passphraseStdin === true || context.terminal.input.isTTY !== true) return passphrase;
  if ((await askKey(context, options, 'Once more: ')) === passphrase) return passphrase;
  throw new AppError('INPUT_INVALID', 'The two passphrases differ.', { hint: 'Try again.' });
}

/** The sheet to keep: words with numbers, and the same as a QR code. */
export function describeRecoveryKey(recoveryKey: string | null): string[] {
  if (recoveryKey === null) return [];
  const words = recoveryKey.split(' ').map((word, index) => `${String(index + 1).padStart(2)}. ${word}`.padEnd(14));
  const rows = Array.from({ length: 6 }, (_, row) =>
    words
      .slice(row * 4, row * 4 + 4)
      .join(' ')
      .trimEnd(),
  );
  return [
    '',
    'Recovery key. Write it down or print it, and keep it away from the NAS: it is shown once.',
    'Without it and without a passphrase nobody can read these backups.',
    '',
    ...rows,
    '',
    renderUnicodeCompact(recoveryKey),
  ];
}

async function findId(api: Api, name: string | undefined): Promise<string> {
  return (await findNamed<RepositoryView>(api, 'repositories', name ?? '')).id;
}
