import { totalBytes, type Extent } from '../disk/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import type { Clock } from '../runtime/index.ts';
import type { Budget, ReadPlan, TransferReport } from '../source/index.ts';

import type { ArrivalSink } from './arrival-sink.ts';

/** Waits before a cut transfer is taken up again; the last repeats nothing: then the run fails. */
const PAUSES_MS = [1000, 5000, 20_000];
/** An attempt at a host that is away waits for it by itself; after this time in vain the run fails too. */
const PATIENCE_MS = 10 * 60_000;

/**
 * Has a plan deliver `extents` until all of them have arrived. A passing fault of the host or the
 * wire is met by asking again for what is missing; as long as each attempt brings something there is
 * no limit to them, since a large disk over a poor line is cut more than once. A transfer that fails after its
 * last byte is repeated for nothing but its word that the disk stood still.
 *
 * @param extents normalized
 * @throws whatever the sink threw; the source's error once it is permanent or keeps coming back
 */
export async function deliverExtents(options: {
  plan: ReadPlan;
  sink: ArrivalSink;
  extents: readonly Extent[];
  clock: Clock;
  signal: AbortSignal;
  budget?: Budget | undefined;
  /** Told before each repetition. */
  retrying?(error: AppError, missingBytes: number): void;
}): Promise<TransferReport> {
  const { sink, signal, clock } = options;
  const total: TransferReport = { readBytes: 0, wireBytes: 0 };
  let missing = sink.arrived.missingFrom(options.extents);
  let fruitless = 0;
  let broughtAtMs = clock.monotonicMs();
  let failure: unknown = null;
  while (missing.length > 0 || failure !== null) {
    signal.throwIfAborted();
    const arrivedBytes = sink.arrived.totalBytes;
    failure = await attempt(missing, total, options);
    missing = sink.arrived.missingFrom(options.extents);
    if (missing.length === 0 && failure === null) break;
    if (sink.failure !== null) throw sink.failure;
    signal.throwIfAborted();
    const error = failure === null ? shortDelivery(missing) : toAppError(failure);
    // What was read is of several moments: more of it makes nothing better.
    if (error.retry !== 'transient' || error.code === 'MACHINE_STATE_CHANGED') throw error;
    if (sink.arrived.totalBytes > arrivedBytes) {
      fruitless = 0;
      broughtAtMs = clock.monotonicMs();
    }
    const pauseMs = PAUSES_MS[fruitless];
    if (pauseMs === undefined || clock.monotonicMs() - broughtAtMs > PATIENCE_MS) throw error;
    fruitless += 1;
    options.retrying?.(error, totalBytes(missing));
    await clock.sleep(pauseMs, signal);
  }
  return total;
}

/** One transfer; gives what it failed with, or null. Counts what it read also when it failed. */
async function attempt(
  extents: Extent[],
  total: TransferReport,
  { plan, sink, signal, budget }: Pick<Parameters<typeof deliverExtents>[0], 'plan' | 'sink' | 'signal' | 'budget'>,
): Promise<unknown> {
  const before = sink.arrived.totalBytes;
  try {
    const report = await plan.transfer(sink, { extents, signal, ...(budget === undefined ? {} : { budget }) });
    total.readBytes += report.readBytes;
    total.wireBytes += report.wireBytes;
    return null;
  } catch (error) {
    // A failed transfer reports nothing. What arrived is a lower bound of both numbers.
    const arrivedBytes = sink.arrived.totalBytes - before;
    total.readBytes += arrivedBytes;
    total.wireBytes += arrivedBytes;
    return error;
  }
}

function shortDelivery(missing: readonly Extent[]): AppError {
  const bytes = totalBytes(missing);
  return new AppError('DISK_READ_SHORT', `The host ended the transfer with ${String(bytes)} bytes undelivered.`, {
    hint: 'The run asks again for what is missing. If it keeps failing, look at the log of the host.',
    details: { missingBytes: bytes, firstOffsetBytes: missing[0]?.offsetBytes ?? 0 },
  });
}
