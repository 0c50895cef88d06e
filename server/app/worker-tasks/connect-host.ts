import * as z from 'zod';
import { hostFactsSchema } from '../../contract/api/host.schema.ts';
import type { LogLine } from '../../contract/run.ts';
import { ADDRESS_PURPOSE } from '../../orchestration/index.ts';
import type { Sealer, TaskContext } from '../../queue/index.ts';
import type { Clock, Logger } from '../../runtime/index.ts';
import {
  connectEsxi,
  type HostAddress,
  type HostFacts,
  type IscsiAccess,
  type SourceHost,
} from '../../source/index.ts';

const addressSchema = z.object({
  host: z.string(),
  sshPort: z.number(),
  httpsPort: z.number(),
  user: z.string(),
  password: z.string().exactOptional(),
  privateKey: z.string().exactOptional(),
  sshHostKey: z.string().nullable(),
  tlsCertificate: z.string().nullable(),
}) satisfies z.ZodType<HostAddress>;

interface Parts {
  sealer: Sealer;
  clock: Clock;
  logger: Logger;
  iscsi: IscsiAccess | null;
}

/** Opens a sealed address, connects, and closes the connection when `work` has ended. */
export async function withHost<T>(
  parts: Parts,
  task: { address: string; facts?: unknown },
  context: TaskContext,
  work: (source: SourceHost) => Promise<T>,
): Promise<T> {
  const { sealer, clock, logger, iscsi } = parts;
  const address = addressSchema.parse(sealer.open(ADDRESS_PURPOSE, task.address));
  const known = hostFactsSchema.safeParse(task.facts);
  const source = await connectEsxi(address, {
    clock,
    logger,
    signal: context.signal,
    ...(iscsi && { iscsi }),
    ...(known.success ? { facts: known.data as HostFacts } : {}),
  });
  try {
    return await work(source);
  } finally {
    await source.close().catch((error: unknown) => {
      logger.warn({ taskId: context.taskId, err: error }, 'a connection to a host did not close in order');
    });
  }
}

/** Connects and tells, step by step, what was found: for the window that a host is added in. */
export async function probeHost(parts: Parts, task: { address: string }, context: TaskContext): Promise<HostFacts> {
  const say = (level: LogLine['level'], code: string, text: string, details?: LogLine['details']): void => {
    const line = { atMs: parts.clock.nowMs(), level, code, text };
    context.report({ kind: 'log', line: details === undefined ? line : { ...line, details } });
  };
  say('info', 'PROBE_CONNECTING', 'Connecting by HTTPS and SSH.');
  return withHost(parts, task, context, async ({ facts }) => {
    const { product, version, build, licenseName, edition, sshHostKey, tlsCertificate } = facts;
    say('info', 'PROBE_CERTIFICATE', `The certificate has the SHA-256 ${tlsCertificate}.`, { tlsCertificate });
    say('info', 'PROBE_HOST_KEY', `The SSH host key is ${sshHostKey}.`, { sshHostKey });
    // The name has version and build in it.
    say('info', 'PROBE_PRODUCT', `${product}.`, { product, version, build });
    say('info', 'PROBE_LICENSE', `Licence: ${licenseName}.`, { licenseName, edition });
    for (const { level, code, text, details } of facts.warnings) say(level, code, text, details);
    return facts;
  });
}
