/** A notice in one language, before it is given a form. All of it is text, on one line each. */
export interface Message {
  language: 'en' | 'de' | 'ja';
  tone: Tone;
  /** Of a mail: says all by itself in a list of mails. */
  subject: string;
  heading: string;
  /** A sentence or two. */
  lead: string;
  facts: Fact[];
  blocks: Block[];
  link: { label: string; url: string } | null;
  footer: string;
}

export type Tone = 'good' | 'warning' | 'bad' | 'neutral';

export interface Fact {
  label: string;
  value: string;
  /** A hash or a path: may break anywhere, and is not translated. */
  isCode?: true;
}

/** One machine, task or repository of a message. */
export interface Block {
  title: string;
  tone: Tone;
  /** State in a word. */
  badge: string | null;
  facts: Fact[];
  /** What happened, what to do. */
  remarks: string[];
}
