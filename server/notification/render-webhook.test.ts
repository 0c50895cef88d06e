import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Message } from './message.ts';
import { renderWebhook, type WebhookFormat } from './render-webhook.ts';

/** As long as a run with many machines, all of them in trouble, can make one in Japanese. */
function longMessage(blocks: number): Message {
  const sentence = '警告"'.repeat(166);
  return {
    language: 'ja',
    tone: 'bad',
    subject: `Dozo: ${'夜'.repeat(120)}`,
    heading: '夜'.repeat(120),
    lead: `${sentence} ${sentence}`,
    facts: [{ label: '結果', value: '失敗' }],
    blocks: Array.from({ length: blocks }, (_, index) => ({
      title: `${index}${'機'.repeat(79)}`,
      badge: '失敗',
      tone: 'bad',
      remarks: Array.from({ length: 7 }, () => sentence),
      facts: [{ label: '開始', value: '2027/02/04 6:41' }],
    })),
    link: { label: 'Dozo で開く', url: 'https://nas.example.test:5510/#/activities/0123456789abcdef' },
    footer: 'nas',
  };
}

function render(format: WebhookFormat, message: Message): string {
  const event = { id: 'ab'.repeat(8), atMs: 0, notice: null, message };
  return renderWebhook(format, 'https://chat.example.test/topic', event).body;
}

describe('messages to chats', () => {
  it('stay below the size that the chat refuses, and say that there is more', () => {
    const message = longMessage(50);
    const teams = render('teams', message);
    // https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
    assert.ok(Buffer.byteLength(teams) < 21_000, `${Buffer.byteLength(teams)} bytes to Teams`);
    const { body } = (JSON.parse(teams) as { attachments: { content: { body: { text?: string }[] } }[] }).attachments[0]
      ?.content ?? { body: [] };
    assert.equal(body[0]?.text, message.heading);
    assert.equal(body.at(-1)?.text, '…');
    assert.ok(body.some(({ text }) => text?.startsWith('0機')));

    // https://docs.ntfy.sh/config/ message-size-limit
    assert.ok(Buffer.byteLength(render('ntfy', message)) <= 4096);
    assert.ok(Buffer.byteLength(render('slack', message)) < 40_000);
  });

  it('are whole where there is room', () => {
    const message = longMessage(2);
    for (const block of message.blocks) block.remarks = ['ok'];
    const teams = render('teams', message);
    assert.ok(!teams.includes('…'));
    for (const { title } of message.blocks) assert.ok(teams.includes(title));
  });
});
