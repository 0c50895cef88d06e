import type { DiskResult, SkippedVolume } from '../contract/run.ts';
import type { Consistency, FrozenMachine, MachineConfiguration, MachineIdentity } from '../source/index.ts';

/**
 * What a point says of its machine, `PointManifest.machine`. The files as the host gave them lie
 * beside it as files of the point; this is the same as we understand it.
 */
export interface PointMachine {
  version: 1;
  identity: MachineIdentity;
  neutral: MachineConfiguration['neutral'];
}

/** How a point came to be, `PointManifest.evidence`. */
export interface PointEvidence {
  version: 1;
  runId: string;
  /** Names the run of this machine: a repeated task finds by it that its point is committed. */
  hold: string;
  /** Wall clock of the host at the freeze. */
  frozenAtMs: number;
  consistency: Consistency;
  disks: {
    key: string;
    kind: DiskResult['kind'];
    why: string;
    route: string | null;
    /** Bytes said to be unchanged that were read and found equal to the store. */
    verifiedBytes: number;
    /** Present: somewhere the version has zeros where the disk had bytes that the guest does not need. */
    skipped?: { bytes: number; isInherited: boolean; volumes: SkippedVolume[] };
  }[];
  /** Disks of the machine that are not in the point. */
  missing: { key: string; label: string; path: string; reason: string }[];
}

export function describeMachine(frozen: FrozenMachine): PointMachine {
  return { version: 1, identity: frozen.identity, neutral: frozen.configuration.neutral };
}

/** The hold that a committed point was made under; null where the evidence is not ours or too new. */
export function holdOfPoint(evidence: unknown): string | null {
  return stringField(evidence, 'hold');
}

/** Evidence of a point as far as it is of a version that we know. */
export function parseEvidence(evidence: unknown): PointEvidence | null {
  if (!isRecord(evidence) || evidence['version'] !== 1) return null;
  if (stringField(evidence, 'hold') === null || !Array.isArray(evidence['disks'])) return null;
  if (!Array.isArray(evidence['missing']) || !isRecord(evidence['consistency'])) return null;
  return evidence as unknown as PointEvidence;
}

/**
 * Identity of a disk, out of `PointDiskManifest.facts`, which are its `MachineDisk`; null where it has none.
 */
export function diskUuidOf(facts: unknown): string | null {
  return stringField(facts, 'diskUuid');
}

export function labelOf(facts: unknown, key: string): string {
  return stringField(facts, 'label') ?? key;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function stringField(value: unknown, name: string): string | null {
  if (!isRecord(value)) return null;
  const field = value[name];
  return typeof field === 'string' ? field : null;
}
