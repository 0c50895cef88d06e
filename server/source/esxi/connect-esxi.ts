import { AppError, isAppError } from '../../errors/index.ts';
import { silentLogger, systemClock, type Clock, type Logger } from '../../runtime/index.ts';
import { connectSsh, type SshConnection } from '../../ssh/index.ts';
import { connectVsphere, type VsphereClient } from '../../vsphere/index.ts';
import type {
  DatastoreSummary,
  FreezeRequest,
  FrozenMachine,
  HostAddress,
  HostFacts,
  MachineSummary,
  MachineTarget,
  SourceHost,
  SweepReport,
  TargetRequest,
} from '../source.ts';
import {
  CHANNELS_MAX,
  DEFAULT_LIMITS,
  loadDatastores,
  type EsxiContext,
  type IscsiAccess,
  type SourceLimits,
} from './context.ts';
import { freezeMachine, resumeMachine } from './freeze.ts';
import { HostShell } from './host-shell.ts';
import { listDatastores, listMachines, listNetworks } from './inventory.ts';
import { createTarget, findRestored } from './machine-target.ts';
import { probeHost } from './probe.ts';
import { toSummary } from './summary.ts';
import { sweepHolds } from './sweep.ts';

export interface ConnectEsxiOptions {
  clock?: Clock;
  logger?: Logger;
  /** What an earlier connection found; used as far as the host is still the same. */
  facts?: HostFacts;
  /** Ends the attempt to connect; the host it gave lives on. */
  signal?: AbortSignal;
  limits?: Partial<SourceLimits>;
  /** Lets hosts clone onto disks of this process; without it that route is not taken. */
  iscsi?: IscsiAccess;
}

/**
 * Connects to an ESXi host by HTTPS and SSH and finds out what it lets us do. One login each, no
 * second try: a wrong password repeated locks the account. `facts` of the result go on changing while
 * the host is used (routes, what its licence refuses); remember them when closing.
 *
 * @throws HOST_* as `connectVsphere` and `connectSsh`; HOST_NOT_ESXI, HOST_NOT_ADMINISTRATOR,
 *   HOST_PASSWORD_NEEDED
 */
export async function connectEsxi(address: HostAddress, options: ConnectEsxiOptions = {}): Promise<SourceHost> {
  const { clock = systemClock, logger = silentLogger, signal } = options;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const { password } = address;
  if (password === undefined || password === '') {
    throw new AppError('HOST_PASSWORD_NEEDED', `No password is given for ${address.user} on ${address.host}.`, {
      hint: 'Give it also where SSH uses a key: the inventory of the host is asked over HTTPS, which takes passwords only.',
      details: { host: address.host, user: address.user },
    });
  }
  // HTTPS first: where the password is wrong, SSH is not tried with it as well.
  const vsphere = await connectVsphere({
    host: address.host,
    port: address.httpsPort,
    user: address.user,
    password,
    certificate: address.tlsCertificate,
    clock,
    logger,
    ...(signal && { signal }),
  });
  let shell: HostShell | null = null;
  try {
    shell = await openShell(address, password, { clock, logger, ...(signal && { signal }) });
    const facts = await probeHost(shell, vsphere, address, options.facts);
    return new EsxiHost({ shell, vsphere, facts, clock, logger, limits, iscsi: options.iscsi ?? null });
  } catch (error) {
    await shell?.close().catch(() => undefined);
    await vsphere.close().catch(() => undefined);
    throw shell === null ? explainRefusedShell(error, address) : error;
  }
}

/** HTTPS took the password a moment ago: an SSH service that answers it with a refusal refuses the account. */
function explainRefusedShell(error: unknown, { host, user }: HostAddress): unknown {
  if (!isAppError(error) || error.code !== 'HOST_LOGIN_REFUSED') return error;
  const { offered } = error.details;
  if (typeof offered === 'string' && !offered.includes('keyboard-interactive')) return error;
  return new AppError('HOST_NOT_ADMINISTRATOR', `${host} knows ${user} and its password, but gives it no shell.`, {
    hint: 'Use root, or give the account the role Administrator and shell access; look whether sshd_config forbids it.',
    details: { host, user },
    cause: error,
  });
}

async function openShell(
  address: HostAddress,
  password: string,
  options: { clock: Clock; logger: Logger; signal?: AbortSignal },
): Promise<HostShell> {
  const connect = async (hostKey: string | null, signal?: AbortSignal): Promise<SshConnection> =>
    await connectSsh({
      host: address.host,
      port: address.sshPort,
      user: address.user,
      password,
      // `connectVsphere` has logged in with it.
      isPasswordProven: true,
      ...(address.privateKey !== undefined && { privateKey: address.privateKey }),
      hostKey,
      channelsMax: CHANNELS_MAX,
      ...(signal && { signal }),
    });
  const connection = await connect(address.sshHostKey, options.signal);
  // A new connection of the same session must meet the same host, pinned or not.
  return new HostShell({
    connection,
    connect: async () => await connect(connection.hostKey),
    clock: options.clock,
    logger: options.logger,
  });
}

class EsxiHost implements SourceHost {
  readonly #context: EsxiContext;
  readonly #vsphere: VsphereClient;

  constructor(context: EsxiContext) {
    this.#context = context;
    this.#vsphere = context.vsphere;
  }

  get facts(): HostFacts {
    return this.#context.facts;
  }

  async listMachines(signal?: AbortSignal): Promise<MachineSummary[]> {
    signal?.throwIfAborted();
    const machines = await listMachines(this.#vsphere, await loadDatastores(this.#context));
    return machines.map(toSummary);
  }

  async listDatastores(signal?: AbortSignal): Promise<DatastoreSummary[]> {
    signal?.throwIfAborted();
    const datastores = await listDatastores(this.#vsphere);
    return datastores.map(({ name, type, capacityBytes, freeBytes, accessible }) => {
      return { name, type, capacityBytes, freeBytes, accessible };
    });
  }

  async listNetworks(signal?: AbortSignal): Promise<string[]> {
    signal?.throwIfAborted();
    return await listNetworks(this.#vsphere);
  }

  async freeze(request: FreezeRequest): Promise<FrozenMachine> {
    return await freezeMachine(this.#context, request);
  }

  async resume(request: FreezeRequest): Promise<FrozenMachine | null> {
    return await resumeMachine(this.#context, request);
  }

  async sweep(holds: readonly string[], signal?: AbortSignal): Promise<SweepReport> {
    return await sweepHolds(this.#context, holds, signal);
  }

  async findRestored(request: TargetRequest): Promise<MachineSummary | null> {
    return await findRestored(this.#context, request);
  }

  async createTarget(request: TargetRequest): Promise<MachineTarget> {
    return await createTarget(this.#context, request);
  }

  async close(): Promise<void> {
    const results = await Promise.allSettled([this.#context.shell.close(), this.#vsphere.close()]);
    for (const result of results) {
      if (result.status === 'rejected') {
        this.#context.logger.debug({ error: String(result.reason) }, 'a connection did not close cleanly');
      }
    }
  }
}
