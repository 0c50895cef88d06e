import type { Message, Tone } from './message.ts';
import type { Notice } from './notice.ts';

export type WebhookFormat = 'json' | 'slack' | 'teams' | 'ntfy';

/** What is posted where. */
export interface WebhookRequest {
  url: string;
  /** JSON. */
  body: string;
}

/** Blocks beyond these are left to the window: chats cut long messages. */
const BLOCKS_SHOWN = 10;
/** ntfy takes 4096 bytes; old ones count the whole JSON, heading and links among it. */
const NTFY_BYTES_MAX = 3_000;
/** Teams refuses 28 KB for good; some have met it at 21. */
const TEAMS_BYTES_MAX = 20_000;
const SLACK_CHARACTERS_MAX = 2_500;

/** @param event `id` is the same when the message is sent again: receivers can tell that they have it */
export function renderWebhook(
  format: WebhookFormat,
  url: string,
  event: { id: string; atMs: number; notice: Notice | null; message: Message },
): WebhookRequest {
  switch (format) {
    case 'json':
      return { url, body: JSON.stringify(renderJson(event)) };
    case 'slack':
      return { url, body: JSON.stringify(renderSlack(event.message)) };
    case 'teams':
      return { url, body: JSON.stringify(renderTeams(event.message)) };
    case 'ntfy':
      return renderNtfy(url, event.message);
  }
}

/** Form 1 of Dozo's own; fields may be added. */
function renderJson({ id, atMs, notice, message }: Parameters<typeof renderWebhook>[2]): object {
  return {
    version: 1,
    id,
    atMs,
    kind: notice?.kind ?? 'test',
    language: message.language,
    subject: message.subject,
    text: message.lead,
    notice,
  };
}

/** Incoming webhooks of Slack; Mattermost and Rocket.Chat take the same. */
function renderSlack({ tone, heading, lead, facts, blocks, link }: Message): object {
  const color = { good: '#1b6e43', warning: '#c77700', bad: '#a8201a', neutral: '#37506b' }[tone];
  const lines = blocks
    .slice(0, BLOCKS_SHOWN)
    .map(({ title, badge, remarks }) => [badge === null ? title : `${title}: ${badge}`, ...remarks].join('\n'));
  const more = blocks.length > BLOCKS_SHOWN ? ['…'] : [];
  return {
    text: escapeSlack(heading),
    attachments: [
      {
        color,
        fallback: escapeSlack(heading),
        text: escapeSlack(
          cut([lead, ...lines, ...more].filter((line) => line !== '').join('\n'), SLACK_CHARACTERS_MAX),
        ),
        fields: facts.map(({ label, value }) => ({
          title: escapeSlack(label),
          value: escapeSlack(value),
          short: true,
        })),
        // Without it, names are read as formatting.
        mrkdwn_in: [],
        ...(link === null ? {} : { title: escapeSlack(link.label), title_link: link.url }),
      },
    ],
  };
}

/** Slack's three: a name can neither be a link nor call anybody (`<!channel>`). */
function escapeSlack(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** With as many blocks as there is room for. */
function renderTeams(message: Message): object {
  let blocks = Math.min(message.blocks.length, BLOCKS_SHOWN);
  let card = renderCard(message, blocks);
  while (blocks > 0 && Buffer.byteLength(JSON.stringify(card)) > TEAMS_BYTES_MAX) {
    blocks -= 1;
    card = renderCard(message, blocks);
  }
  return card;
}

/** An adaptive card, as workflows of Teams take it. */
function renderCard({ tone, heading, lead, facts, blocks, link }: Message, blocksShown: number): object {
  const color = { good: 'good', warning: 'warning', bad: 'attention', neutral: 'accent' }[tone];
  const text = (content: string, more: object = {}): object => ({
    type: 'TextBlock',
    text: escapeMarkdown(content),
    wrap: true,
    ...more,
  });
  const body = [
    text(heading, { size: 'Large', weight: 'Bolder', color }),
    ...(lead === '' ? [] : [text(lead)]),
    factSet(facts),
    ...blocks.slice(0, blocksShown).flatMap((block) => [
      text(block.badge === null ? block.title : `${block.title}: ${block.badge}`, {
        weight: 'Bolder',
        separator: true,
      }),
      ...block.remarks.map((remark) => text(remark)),
      factSet(block.facts.filter(({ isCode }) => isCode !== true)),
    ]),
    ...(blocks.length > blocksShown ? [text('…', { separator: true })] : []),
  ];
  return {
    type: 'message',
    attachments: [
      {
        contentType: 'application/vnd.microsoft.card.adaptive',
        content: {
          $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
          type: 'AdaptiveCard',
          version: '1.4',
          body: body.filter((part) => part !== null),
          ...(link === null ? {} : { actions: [{ type: 'Action.OpenUrl', title: link.label, url: link.url }] }),
        },
      },
    ],
  };
}

function factSet(facts: readonly { label: string; value: string }[]): object | null {
  if (facts.length === 0) return null;
  return {
    type: 'FactSet',
    facts: facts.map(({ label, value }) => ({ title: label, value: escapeMarkdown(value) })),
  };
}

/** Cards read a part of Markdown: a name is to be neither a link nor a heading. */
function escapeMarkdown(text: string): string {
  return text.replaceAll(/[\\`*_[\]()#~|<>!]/g, '\\$&');
}

/** By ntfy's JSON form: its topic is the last part of the address, the JSON goes to the server's root. */
function renderNtfy(url: string, { tone, heading, lead, blocks, link }: Message): WebhookRequest {
  const { origin, pathname } = new URL(url);
  const lines = blocks.map(({ title, badge, remarks }) =>
    [badge === null ? title : `${title}: ${badge}`, ...remarks].join(' '),
  );
  const message = cutBytes([lead, ...lines].filter((line) => line !== '').join('\n'), NTFY_BYTES_MAX);
  return {
    url: `${origin}/`,
    body: JSON.stringify({
      topic: decodeURIComponent(pathname.slice(pathname.lastIndexOf('/') + 1)),
      title: heading,
      // An empty one would be replaced by a word of ntfy's own.
      message: message === '' ? heading : message,
      priority: PRIORITIES[tone],
      tags: [{ good: 'white_check_mark', warning: 'warning', bad: 'rotating_light', neutral: 'package' }[tone]],
      ...(link === null ? {} : { click: link.url }),
    }),
  };
}

/** Of 1 to 5; 3 is the usual one. */
const PRIORITIES: Record<Tone, number> = { good: 2, neutral: 2, warning: 3, bad: 4 };

function cut(text: string, charactersMax: number): string {
  const characters = Array.from(text);
  return characters.length > charactersMax ? `${characters.slice(0, charactersMax - 1).join('')}…` : text;
}

function cutBytes(text: string, bytesMax: number): string {
  if (Buffer.byteLength(text) <= bytesMax) return text;
  let size = 0;
  let end = 0;
  for (const character of text) {
    size += Buffer.byteLength(character);
    if (size > bytesMax) break;
    end += character.length;
  }
  return `${text.slice(0, end)}…`;
}
