import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSomebodyTold } from './told-of-failures.ts';

type Recipient = Parameters<typeof isSomebodyTold>[0][number];

const mail: Recipient['channel'] = { kind: 'mail', addresses: ['anna@example.test'] };
const nas: Recipient['channel'] = { kind: 'nas' };
const webhook: Recipient['channel'] = {
  kind: 'webhook',
  format: 'json',
  origin: 'https://example.test',
  hasSecret: false,
  tlsCertificate: null,
};

function told(channel: Recipient['channel'], changes: Partial<Recipient> = {}): Recipient {
  return { enabled: true, results: ['failure'], channel, ...changes };
}

test('somebody is told where one way of any kind works', () => {
  assert.equal(isSomebodyTold([], { mail: true, nas: true }), false);
  for (const isThere of [true, false]) {
    assert.equal(isSomebodyTold([told(mail)], { mail: isThere, nas: !isThere }), isThere);
    assert.equal(isSomebodyTold([told(nas)], { mail: !isThere, nas: isThere }), isThere);
  }
  assert.equal(isSomebodyTold([told(mail), told(nas), told(webhook)], { mail: false, nas: false }), true);
});

test('who is switched off, or hears of successes only, is not told of a failure', () => {
  const ways = { mail: true, nas: true };
  assert.equal(isSomebodyTold([told(webhook, { enabled: false })], ways), false);
  assert.equal(isSomebodyTold([told(mail, { results: ['success', 'missed'] })], ways), false);
});
