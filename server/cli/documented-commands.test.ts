import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { runCli } from './run-cli.ts';

const root = join(import.meta.dirname, '../..');

/** Commands that a document names: in a line of a block for the shell, or between backticks. */
function commandsOf(markdown: string): string[] {
  const blocks = [...markdown.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap((block) => (block[1] ?? '').split('\n'));
  const named = [...markdown.matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? '');
  return [...blocks, ...named].flatMap((line) => {
    const command = /^\s*(?:[A-Z_]+=\S+ )?dozo ([^#]+)/.exec(line)?.[1]?.trim();
    // An example of the bytes of a file, not of a command.
    return command === undefined || command.includes('\\n') ? [] : [command];
  });
}

async function helpOf(words: readonly string[]): Promise<string> {
  const output = new PassThrough();
  let text = '';
  output.on('data', (piece: Buffer) => (text += piece.toString()));
  const status = await runCli([...words, '--help'], { input: new PassThrough(), output, errors: output }, {});
  assert.equal(status, 0, text);
  return text;
}

test('every command that the documents name exists, with its options', async () => {
  const files = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => join('docs', name))];
  const wrong: string[] = [];
  let count = 0;
  for (const file of files.filter((name) => name.endsWith('.md'))) {
    for (const command of commandsOf(readFileSync(join(root, file), 'utf8'))) {
      count += 1;
      const words = command.match(/"[^"]*"|\S+/g) ?? [];
      const end = words.findIndex((word) => !/^[a-z][a-z-]*$/.test(word));
      const verbs = end < 0 ? words : words.slice(0, end);
      const help = await helpOf(verbs);
      const [, path = '', rest = ''] = /^Usage: dozo ((?:[a-z][a-z-]* )*)(.*)$/m.exec(help) ?? [];
      const depth = path.trim() === '' ? 0 : path.trim().split(' ').length;
      // A group of commands takes no arguments of its own: what follows must be one of them.
      if (rest.includes('[command]') && verbs.length > depth) wrong.push(`${file}: dozo ${command}: no such command`);
      for (const option of words.filter((word) => word.startsWith('--'))) {
        if (!new RegExp(`${option}(?![a-z-])`).test(help)) wrong.push(`${file}: dozo ${command}: no ${option}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(count > 40, `${count} commands were found`);
});
