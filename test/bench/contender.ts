import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** What is measured, in this order, in every round. */
export const STEPS = ['full', 'changed', 'unchanged', 'restore'] as const;
export type Step = (typeof STEPS)[number];

/** One way to back up the disk. What it says in `script` is measured, nothing else. */
export interface Contender {
  readonly name: string;
  /** For the table's legend, one sentence. */
  readonly about: string;
  readonly steps: readonly Step[];
  /** What it is built from, for the record: `restic 0.14.0`. */
  version(): Promise<string>;
  /** Empties the repository for a new round. */
  begin(): Promise<void>;
  /** Whatever must lie ready for the step and does not belong to it. */
  prepare(step: Step): Promise<void>;
  /** For bash with pipefail; ends with what it wrote on the disk, not in its cache. */
  script(step: Step): string;
  env: Record<string, string>;
  /** Facts that only the contender knows, from what the script printed. */
  judge(step: Step, stdout: string): StepFacts;
  /** Size of the repository now. */
  storedBytes(): number;
  /** After `restore`: the disk that was written, and what it must equal. */
  restored(): Promise<{ path: string; original: string }>;
  /** Removes the restored disk. */
  discard(): Promise<void>;
}

export interface StepFacts {
  /** Over the wire, both ways; without the SSH framing where only the content is known. */
  wireBytes: number;
  /** Seconds by part of the work, where it tells. */
  stages: Record<string, number>;
}

/** Sizes of all files below a folder. */
export function folderBytes(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += lstatSync(join(entry.parentPath, entry.name)).size;
  }
  return bytes;
}
