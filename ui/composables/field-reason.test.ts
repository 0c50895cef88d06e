import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import de from '../i18n/de.json' with { type: 'json' };
import en from '../i18n/en.json' with { type: 'json' };
import ja from '../i18n/ja.json' with { type: 'json' };
import { REASONS } from './field-reason.ts';

const SCHEMAS = new URL('../../server/contract/api/', import.meta.url);

test('what is said of a field in words of the window is what the schemas say', () => {
  const schemas = readdirSync(SCHEMAS)
    .filter((name) => name.endsWith('.schema.ts'))
    .map((name) => readFileSync(new URL(name, SCHEMAS), 'utf8'))
    .join('');
  for (const reason of Object.keys(REASONS)) assert.ok(schemas.includes(`'${reason}'`), reason);
});

test('every language has words for each of them', () => {
  const wanted = [...new Set(Object.values(REASONS))].sort();
  for (const texts of [de, en, ja]) assert.deepEqual(Object.keys(texts.error.why).sort(), wanted);
});
