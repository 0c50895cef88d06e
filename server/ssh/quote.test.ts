import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { quote, raw, shell } from './quote.ts';

const hasCode = (code: string) => (error: unknown) => (error as { code?: string }).code === code;

test('passes every string through a real shell unchanged', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1, maxLength: 4 }), (words) => {
      const wanted = words.map((word) => word.replaceAll('\0', ''));

      const command = shell`printf '%s\\0' ${wanted}`;

      const output = execFileSync('/bin/sh', ['-c', command]).toString('utf8').split('\0').slice(0, -1);
      assert.deepEqual(output, wanted);
    }),
    { numRuns: 60 },
  );
});

test('quotes what would be an order to the shell', () => {
  assert.equal(shell`ls ${"a'; rm -rf / #"}`, `ls 'a'\\''; rm -rf / #'`);
  assert.equal(shell`ls ${''}`, `ls ''`);
});

test('writes numbers as digits and refuses what is not whole', () => {
  assert.equal(shell`dd skip=${12} count=${0}`, 'dd skip=12 count=0');
  assert.throws(() => shell`dd skip=${1.5}`, hasCode('INVARIANT_BROKEN'));
  assert.throws(() => shell`dd skip=${Number.NaN}`, hasCode('INVARIANT_BROKEN'));
});

test('composes a marked command and quotes an unmarked one', () => {
  const inner = shell`cat ${'a b'}`;

  assert.equal(shell`${raw(inner)} | wc -c`, `cat 'a b' | wc -c`);
  assert.equal(shell`sh -c ${inner}`, `sh -c 'cat '\\''a b'\\'''`);
});

test('refuses a value inside quotes of the template, where quoting would open them', () => {
  assert.throws(() => shell`echo "${'$(id)'}"`, hasCode('INVARIANT_BROKEN'));
  assert.throws(() => shell`echo '${'x'}'`, hasCode('INVARIANT_BROKEN'));
  assert.equal(shell`echo "it's" ${'x'}`, `echo "it's" 'x'`);
});

test('refuses bytes that no argument can carry', () => {
  assert.throws(() => quote('a\0b'), hasCode('INPUT_INVALID'));
  assert.throws(() => quote('\ud800'), hasCode('INPUT_INVALID'));
});
