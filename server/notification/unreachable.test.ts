import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { deliverMail } from './deliver-mail.ts';
import { deliverWebhook } from './deliver-webhook.ts';

/** Nothing listens there. */
const PORT = 1;

test('a failure says whether it was the mail server or the webhook', async () => {
  const failed = (way: string) => (error: unknown) => {
    assert.ok(isAppError(error), String(error));
    assert.equal(error.code, 'NOTIFICATION_UNREACHABLE');
    assert.equal(error.details['way'], way);
    return true;
  };
  const mail = { to: 'a@example.test', subject: 'a', text: 'a', html: 'a', id: 'a', atMs: 0 };
  const server = { user: null, password: null, from: 'b@example.test', tlsCertificate: null };
  await assert.rejects(
    deliverMail({ ...server, host: '127.0.0.1', port: PORT, security: 'none' }, mail),
    failed('mail'),
  );
  const target = { body: '{}', id: 'a', authorization: { kind: 'none' as const }, tlsCertificate: null, nowMs: 0 };
  await assert.rejects(deliverWebhook({ ...target, url: `http://127.0.0.1:${PORT}/` }), failed('webhook'));
});
