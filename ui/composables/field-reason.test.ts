import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { z } from 'zod';
import de from '../i18n/de.json' with { type: 'json' };
import en from '../i18n/en.json' with { type: 'json' };
import ja from '../i18n/ja.json' with { type: 'json' };
import { REASON_KEYS, reasonOf, REASONS } from './field-reason.ts';

const SCHEMAS = new URL('../../server/contract/api/', import.meta.url);

test('what is said of a field in words of the window is what the schemas say', () => {
  const schemas = readdirSync(SCHEMAS)
    .filter((name) => name.endsWith('.schema.ts'))
    .map((name) => readFileSync(new URL(name, SCHEMAS), 'utf8'))
    .join('');
  for (const reason of Object.keys(REASONS)) assert.ok(schemas.includes(`'${reason}'`), reason);
});

test('what the schemas say of bounds is known with its bound', () => {
  const said = (schema: z.ZodType, value: unknown): string =>
    schema.safeParse(value).error?.issues[0]?.message ?? assert.fail('it is accepted');
  for (const [why, reason] of [
    [said(z.number().int().min(1).max(16), 17), { key: 'atMost', bound: 16 }],
    [said(z.number().int().min(1).max(16), 0), { key: 'atLeast', bound: 1 }],
    [said(z.number().max(0.5), 1), { key: 'atMost', bound: 0.5 }],
    [said(z.number().int(), 1.5), { key: 'wholeNumber', bound: null }],
    [said(z.string().max(255), 'x'.repeat(256)), { key: 'longest', bound: 255 }],
    [said(z.boolean(), 1), null],
  ] as const) {
    assert.deepEqual(reasonOf(why), reason, why);
  }
});

test('every language has words for each of them', () => {
  const wanted = [...new Set(REASON_KEYS)].sort();
  for (const texts of [de, en, ja]) assert.deepEqual(Object.keys(texts.error.why).sort(), wanted);
});
