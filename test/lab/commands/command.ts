import type { Host } from '../hostd/host.ts';

/** One call of a host command in the lab's shell. */
export interface Invocation {
  program: string;
  /** Working folder as the shell sees it. */
  folder: string;
  isTerminal: boolean;
  user: string;
  args: string[];
  out(text: string): void;
  err(text: string): void;
  /** Fires when the command's process is gone. */
  signal: AbortSignal;
}

/** Gives the exit status. */
export type Command = (host: Host, call: Invocation) => Promise<number>;
