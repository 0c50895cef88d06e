import type { Block, Fact, Message } from './message.ts';

/** The same as plain text, for readers without HTML and for chats. */
export function renderText(message: Message): string {
  const { heading, lead, facts, blocks, link, footer } = message;
  const parts = [
    heading,
    lead,
    renderFacts(facts),
    ...blocks.map(renderBlock),
    link === null ? '' : `${link.label}: ${link.url}`,
    // The usual mark before what a reader may skip.
    `-- \n${footer}`,
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function renderBlock({ title, badge, facts, remarks }: Block): string {
  const head = badge === null ? title : `${title}: ${badge}`;
  const inner = [...remarks, renderFacts(facts)].filter((part) => part !== '').join('\n');
  return inner === '' ? `* ${head}` : `* ${head}\n${inner.replaceAll(/^/gm, '  ')}`;
}

function renderFacts(facts: readonly Fact[]): string {
  return facts.map(({ label, value }) => `${label}: ${value}`).join('\n');
}
