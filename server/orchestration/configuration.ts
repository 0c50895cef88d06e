import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import * as z from 'zod';
import type {
  ConfigurationDocument,
  configurationImportInputSchema,
  ImportItem,
  ImportReport,
} from '../contract/api/configuration.schema.ts';
import { hostInputSchema } from '../contract/api/host.schema.ts';
import { jobInputSchema } from '../contract/api/job.schema.ts';
import { machineIdentitySchema } from '../contract/api/machine.schema.ts';
import { notificationSettingsChangeSchema, recipientInputSchema } from '../contract/api/notification.schema.ts';
import { pathSchema } from '../contract/api/common.schema.ts';
import { retentionSchema } from '../contract/api/retention.schema.ts';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import { settingsChangeSchema, type Settings, type SettingsChange } from '../contract/api/settings.schema.ts';
import { matchMachines, type MachineRecord, type Tables } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import { randomHex } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import { openHostSecret, sealHostSecret } from './host-addresses.ts';
import type { HostService } from './hosts.ts';
import type { JobService } from './jobs.ts';
import { NamedIds } from './named-ids.ts';
import type { Notifications } from './notifications.ts';
import type { RepositoryService } from './repositories.ts';
import type { ScheduleService } from './schedules.ts';

interface ConfigurationServices {
  hosts: HostService;
  repositories: RepositoryService;
  jobs: JobService;
  schedules: ScheduleService;
  notifications: Notifications;
  loadSettings(): Promise<Settings>;
  changeSettings(change: SettingsChange): Promise<Settings>;
}

const secretsSchema = z.object({
  hosts: z.record(z.string(), z.object({ password: z.string().nullable(), privateKey: z.string().nullable() })),
  mailPassword: z.string().nullable(),
  webhooks: z.record(z.string(), z.object({ url: z.string(), secret: z.string().nullable() })),
});
type Secrets = z.infer<typeof secretsSchema>;

const importedRepositorySchema = z.looseObject({
  path: pathSchema,
  retention: retentionSchema.nullable().default(null),
});

const machineSchema = z.object({ identity: machineIdentitySchema, host: z.string().nullable() });

/** Everything that was configured, as a document, and back, on this installation or another. */
export class ConfigurationService {
  readonly #context: OrchestrationContext;
  readonly #services: ConfigurationServices;
  readonly #version: string;

  constructor(context: OrchestrationContext, services: ConfigurationServices, version: string) {
    this.#context = context;
    this.#services = services;
    this.#version = version;
  }

  /** @param passphrase null: without any secret */
  async export(passphrase: string | null): Promise<ConfigurationDocument> {
    const { catalogue, clock } = this.#context;
    const names = await NamedIds.of(catalogue);
    const schedules = new Map((await catalogue.schedules.list()).map(({ jobId, schedule }) => [jobId, schedule]));
    const hosts = await catalogue.hosts.list();
    const jobs = await catalogue.jobs.list();
    const { mailServer, overdueDays, windowUrl } = await this.#services.notifications.settings.load();
    return {
      format: 'dozo-configuration',
      version: 1,
      madeAtMs: clock.nowMs(),
      madeBy: `Dozo ${this.#version}`,
      hosts: hosts.map(({ name, host, sshPort, httpsPort, user, sshHostKey, tlsCertificate }) => ({
        ...{ name, host, sshPort, httpsPort, user, sshHostKey, tlsCertificate },
      })),
      repositories: (await catalogue.repositories.list()).map(({ name, path, retention }) => ({
        name,
        path,
        retention,
      })),
      machines: await listMachines(catalogue, names),
      jobs: jobs.map(({ id, revision: _revision, createdAtMs: _made, updatedAtMs: _changed, ...job }) =>
        names.encode({ ...job, schedule: schedules.get(id) ?? null }),
      ),
      recipients: (await catalogue.recipients.list()).map(
        ({ id: _id, secrets: _secrets, createdAtMs: _made, channel, ...recipient }) =>
          names.encode({
            ...recipient,
            channel:
              channel.kind === 'webhook'
                ? { kind: channel.kind, format: channel.format, tlsCertificate: channel.tlsCertificate }
                : channel,
          }),
      ),
      notification: { mailServer: mailServer === null ? null : withoutFlag(mailServer), overdueDays, windowUrl },
      settings: await this.#services.loadSettings(),
      secrets: passphrase === null ? null : await sealSecrets(await this.#collectSecrets(), passphrase),
    };
  }

  /**
   * Adds what is not there yet; what has the name of something that is there is left as it is.
   * @throws INPUT_INVALID when the passphrase does not fit
   */
  async import(input: z.infer<typeof configurationImportInputSchema>): Promise<ImportReport> {
    const { document, passphrase, dryRun } = input;
    const secrets =
      document.secrets === null || passphrase === null ? null : await openSecrets(document.secrets, passphrase);
    const items: ImportItem[] = [];
    const attempt = async (
      kind: ImportItem['kind'],
      name: string,
      body: () => Promise<Pick<ImportItem, 'outcome' | 'reason'>>,
    ): Promise<void> => {
      try {
        items.push({ kind, name, ...(await body()) });
      } catch (error) {
        items.push({ kind, name, outcome: 'skipped', reason: describeFailure(error) });
      }
    };
    await attempt('settings', 'settings', () => this.#importSettings(document.settings, dryRun));
    for (const host of document.hosts) {
      await attempt('host', host.name, () => this.#importHost(host, secrets?.hosts[host.name] ?? null, dryRun));
    }
    for (const repository of document.repositories) {
      await attempt('repository', repository.name, () => this.#importRepository(repository, dryRun));
    }
    const machines = await this.#takeOverMachines(document.machines, dryRun);
    const made = new Map<string, string>();
    for (const job of document.jobs) {
      await attempt('job', job.name, () => this.#importJob(job, { machines, made, document, dryRun }));
    }
    // Schedules may follow one another: all jobs must be there before.
    for (const [name, jobId] of made) await this.#importSchedule(name, jobId, document, machines, items);
    if (document.notification !== null) {
      await attempt('notification', 'notification', () =>
        this.#importNotification(document.notification ?? {}, secrets?.mailPassword ?? null, dryRun),
      );
    }
    for (const recipient of document.recipients) {
      await attempt('recipient', recipient.name, () =>
        this.#importRecipient(recipient, secrets?.webhooks[recipient.name] ?? null, { machines, dryRun }),
      );
    }
    return { dryRun, items };
  }

  async #collectSecrets(): Promise<Secrets> {
    const { catalogue, sealer } = this.#context;
    const { settings } = this.#services.notifications;
    const hosts = Object.fromEntries(
      (await catalogue.hosts.list()).map((host) => [host.name, openHostSecret(sealer, host)]),
    );
    const webhooks = Object.fromEntries(
      (await catalogue.recipients.list())
        .filter(({ channel }) => channel.kind === 'webhook')
        .map((recipient) => [recipient.name, settings.openWebhook(recipient)]),
    );
    const { mailServer } = await settings.load();
    return { hosts, webhooks, mailPassword: mailServer === null ? null : (await settings.openMailServer()).password };
  }

  async #importSettings(settings: object, dryRun: boolean): Promise<Pick<ImportItem, 'outcome' | 'reason'>> {
    const change = settingsChangeSchema.parse(settings);
    if (!dryRun) await this.#services.changeSettings(change);
    return { outcome: 'changed', reason: null };
  }

  async #importHost(
    host: object & { name: string },
    secret: Secrets['hosts'][string] | null,
    dryRun: boolean,
  ): Promise<Pick<ImportItem, 'outcome' | 'reason'>> {
    const { catalogue, clock, sealer, events, logger } = this.#context;
    if ((await catalogue.hosts.list()).some(({ name }) => name === host.name)) return isThere();
    if (secret === null) {
      return { outcome: 'skipped', reason: 'Its password is not in the document, or no passphrase was given.' };
    }
    const input = hostInputSchema.parse({ ...host, ...secret });
    if (dryRun) return { outcome: 'added', reason: null };
    const id = randomHex(8);
    // Not asked first: it may be switched off just now, and its key and certificate are known.
    await catalogue.hosts.save({
      id,
      name: host.name,
      host: input.host,
      sshPort: input.sshPort,
      httpsPort: input.httpsPort,
      user: input.user,
      auth: input.privateKey === null ? 'password' : 'key',
      secret: sealHostSecret(sealer, id, input),
      sshHostKey: input.sshHostKey,
      tlsCertificate: input.tlsCertificate,
      facts: null,
      error: null,
      checkedAtMs: null,
      createdAtMs: clock.nowMs(),
    });
    events.emit({ type: 'changed', what: 'host', id });
    this.#services.hosts.refresh(id).catch((error: unknown) => {
      logger.warn({ hostId: id, code: toAppError(error).code }, 'an imported host does not answer');
    });
    return { outcome: 'added', reason: null };
  }

  async #importRepository(
    repository: object & { name: string },
    dryRun: boolean,
  ): Promise<Pick<ImportItem, 'outcome' | 'reason'>> {
    const { path, retention } = importedRepositorySchema.parse(repository);
    const known = await this.#context.catalogue.repositories.list();
    if (known.some((other) => other.name === repository.name || other.path === path)) return isThere();
    if (dryRun) return { outcome: 'added', reason: 'Its folder is looked at when it is really taken over.' };
    const id = await this.#services.repositories.adopt({ name: repository.name, path });
    if (retention !== null) await this.#services.repositories.change(id, { retention });
    return { outcome: 'added', reason: null };
  }

  /** Machines that the document names, in its order: those that are known, and new records of the others. */
  async #takeOverMachines(entries: unknown, dryRun: boolean): Promise<(string | null)[]> {
    const { catalogue } = this.#context;
    const parsed = z.array(machineSchema).safeParse(entries ?? []);
    if (!parsed.success) return [];
    return catalogue.transaction(async (tables) => {
      const known = await tables.machines.list();
      const hosts = new Map((await tables.hosts.list()).map(({ id, name }) => [name, id]));
      const entries = parsed.data.map(({ identity, host }) => ({
        identity,
        hostId: host === null ? null : (hosts.get(host) ?? null),
      }));
      const ids = findKnown(entries, known);
      for (const [index, { identity, hostId }] of entries.entries()) {
        if (ids[index] !== null || dryRun) continue;
        const id = randomHex(8);
        const { name } = identity;
        await tables.machines.save({ id, hostId, name, identity, summary: null, present: false, seenAtMs: null });
        ids[index] = id;
      }
      return ids;
    });
  }

  async #importJob(
    job: object & { name: string },
    known: {
      machines: readonly (string | null)[];
      made: Map<string, string>;
      document: ConfigurationDocument;
      dryRun: boolean;
    },
  ): Promise<Pick<ImportItem, 'outcome' | 'reason'>> {
    const { machines, made, document, dryRun } = known;
    const { catalogue } = this.#context;
    if ((await catalogue.jobs.list()).some(({ name }) => name === job.name)) return isThere();
    if (dryRun) {
      const repository = (job as { repositoryId?: unknown }).repositoryId;
      const isKnown =
        document.repositories.some(({ name }) => repository === `@repository:${name}`) ||
        (await catalogue.repositories.list()).some(({ name }) => repository === `@repository:${name}`);
      return isKnown
        ? { outcome: 'added', reason: null }
        : { outcome: 'skipped', reason: 'Its storage is neither there nor in the document.' };
    }
    const { schedule: _schedule, ...rest } = job as object & { schedule?: unknown };
    const names = await NamedIds.of(catalogue);
    const input = jobInputSchema.parse(names.decode(rest, machines));
    made.set(job.name, await this.#services.jobs.add(input));
    return { outcome: 'added', reason: null };
  }

  async #importSchedule(
    name: string,
    jobId: string,
    document: ConfigurationDocument,
    machines: readonly (string | null)[],
    items: ImportItem[],
  ): Promise<void> {
    const schedule = (document.jobs.find((job) => job.name === name) as { schedule?: unknown } | undefined)?.schedule;
    if (schedule === null || schedule === undefined) return;
    try {
      const names = await NamedIds.of(this.#context.catalogue);
      const wanted = scheduleSchema.parse(names.decode(schedule, machines));
      await this.#services.schedules.set(jobId, wanted, { maybePassed: true });
    } catch (error) {
      const item = items.find((one) => one.kind === 'job' && one.name === name);
      if (item !== undefined)
        item.reason = `It runs on request only, since its schedule was not taken over: ${describeFailure(error)}`;
    }
  }

  async #importNotification(
    notification: object,
    mailPassword: string | null,
    dryRun: boolean,
  ): Promise<Pick<ImportItem, 'outcome' | 'reason'>> {
    const { mailServer = null, ...change } = notificationSettingsChangeSchema.parse(notification);
    const { settings } = this.#services.notifications;
    // One that is set up here already stays.
    const isWanted = mailServer !== null && (await settings.load()).mailServer === null;
    const secret = mailPassword === null ? {} : { password: mailPassword };
    if (!dryRun) await settings.change(isWanted ? { ...change, mailServer: { ...mailServer, ...secret } } : change);
    const lacksPassword = isWanted && mailServer.user !== null && mailPassword === null;
    return {
      outcome: 'changed',
      reason: lacksPassword ? 'The password of the mail server is missing: enter it.' : null,
    };
  }

  async #importRecipient(
    recipient: object & { name: string },
    secret: Secrets['webhooks'][string] | null,
    { machines, dryRun }: { machines: readonly (string | null)[]; dryRun: boolean },
  ): Promise<Pick<ImportItem, 'outcome' | 'reason'>> {
    const { catalogue } = this.#context;
    const { settings } = this.#services.notifications;
    if ((await catalogue.recipients.list()).some(({ name }) => name === recipient.name)) return isThere();
    const channel = z.looseObject({ kind: z.string() }).parse((recipient as { channel?: unknown }).channel);
    if (channel.kind === 'webhook' && secret === null) {
      return {
        outcome: 'skipped',
        reason: 'Its address is a secret that is not in the document, or no passphrase was given.',
      };
    }
    if (dryRun) return { outcome: 'added', reason: null };
    const names = await NamedIds.of(catalogue);
    const decoded = names.decode(recipient, machines) as object;
    await settings.addRecipient(
      recipientInputSchema.parse({
        ...decoded,
        channel: channel.kind === 'webhook' ? { ...channel, ...secret } : channel,
      }),
    );
    return { outcome: 'added', reason: null };
  }
}

function isThere(): Pick<ImportItem, 'outcome' | 'reason'> {
  return { outcome: 'skipped', reason: 'There is one of this name or place already; it was left as it is.' };
}

function describeFailure(error: unknown): string {
  if (error instanceof z.ZodError) {
    const [issue] = error.issues;
    return `Its form is not as expected: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`;
  }
  return toAppError(error).message;
}

function withoutFlag<T extends { hasPassword: boolean }>({
  hasPassword: _hasPassword,
  ...server
}: T): Omit<T, 'hasPassword'> {
  return server;
}

/** Machines of tasks only: the rest is found again by asking the hosts. */
async function listMachines(
  tables: Tables,
  names: NamedIds,
): Promise<{ identity: MachineRecord['identity']; host: string | null }[]> {
  const machines = new Map((await tables.machines.list()).map((machine) => [machine.id, machine]));
  const hosts = new Map((await tables.hosts.list()).map(({ id, name }) => [id, name]));
  return names.machineIds.map((id) => {
    const machine = machines.get(id);
    return {
      identity: machine?.identity ?? { name: id, instanceUuid: null, biosUuid: null, path: '', diskUuids: [] },
      host: machine?.hostId === undefined || machine.hostId === null ? null : (hosts.get(machine.hostId) ?? null),
    };
  });
}

/**
 * Ids of machines that are known already, each given once: copies may have the UUIDs of their original. Those of the
 * same host first, for a copy on another one may lie at the same path too.
 */
function findKnown(
  entries: readonly Pick<MachineRecord, 'identity' | 'hostId'>[],
  known: readonly MachineRecord[],
): (string | null)[] {
  const ids = entries.map((): string | null => null);
  const match = (hostId: string | null | undefined): void => {
    const isMeant = (one: Pick<MachineRecord, 'hostId'>): boolean => hostId === undefined || one.hostId === hostId;
    const open = [...entries.entries()].filter(([index, entry]) => ids[index] === null && isMeant(entry));
    const free = known.filter((machine) => !ids.includes(machine.id) && isMeant(machine));
    const matches = matchMachines(
      open.map(([, { identity }]) => identity),
      free.map(({ identity }) => identity),
    );
    for (const [at, [index]] of open.entries()) ids[index] = free[matches[at] ?? -1]?.id ?? null;
  };
  for (const hostId of new Set(entries.map((entry) => entry.hostId))) match(hostId);
  match(undefined);
  return ids;
}

/** 64 MiB of memory, some tenths of a second on a small NAS. */
const COST = 2 ** 16;
const COST_MAX = 2 ** 17;
const ASSOCIATED = Buffer.from('dozo configuration 1');

async function sealSecrets(
  secrets: Secrets,
  passphrase: string,
): Promise<NonNullable<ConfigurationDocument['secrets']>> {
  const salt = randomBytes(16);
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', await deriveKey(passphrase, salt, COST), nonce);
  cipher.setAAD(ASSOCIATED);
  const body = Buffer.concat([cipher.update(JSON.stringify(secrets), 'utf8'), cipher.final(), cipher.getAuthTag()]);
  return {
    kdf: 'scrypt',
    cost: COST,
    salt: salt.toString('base64'),
    nonce: nonce.toString('base64'),
    sealed: body.toString('base64'),
  };
}

/** @throws INPUT_INVALID */
async function openSecrets(
  { cost, salt, nonce, sealed }: NonNullable<ConfigurationDocument['secrets']>,
  passphrase: string,
): Promise<Secrets> {
  const body = Buffer.from(sealed, 'base64');
  try {
    // A document may come from anywhere: it does not say how much memory is taken.
    if (cost > COST_MAX || cost < 2 || (cost & (cost - 1)) !== 0) throw new Error('an unknown cost');
    const key = await deriveKey(passphrase, Buffer.from(salt, 'base64'), cost);
    const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(nonce, 'base64'), { authTagLength: 16 });
    decipher.setAAD(ASSOCIATED);
    decipher.setAuthTag(body.subarray(-16));
    const text = Buffer.concat([decipher.update(body.subarray(0, -16)), decipher.final()]).toString('utf8');
    return secretsSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new AppError('INPUT_INVALID', 'The passphrase does not fit this document.', {
      hint: 'Enter the passphrase that was given at the export, or import without it.',
      details: { passphrase: 'does not fit' },
      cause,
    });
  }
}

function deriveKey(passphrase: string, salt: Buffer, cost: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { N: cost, r: 8, p: 1, maxmem: 256 * 1024 * 1024 };
    scrypt(passphrase.normalize('NFKC'), salt, 32, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}
