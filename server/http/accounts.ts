import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import type { userChangeSchema, userInputSchema, UserView } from '../contract/api/user.schema.ts';
import type { Catalogue, Tables, UserRecord } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { found } from '../orchestration/index.ts';
import type { Clock } from '../runtime/index.ts';
import { hashPassword } from './password.ts';

/** Who may use Dozo, and for what. */
export class Accounts {
  readonly #catalogue: Catalogue;
  readonly #clock: Clock;

  constructor(parts: { catalogue: Catalogue; clock: Clock }) {
    this.#catalogue = parts.catalogue;
    this.#clock = parts.clock;
  }

  /**
   * Makes the first account if there is none.
   * @param password null: a random one
   * @returns the random password, to be shown once; null when nothing is to be shown
   */
  async ensureAdministrator(password: string | null): Promise<string | null> {
    if ((await this.#catalogue.users.count()) > 0) return null;
    const chosen = password ?? randomBytes(15).toString('base64url');
    await this.#catalogue.users.add({
      name: 'admin',
      role: 'administrator',
      source: 'local',
      passwordHash: await hashPassword(chosen),
      createdAtMs: this.#clock.nowMs(),
    });
    return password === null ? chosen : null;
  }

  /** The account of an administrator of the NAS, made when it comes for the first time. */
  async ensureNasUser(nasName: string): Promise<UserRecord> {
    const name = `${nasName}@nas`;
    return this.#catalogue.transaction(async (tables) => {
      if ((await tables.users.load(name)) === null) {
        const createdAtMs = this.#clock.nowMs();
        await tables.users.add({ name, role: 'administrator', source: 'nas', passwordHash: '', createdAtMs });
      }
      return found(await tables.users.load(name), 'account', name);
    });
  }

  async list(): Promise<UserView[]> {
    const users = await this.#catalogue.users.list();
    return Promise.all(users.map((user) => this.#view(user)));
  }

  /** @throws NOT_FOUND */
  async load(name: string): Promise<UserView> {
    return this.#view(found(await this.#catalogue.users.load(name), 'account', name));
  }

  /** @throws CONFLICT, NOT_FOUND (a job) */
  async add(input: z.output<typeof userInputSchema>): Promise<void> {
    const passwordHash = await hashPassword(input.password);
    await this.#catalogue.transaction(async (tables) => {
      if ((await tables.users.load(input.name)) !== null) {
        throw new AppError('CONFLICT', `There is an account ${input.name} already.`, { hint: 'Take another name.' });
      }
      const { name, role } = input;
      await tables.users.add({ name, role, source: 'local', passwordHash, createdAtMs: this.#clock.nowMs() });
      await saveDelegations(tables, name, input.jobIds);
    });
  }

  /** @throws NOT_FOUND, CONFLICT when nobody would be left who may administer */
  async change(name: string, change: z.output<typeof userChangeSchema>): Promise<void> {
    const passwordHash = change.password === undefined ? null : await hashPassword(change.password);
    await this.#catalogue.transaction(async (tables) => {
      const user = found(await tables.users.load(name), 'account', name);
      const nowMs = this.#clock.nowMs();
      const rights = { role: change.role ?? user.role, disabled: change.disabled ?? user.disabled };
      await tables.users.saveRights(name, rights, nowMs);
      if (passwordHash !== null) {
        if (user.source === 'nas') {
          throw new AppError('CONFLICT', `${name} signs in with a session of the NAS and has no password here.`, {
            hint: 'Change it on the NAS, or make an account of its own.',
          });
        }
        await tables.users.savePassword(name, passwordHash, nowMs);
      }
      if (change.jobIds !== undefined) await saveDelegations(tables, name, change.jobIds);
      if (change.endSecondFactor === true) {
        await tables.users.saveTotp(name, { totpSecret: null, totpPending: null });
        await tables.users.saveRecoveryCodes(name, []);
      }
      await assertAdministrated(tables);
      const isCut = rights.role !== user.role || rights.disabled || passwordHash !== null;
      if (isCut) await tables.sessions.removeOthers(name, null);
    });
  }

  /** Ends its sessions and tokens as well. @throws NOT_FOUND, CONFLICT */
  async remove(name: string): Promise<void> {
    await this.#catalogue.transaction(async (tables) => {
      found((await tables.users.remove(name)) ? name : null, 'account', name);
      await assertAdministrated(tables);
    });
  }

  /** Who may restore the versions of a job, besides administrators and operators. @throws NOT_FOUND, CONFLICT */
  async delegate(jobId: string, names: readonly string[]): Promise<void> {
    await this.#catalogue.transaction(async (tables) => {
      found(await tables.jobs.load(jobId), 'job', jobId);
      for (const name of names) {
        const user = found(await tables.users.load(name), 'account', name);
        if (user.role === 'restore') continue;
        throw new AppError('CONFLICT', `${name} has the role "${user.role}", to which nothing is delegated.`, {
          hint: 'Only accounts of the role "restore" are limited to jobs.',
        });
      }
      for (const [name, jobIds] of await this.#delegations(tables)) {
        const others = jobIds.filter((id) => id !== jobId);
        const wanted = names.includes(name) ? [...others, jobId] : others;
        await tables.users.saveDelegations(name, wanted);
      }
    });
  }

  async delegatesOf(jobId: string): Promise<string[]> {
    found(await this.#catalogue.jobs.load(jobId), 'job', jobId);
    const delegations = await this.#catalogue.users.listDelegations();
    return [...delegations].filter(([, jobIds]) => jobIds.includes(jobId)).map(([name]) => name);
  }

  async #delegations(tables: Tables): Promise<Map<string, string[]>> {
    const known = await tables.users.listDelegations();
    const users = await tables.users.list();
    return new Map(users.map(({ name }) => [name, known.get(name) ?? []]));
  }

  async #view(user: UserRecord): Promise<UserView> {
    const { users, sessions } = this.#catalogue;
    const nowMs = this.#clock.nowMs();
    const open = [
      ...(await sessions.list(user.name, 'cookie', nowMs)),
      ...(await sessions.list(user.name, 'token', nowMs)),
    ];
    const used = open.flatMap(({ usedAtMs }) => usedAtMs ?? []);
    return {
      name: user.name,
      role: user.role,
      source: user.source,
      disabled: user.disabled,
      hasSecondFactor: user.totpSecret !== null,
      recoveryCodesLeft: await users.countRecoveryCodes(user.name),
      jobIds: (await users.listDelegations()).get(user.name) ?? [],
      createdAtMs: user.createdAtMs,
      usedAtMs: used.length === 0 ? null : Math.max(...used),
    };
  }
}

async function saveDelegations(tables: Tables, name: string, jobIds: readonly string[]): Promise<void> {
  for (const jobId of jobIds) found(await tables.jobs.load(jobId), 'job', jobId);
  await tables.users.saveDelegations(name, jobIds);
}

/** @throws CONFLICT */
async function assertAdministrated(tables: Tables): Promise<void> {
  const users = await tables.users.list();
  if (users.some(({ role, disabled }) => role === 'administrator' && !disabled)) return;
  throw new AppError('CONFLICT', 'Nobody would be left who may administer Dozo.', {
    hint: 'Make another account an administrator first.',
  });
}
