import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { NAMED_ACTIONS } from '../../server/http/audit-trail.ts';
import { auditOf, routeAction } from '../../server/http/route.ts';
import { listRoutes } from '../../server/http/routes/index.ts';
import { DEEDS, subjectOf } from '../../ui/features/settings/audit-deed.ts';

interface Words {
  audit: { deed: Record<string, string>; outcome: Record<string, string>; why: Record<string, string> };
}

/** Everything that the server can write, whether it was done or refused. */
function writable(): string[] {
  const told = listRoutes().filter((route) => auditOf(route, false) !== 'never' || auditOf(route, true) !== 'never');
  return [...NAMED_ACTIONS, ...told.map(routeAction)];
}

test('the window has words in every language for each kind of entry that the audit log can hold, and for no other', () => {
  const actions = writable();
  assert.ok(actions.length > 60, `${actions.length} kinds`);
  assert.deepEqual(Object.keys(DEEDS).sort(), actions.sort());
  for (const language of ['en', 'de', 'ja']) {
    const file = join(import.meta.dirname, `../../ui/i18n/${language}.json`);
    const { deed, outcome, why } = (JSON.parse(readFileSync(file, 'utf8')) as Words).audit;
    for (const action of actions) assert.match(deed[DEEDS[action] ?? ''] ?? '', /\p{L}/u, `${language}: ${action}`);
    for (const ended of ['done', 'refused', 'failed']) assert.match(outcome[ended] ?? '', /\p{L}/u);
    for (const reason of ['password', 'code']) assert.match(why[reason] ?? '', /\p{L}/u);
    assert.deepEqual(Object.keys(deed).sort(), [...new Set(Object.values(DEEDS))].sort(), `${language}: words unused`);
  }
});

test('an entry is told by what it was done to, as far as it says so', () => {
  const entry = {
    number: 1,
    atMs: 0,
    actor: 'anna',
    by: 'cookie' as const,
    address: null,
    action: 'DELETE /jobs/:id',
    target: '0123456789abcdef',
    outcome: 'done' as const,
    details: {},
    previousHash: '',
    hash: '',
  };
  const nothing = { item: null, version: null, versions: null, name: null };
  assert.deepEqual(subjectOf({ ...entry, target: null }), nothing);
  assert.deepEqual(subjectOf(entry), { ...nothing, name: '0123456789abcdef' });
  assert.deepEqual(subjectOf({ ...entry, details: { name: 'Nightly' } }), { ...nothing, name: 'Nightly' });
  assert.deepEqual(subjectOf({ ...entry, details: { versions: 3 } }).versions, 3);
  const taken = subjectOf({ ...entry, details: { machine: 'web', versionAtMs: 5, path: '/etc/hosts' } });
  assert.deepEqual([taken.item, taken.version], ['/etc/hosts', { machine: 'web', atMs: 5 }]);
});
