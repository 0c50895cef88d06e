import type { Step } from './contender.ts';
import type { Measurement } from './rounds.ts';

/** Medians over the rounds of what one contender did in one step. */
export interface Row {
  step: Step;
  contender: string;
  rounds: number;
  seconds: number;
  secondsMin: number;
  secondsMax: number;
  cpuSeconds: number;
  hostCpuSeconds: number;
  memorySumBytes: number;
  memoryLargestBytes: number;
  wireBytes: number;
  storedBytes: number;
  stages: Record<string, number>;
  /** Median of (its seconds / the subject's seconds of the same round): above 1, the subject is faster. */
  subjectIsTimesFaster: number | null;
  /** A restored disk was not equal: the numbers say nothing. */
  isVoid: boolean;
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

/** One row a step and contender, in the order in which they were measured. */
export function summarize(measurements: readonly Measurement[], subject: string): Row[] {
  const groups = new Map<string, Measurement[]>();
  for (const measurement of measurements) {
    const key = `${measurement.step}/${measurement.contender}`;
    groups.set(key, [...(groups.get(key) ?? []), measurement]);
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    return first === undefined ? [] : [summarizeGroup(first, group, measurements, subject)];
  });
}

function summarizeGroup(
  { step, contender }: Measurement,
  group: readonly Measurement[],
  all: readonly Measurement[],
  subject: string,
): Row {
  const middle = (pick: (measurement: Measurement) => number): number => median(group.map(pick));
  const ratios = group.flatMap((one) => {
    const other = all.find(
      ({ contender: name, ...it }) => name === subject && it.step === step && it.round === one.round,
    );
    return other === undefined ? [] : [one.seconds / other.seconds];
  });
  const stageNames = new Set(group.flatMap(({ stages }) => Object.keys(stages)));
  return {
    step,
    contender,
    rounds: group.length,
    seconds: middle((one) => one.seconds),
    secondsMin: Math.min(...group.map((one) => one.seconds)),
    secondsMax: Math.max(...group.map((one) => one.seconds)),
    cpuSeconds: middle((one) => one.cpuSeconds),
    hostCpuSeconds: middle((one) => one.hostCpuSeconds),
    memorySumBytes: Math.max(...group.map((one) => one.memorySumBytes)),
    memoryLargestBytes: Math.max(...group.map((one) => one.memoryLargestBytes)),
    wireBytes: middle((one) => one.wireBytes),
    storedBytes: middle((one) => one.storedBytes),
    stages: Object.fromEntries([...stageNames].map((name) => [name, middle((one) => one.stages[name] ?? 0)])),
    subjectIsTimesFaster: ratios.length === 0 ? null : median(ratios),
    isVoid: group.some((one) => one.isEqual === false),
  };
}

/** A goal and what was measured. */
export interface Aim {
  text: string;
  measured: string;
  isMet: boolean;
}

/** The goals that the project has set itself, against the rows. */
export function judgeAims(rows: readonly Row[]): Aim[] {
  const row = (step: Step, contender: string): Row | undefined =>
    rows.find((one) => one.step === step && one.contender === contender && !one.isVoid);
  const ratio = (step: Step, contenders: readonly string[]): number =>
    Math.min(...contenders.map((contender) => row(step, contender)?.subjectIsTimesFaster ?? NaN));
  const times = (text: string, value: number, limit: number): Aim => ({
    text: `${text}: at least ${String(limit)}`,
    measured: Number.isNaN(value) ? 'not measured' : value.toFixed(2),
    isMet: value >= limit,
  });
  const peers = ['restic', 'borg'];
  const unchanged = row('unchanged', SUBJECT);
  const memoryBytes = Math.max(...rows.filter((one) => one.contender === SUBJECT).map((one) => one.memorySumBytes));
  return [
    times('full, rate against the zstd floor', ratio('full', ['zstd floor']), 0.9),
    times('full, rate against the zstd floor that sends only the data', ratio('full', ['zstd floor, data']), 0.9),
    times('full, times faster than the better of restic and borg', ratio('full', peers), 1.5),
    times('1 % changed, times faster than the better of restic and borg', ratio('changed', peers), 10),
    {
      text: 'nothing changed: under 5 s',
      measured: unchanged === undefined ? 'not measured' : `${unchanged.seconds.toFixed(2)} s`,
      isMet: (unchanged?.seconds ?? Infinity) < 5,
    },
    {
      text: 'nothing changed: under 4 MB over the wire',
      measured: unchanged === undefined ? 'not measured' : `${(unchanged.wireBytes / 1e6).toFixed(2)} MB`,
      isMet: (unchanged?.wireBytes ?? Infinity) < 4e6,
    },
    times('restore, rate against the zstd floor', ratio('restore', ['zstd floor']), 0.8),
    times('restore, rate against the zstd floor that sends only the data', ratio('restore', ['zstd floor, data']), 0.8),
    {
      text: 'memory for one machine: under 250 MB',
      measured: Number.isFinite(memoryBytes) ? `${(memoryBytes / 1e6).toFixed(0)} MB` : 'not measured',
      isMet: Number.isFinite(memoryBytes) && memoryBytes < 250e6,
    },
  ];
}

/** The contender that the others are measured against. */
export const SUBJECT = 'Dozo';
