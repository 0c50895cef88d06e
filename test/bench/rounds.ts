import { renameSync } from 'node:fs';
import type { BenchDisk, BenchHost } from './bench-host.ts';
import { STEPS, type Contender, type Step, type StepFacts } from './contender.ts';
import { applyChanges, findDataBlocks, packBlocks, planChanges, BLOCK_BYTES } from './disk-image.ts';
import { execute } from './execute.ts';
import { measureCommand, type Cost } from './measured-command.ts';

/** One contender did one step once. */
export interface Measurement extends Cost, StepFacts {
  round: number;
  step: Step;
  contender: string;
  /** Bytes by which the repository grew; of a restore 0. */
  storedBytes: number;
  /** Null: the step restores nothing. False makes the row void. */
  isEqual: boolean | null;
}

export interface RoundsPlan {
  host: BenchHost;
  disk: BenchDisk;
  contenders: readonly Contender[];
  rounds: number;
  /** Share of all 64 KiB blocks of the disk. */
  changedShare: number;
  scratch: string;
  say(line: string): void;
}

/**
 * Runs all rounds. Within a step the contenders take turns; within a round all see the same disk,
 * and in the next round the disk is as the last one left it.
 */
export async function runRounds(plan: RoundsPlan): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (let round = 1; round <= plan.rounds; round += 1) {
    for (const contender of plan.contenders) await contender.begin();
    for (const step of STEPS) {
      if (step === 'changed') await changeDisk(plan, round);
      for (const contender of plan.contenders) {
        if (contender.steps.includes(step)) measurements.push(await measureStep(plan, contender, round, step));
      }
    }
  }
  return measurements;
}

async function changeDisk({ host, disk, changedShare, say }: RoundsPlan, round: number): Promise<void> {
  const blocks = findDataBlocks(disk.image.local);
  const count = Math.round((disk.sizeBytes / BLOCK_BYTES) * changedShare);
  const changes = planChanges(blocks, count, `round ${String(round)}`);
  applyChanges(disk.image.local, changes);
  await host.write(changes);
  packBlocks(disk.image.local, blocks, disk.data.local);
  say(`round ${String(round)}: ${String(changes.length)} blocks changed`);
}

async function measureStep(
  { disk, scratch, say }: RoundsPlan,
  contender: Contender,
  round: number,
  step: Step,
): Promise<Measurement> {
  await contender.prepare(step);
  const before = contender.storedBytes();
  // What others left to write must not be paid for by this one.
  await execute('sync', []);
  const { stdout, ...cost } = await measureCommand(contender.script(step), { scratch, env: contender.env });
  const facts = contender.judge(step, stdout);
  let isEqual: boolean | null = null;
  if (step === 'restore') {
    const { path, original } = await contender.restored();
    isEqual = await areEqual(path, original);
    await contender.discard();
  }
  const storedBytes = step === 'restore' ? 0 : contender.storedBytes() - before;
  const rate = disk.sizeBytes / 1e6 / cost.seconds;
  const verdict = isEqual === null ? '' : isEqual ? ', equal' : ', NOT EQUAL';
  say(
    `round ${String(round)}: ${step} ${contender.name}: ${cost.seconds.toFixed(2)} s, ${rate.toFixed(0)} MB/s of disk${verdict}`,
  );
  return { round, step, contender: contender.name, ...cost, ...facts, storedBytes, isEqual };
}

async function areEqual(path: string, original: string): Promise<boolean> {
  try {
    await execute('cmp', ['-s', path, original]);
    return true;
  } catch {
    return false;
  }
}

/** Lays the disk out as the plain files that the floors and peers read; the image goes there. */
export function layOutDisk(host: BenchHost, sizeBytes: number, image: string): BenchDisk {
  const place = (name: string): { remote: string; local: string } => ({
    remote: `${host.folder}/${name}`,
    local: `${host.localFolder}/${name}`,
  });
  const whole = place('disk.raw');
  const data = place('data.raw');
  const blocks = findDataBlocks(image);
  renameSync(image, whole.local);
  packBlocks(whole.local, blocks, data.local);
  return { sizeBytes, image: whole, data: { ...data, sizeBytes: blocks.length * BLOCK_BYTES } };
}
