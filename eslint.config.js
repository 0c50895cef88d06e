import tseslint from 'typescript-eslint';
import vue from 'eslint-plugin-vue';
import { noForeignPackage, noUnquotedCommand } from './scripts/check/house-rules.js';

/** Outside packages with one home: another room asks that room. */
const HOMES = {
  ssh2: ['server/ssh/'],
  'node-vsphere-soap': ['server/vsphere/'],
  sqlite3: ['server/database/'],
  bullmq: ['server/queue/'],
  ioredis: ['server/queue/'],
  express: ['server/http/'],
  otpauth: ['server/http/'],
  nodemailer: ['server/notification/'],
  commander: ['server/cli/'],
  'cli-progress': ['server/cli/'],
  quasar: ['ui/'],
  vue: ['ui/'],
};

export default tseslint.config(
  { ignores: ['node_modules/', 'dist/', '.cache/', 'test/format/**/golden/**'] },
  { files: ['**/*.ts'], extends: [tseslint.configs.base] },
  {
    files: ['server/**/*.ts', 'scripts/**/*.ts', 'test/**/*.ts'],
    languageOptions: { parserOptions: { project: './tsconfig.json' } },
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            {
              from: 'package',
              package: 'node:test',
              name: ['test', 'it', 'describe', 'suite', 'before', 'after', 'beforeEach', 'afterEach'],
            },
          ],
        },
      ],
      '@typescript-eslint/no-misused-promises': [
        'error',
        { checksVoidReturn: { arguments: false, attributes: false } },
      ],
      // What a catch gave may be thrown on: it was wrapped where it came in.
      '@typescript-eslint/only-throw-error': ['error', { allowThrowingUnknown: true, allowThrowingAny: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      eqeqeq: 'error',
      'no-var': 'error',
      'prefer-const': 'error',
    },
  },
  {
    files: ['server/**/*.ts'],
    ignores: ['**/*.test.ts'],
    plugins: { house: { rules: { 'no-foreign-package': noForeignPackage, 'no-unquoted-command': noUnquotedCommand } } },
    rules: {
      'house/no-foreign-package': ['error', HOMES],
      'no-console': 'error',
    },
  },
  {
    files: ['server/source/**/*.ts', 'server/ssh/**/*.ts'],
    ignores: ['**/*.test.ts'],
    rules: { 'house/no-unquoted-command': 'error' },
  },
  {
    files: ['server/cli/**/*.ts', 'server/app/*-main.ts'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['server/**/*.ts'],
    ignores: ['server/runtime/**', '**/*.test.ts', '**/testing/**'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']",
          message: 'Time comes in through runtime/clock, so that tests can move it.',
        },
        {
          selector: "CallExpression[callee.object.name='Math'][callee.property.name='random']",
          message: 'Randomness comes from runtime/random.',
        },
        {
          selector: "ImportDeclaration[importKind!='type'][source.value='zod'] > ImportSpecifier[imported.name='z']",
          message: "Write import * as z from 'zod': out of one object the bundles cannot leave its fifty languages.",
        },
      ],
    },
  },
  {
    files: ['ui/**/*.vue'],
    extends: [...vue.configs['flat/recommended']],
    languageOptions: { parserOptions: { parser: tseslint.parser } },
    rules: {
      'vue/max-attributes-per-line': 'off',
      'vue/singleline-html-element-content-newline': 'off',
      'vue/html-self-closing': 'off',
      'vue/html-indent': 'off',
      'vue/html-closing-bracket-newline': 'off',
      'vue/multiline-html-element-content-newline': 'off',
      'vue/first-attribute-linebreak': 'off',
    },
  },
);
