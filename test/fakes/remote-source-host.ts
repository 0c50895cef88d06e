import type { ChildProcess } from 'node:child_process';

import { AppError, toAppError } from '../../server/errors/index.ts';
import type { DiskSink, Extent } from '../../server/disk/index.ts';
import type {
  FreezeRequest,
  FrozenDisk,
  FrozenMachine,
  MachineIdentity,
  ReadPlan,
  SourceHost,
  SweepReport,
  TransferOptions,
  TransferReport,
} from '../../server/source/index.ts';

/*
 * A fake host that lives in the test while the engine runs in a child process: what the host holds and
 * was asked survives a kill -9 of the child, as a real host's state does. Only what a backup needs.
 */

interface Request {
  id: number;
  call: 'freeze' | 'resume' | 'sweep' | 'thaw' | 'plan' | 'transfer' | 'taken';
  args: unknown[];
}

interface Answer {
  id: number;
  value?: unknown;
  error?: ReturnType<AppError['toBody']>;
}

interface Delivery {
  deliver: { id: number; transferId: number; offsetBytes: number; lengthBytes: number; data: Uint8Array | null };
}

type PlainFrozen = Omit<FrozenMachine, 'thaw' | 'disks'> & {
  disks: Pick<FrozenDisk, 'disk' | 'changeToken'>[];
};
type PlainRequest = Pick<FreezeRequest, 'machine' | 'hold' | 'quiesce' | 'nfsStaging'>;

/** Answers a child's questions to `host` until the child ends. */
export function serveSourceHost(child: ChildProcess, host: SourceHost): void {
  const frozen = new Map<string, FrozenMachine>();
  const plans: ReadPlan[] = [];
  const untaken = new Map<number, { resolve(): void; reject(error: Error): void }>();
  const gone = new AbortController();
  let deliveries = 0;
  child.on('exit', () => {
    gone.abort();
    for (const waiting of untaken.values()) waiting.reject(new Error('The child is gone'));
  });

  const keep = (hold: string, machine: FrozenMachine): PlainFrozen => {
    frozen.set(hold, machine);
    const { identity, frozenAtMs, consistency, configuration, excluded } = machine;
    const disks = machine.disks.map(({ disk, changeToken }) => ({ disk, changeToken }));
    return { identity, frozenAtMs, consistency, configuration, excluded, disks };
  };
  const full = (request: PlainRequest): FreezeRequest => ({
    ...request,
    note: () => undefined,
    signal: gone.signal,
  });
  const deliver = (delivery: Omit<Delivery['deliver'], 'id'>): Promise<void> => {
    deliveries += 1;
    const id = deliveries;
    return new Promise((resolve, reject) => {
      untaken.set(id, { resolve, reject });
      child.send({ deliver: { ...delivery, id } } satisfies Delivery);
    });
  };

  const answer = async ({ id, call, args }: Request): Promise<unknown> => {
    switch (call) {
      case 'freeze': {
        const [request] = args as [PlainRequest];
        return keep(request.hold, await host.freeze(full(request)));
      }
      case 'resume': {
        const [request] = args as [PlainRequest];
        const machine = await host.resume(full(request));
        return machine === null ? null : keep(request.hold, machine);
      }
      case 'sweep':
        return host.sweep(args[0] as string[]);
      case 'thaw':
        return frozen.get(args[0] as string)?.thaw();
      case 'plan': {
        const [hold, key, since] = args as [string, string, Parameters<FrozenDisk['plan']>[0]];
        const disk = frozen.get(hold)?.disks.find((candidate) => candidate.disk.key === key);
        if (disk === undefined) throw new Error(`No disk ${key} is frozen under ${hold}`);
        const plan = await disk.plan(since, gone.signal);
        plans.push(plan);
        const { kind, extents, why, route } = plan;
        return { planId: plans.length - 1, kind, extents, why, route };
      }
      case 'transfer': {
        const [planId, extents] = args as [number, Extent[]];
        const plan = plans[planId];
        if (plan === undefined) throw new Error(`There is no plan ${String(planId)}`);
        const sink: DiskSink = {
          write: (offsetBytes, data) => deliver({ transferId: id, offsetBytes, lengthBytes: data.length, data }),
          zero: (offsetBytes, lengthBytes) => deliver({ transferId: id, offsetBytes, lengthBytes, data: null }),
        };
        return plan.transfer(sink, { extents, signal: gone.signal });
      }
      case 'taken':
        untaken.get(args[0] as number)?.resolve();
        untaken.delete(args[0] as number);
        return null;
    }
  };
  child.on('message', (message: Request | object) => {
    if (!('call' in message)) return;
    answer(message).then(
      (value) => {
        if (child.connected) child.send({ id: message.id, value } satisfies Answer, ignore);
      },
      (error: unknown) => {
        if (child.connected) child.send({ id: message.id, error: toAppError(error).toBody() } satisfies Answer, ignore);
      },
    );
  });
}

function ignore(): void {
  // A child that was killed hears nothing.
}

/** In the child: the host that the parent serves. */
export function connectSourceHost(): Pick<SourceHost, 'freeze' | 'resume' | 'sweep'> {
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const sinks = new Map<number, DiskSink>();
  let calls = 0;

  const ask = (call: Request['call'], args: unknown[], prepare?: (id: number) => void): Promise<unknown> => {
    calls += 1;
    const id = calls;
    prepare?.(id);
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      process.send?.({ id, call, args } satisfies Request);
    });
  };
  process.on('message', (message: Answer | Delivery) => {
    if ('deliver' in message) {
      const { id, transferId, offsetBytes, lengthBytes, data } = message.deliver;
      const sink = sinks.get(transferId);
      // What a sink refuses ends the engine's run by itself; the parent only needs to know what was taken.
      const taken = data === null ? sink?.zero(offsetBytes, lengthBytes) : sink?.write(offsetBytes, Buffer.from(data));
      taken?.then(
        () => void ask('taken', [id]),
        () => undefined,
      );
      return;
    }
    const call = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error === undefined) call?.resolve(message.value);
    else call?.reject(AppError.fromBody(message.error));
  });

  const revive = (hold: string, plain: PlainFrozen): FrozenMachine => ({
    ...plain,
    configuration: {
      ...plain.configuration,
      files: plain.configuration.files.map((file) => ({ ...file, content: Buffer.from(file.content) })),
    },
    disks: plain.disks.map((disk) => ({
      ...disk,
      plan: async (since) => {
        const plan = (await ask('plan', [hold, disk.disk.key, since])) as Omit<ReadPlan, 'transfer'> & {
          planId: number;
        };
        const transfer = (sink: DiskSink, options: TransferOptions): Promise<TransferReport> =>
          ask('transfer', [plan.planId, options.extents ?? plan.extents], (id) => {
            sinks.set(id, sink);
          }) as Promise<TransferReport>;
        return { ...plan, transfer };
      },
    })),
    thaw: async () => {
      await ask('thaw', [hold]);
    },
  });
  return {
    freeze: async (request) => revive(request.hold, (await ask('freeze', [plain(request)])) as PlainFrozen),
    resume: async (request) => {
      const frozen = (await ask('resume', [plain(request)])) as PlainFrozen | null;
      return frozen === null ? null : revive(request.hold, frozen);
    },
    sweep: async (holds) => (await ask('sweep', [holds])) as SweepReport,
  };
}

function plain({ machine, hold, quiesce, nfsStaging }: FreezeRequest): PlainRequest & { machine: MachineIdentity } {
  return { machine, hold, quiesce, nfsStaging };
}
