import { test } from 'node:test';
import { RuleTester } from 'eslint';
import tseslint from 'typescript-eslint';
// @ts-expect-error plain JavaScript without types: ESLint loads it as it is
import { noForeignPackage, noUnquotedCommand } from './house-rules.js';

const tester = new RuleTester({ languageOptions: { parser: tseslint.parser as never } });

test('a package is imported in its home only', () => {
  const options = [{ ssh2: ['server/ssh/'] }];
  tester.run('no-foreign-package', noForeignPackage as never, {
    valid: [{ code: "import { Client } from 'ssh2';", filename: '/p/server/ssh/connection.ts', options }],
    invalid: [{ code: "import { Client } from 'ssh2';", filename: '/p/server/http/x.ts', options, errors: 1 }],
  });
});

test('a remote command is built by the shell tag', () => {
  tester.run('no-unquoted-command', noUnquotedCommand as never, {
    valid: [
      { code: 'connection.exec(shell`ls ${path}`);', filename: '/p/server/source/a.ts' },
      { code: 'const c = text as ShellCommand;', filename: '/p/server/ssh/shell.ts' },
    ],
    invalid: [
      { code: 'connection.exec(`ls ${path}`);', filename: '/p/server/source/a.ts', errors: 1 },
      { code: 'const c = text as ShellCommand;', filename: '/p/server/source/a.ts', errors: 1 },
    ],
  });
});
