import type { DiskResult } from '../contract/run.ts';
import type { PointManifest } from '../repository/index.ts';
import { MIB, formatBytes } from '../runtime/index.ts';
import type { FrozenMachine, Note } from '../source/index.ts';

import { labelOf, parseEvidence } from './point-record.ts';

/** Below this a difference in amount is noise. */
const NOTABLE_BYTES = 64 * MIB;
/** This many times as much (or as little) as last time is worth a line. */
const NOTABLE_RATIO = 4;

/** What is different about the machine itself since the version before. */
export function compareMachines(previous: PointManifest, frozen: FrozenMachine): Note[] {
  const notes: Note[] = [];
  const present = [...frozen.disks.map(({ disk }) => disk), ...frozen.excluded.map(({ disk }) => disk)];
  if (previous.machineName !== frozen.identity.name) {
    const details = { before: previous.machineName, now: frozen.identity.name };
    notes.push(note('MACHINE_RENAMED', `The machine was called ${details.before} last time.`, details));
  }
  for (const { disk } of frozen.disks) {
    const before = previous.disks.find((candidate) => candidate.key === disk.key);
    const details = { disk: disk.key, label: disk.label, sizeBytes: disk.sizeBytes };
    if (before === undefined) {
      notes.push(note('DISK_ADDED', `${disk.label} (${disk.key}) is not in the last version.`, details));
    } else if (before.sizeBytes !== disk.sizeBytes) {
      const [code, verb] = disk.sizeBytes > before.sizeBytes ? ['DISK_GROWN', 'grew'] : ['DISK_SHRUNK', 'shrank'];
      const text = `${disk.label} (${disk.key}) ${verb} from ${formatBytes(before.sizeBytes)} to ${formatBytes(disk.sizeBytes)}.`;
      notes.push(note(code, text, { ...details, sizeBytesBefore: before.sizeBytes }));
    }
  }
  for (const before of previous.disks) {
    if (present.some((disk) => disk.key === before.key)) continue;
    const label = labelOf(before.facts, before.key);
    const text = `${label} (${before.key}) of the last version is no longer part of the machine.`;
    notes.push(note('DISK_REMOVED', text, { disk: before.key, label }));
  }
  return notes;
}

/** What is different about the amounts, disk by disk, since the version before. */
export function compareAmounts(previous: PointManifest, results: readonly DiskResult[]): Note[] {
  const notes: Note[] = [];
  const evidence = parseEvidence(previous.evidence);
  for (const result of results) {
    const before = previous.disks.find((candidate) => candidate.key === result.key);
    const kindBefore = evidence?.disks.find((candidate) => candidate.key === result.key)?.kind;
    if (before === undefined || kindBefore === undefined) continue;
    const details = { disk: result.key, label: result.label };
    if (kindBefore === 'changed' && (result.kind === 'allocated' || result.kind === 'everything')) {
      const text = `${result.label} (${result.key}) was read in full; last time only its changes were. ${result.why.text}`;
      notes.push(note('DIFFERENCE_FULL_AGAIN', text, details));
      continue;
    }
    // The first run of a chain stores everything; only changes compare with changes.
    if (kindBefore !== 'changed' || result.kind !== 'changed') continue;
    const thenBytes = before.stats.deliveredBytes;
    const nowBytes = result.stats.readBytes;
    if (Math.max(thenBytes, nowBytes) < NOTABLE_BYTES) continue;
    const amounts = `${formatBytes(nowBytes)} changed, ${formatBytes(thenBytes)} last time.`;
    const numbers = { ...details, changedBytes: nowBytes, changedBytesBefore: thenBytes };
    if (nowBytes > thenBytes * NOTABLE_RATIO) {
      notes.push(note('DIFFERENCE_MUCH_MORE', `Much more than last time on ${result.label}: ${amounts}`, numbers));
    } else if (thenBytes > nowBytes * NOTABLE_RATIO) {
      notes.push(note('DIFFERENCE_MUCH_LESS', `Much less than last time on ${result.label}: ${amounts}`, numbers));
    }
  }
  return notes;
}

function note(code: string, text: string, details: NonNullable<Note['details']>): Note {
  return { level: 'info', code, text, details };
}
