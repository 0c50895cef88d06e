import * as z from 'zod';
import type {
  repositoryKeyAddedSchema,
  repositoryKeyAddSchema,
  repositoryKeyDrillResultSchema,
  RepositoryKeyView,
} from '../contract/api/repository-key.schema.ts';
import type { KeysResult, NewRepositoryKeys } from '../contract/task-result.ts';
import type { KeyAction, RepositoryAddress } from '../contract/task.ts';
import type { RepositoryRecord, Tables } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import { found, type OrchestrationContext } from './context.ts';

/** What secrets of repositories are sealed for. */
export const MACHINE_KEY_PURPOSE = 'repository-machine-key';
export const KEY_TEXT_PURPOSE = 'repository-key-text';

/** Scrypt takes its time on a small NAS, once a slot. */
const KEYS_TIMEOUT_MS = 120_000;

/** What the catalogue keeps of an encrypted repository; nothing for a plain one. */
const recordSchema = z.object({
  /** Sealed with the installation's key. Null: removed, so nothing runs unattended. */
  machineKey: z.string().nullable(),
  ownSlotId: z.string().nullable(),
  /** Last proofs by slot. */
  drills: z.record(z.string(), z.number()),
});
type KeyRecord = z.infer<typeof recordSchema>;

async function loadRecord(tables: Tables, repositoryId: string): Promise<KeyRecord | null> {
  const parsed = recordSchema.safeParse(await tables.settings.load(settingOf(repositoryId)));
  return parsed.success ? parsed.data : null;
}

function settingOf(repositoryId: string): string {
  return `repository-keys ${repositoryId}`;
}

/** Where a repository is, with what opens it: for a task. */
export async function addressOf(
  tables: Tables,
  { id, path, formatId }: Pick<RepositoryRecord, 'id' | 'path' | 'formatId'>,
): Promise<RepositoryAddress> {
  const key = (await loadRecord(tables, id))?.machineKey ?? null;
  return { path, ...(formatId === null ? {} : { formatId }), ...(key === null ? {} : { key }) };
}

export async function isEncrypted(tables: Tables, repositoryId: string): Promise<boolean> {
  return (await loadRecord(tables, repositoryId)) !== null;
}

/** Remembers the installation's own key of a repository that was made or taken up. */
export async function saveOwnKey(
  tables: Tables,
  repositoryId: string,
  own: { machineKey: string; slotId: string },
): Promise<void> {
  const drills = (await loadRecord(tables, repositoryId))?.drills ?? {};
  const record: KeyRecord = { machineKey: own.machineKey, ownSlotId: own.slotId, drills };
  await tables.settings.save(settingOf(repositoryId), record);
}

/** A record of a repository that is forgotten: its keys are, too. */
export async function forgetKeys(tables: Tables, repositoryId: string): Promise<void> {
  await tables.settings.save(settingOf(repositoryId), null);
}

/** Keys of encrypted repositories. The repository holds the slots; the catalogue Dozo's own key and the drills. */
export class RepositoryKeyService {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  /** @throws NOT_FOUND, CONFLICT when it is not encrypted, REPOSITORY_KEY_*, STORAGE_* */
  async list(repositoryId: string): Promise<RepositoryKeyView[]> {
    return this.#views(repositoryId, await this.#ask(repositoryId, { kind: 'list' }));
  }

  /** @throws as `list`, CONFLICT when `replaces` is none of that kind */
  async add(
    repositoryId: string,
    input: z.infer<typeof repositoryKeyAddSchema>,
  ): Promise<z.infer<typeof repositoryKeyAddedSchema>> {
    const { sealer, catalogue, events } = this.#context;
    const result = await this.#ask(repositoryId, {
      kind: 'add',
      what: input.kind,
      label: input.label,
      ...(input.kind === 'passphrase' ? { secret: sealer.seal(KEY_TEXT_PURPOSE, { text: input.passphrase }) } : {}),
      ...(input.replaces === undefined ? {} : { replaces: input.replaces }),
    });
    const { machineKey, slotId } = result;
    if (machineKey !== null && slotId !== null) {
      await catalogue.transaction((tables) => saveOwnKey(tables, repositoryId, { machineKey, slotId }));
    }
    events.emit({ type: 'changed', what: 'repository', id: repositoryId });
    const key = (await this.#views(repositoryId, result)).find((one) => one.slotId === slotId);
    return { key: found(key ?? null, 'key', slotId ?? ''), recoveryKey: this.#openText(result.recoveryKey) };
  }

  /** @throws as `list`, NOT_FOUND, CONFLICT for the last key that a person can use and for Dozo's own */
  async remove(repositoryId: string, slotId: string): Promise<void> {
    const record = await loadRecord(this.#context.catalogue, repositoryId);
    if (record?.ownSlotId === slotId) {
      throw new AppError('CONFLICT', 'This is the key that Dozo itself uses for this repository.', {
        hint: 'Replace it by a new one; or remove the repository here, then no key of it is kept on this NAS.',
        details: { slotId },
      });
    }
    await this.#ask(repositoryId, { kind: 'remove', slotId });
    this.#context.events.emit({ type: 'changed', what: 'repository', id: repositoryId });
  }

  /**
   * Proves that a passphrase or recovery key, as somebody typed it, opens the repository; remembers when. Where Dozo's
   * own key does not open it any more (its slot is gone or damaged, or this installation's key file), Dozo has a new
   * one then.
   * @throws as `list`, REPOSITORY_KEY_WRONG
   */
  async drill(repositoryId: string, text: string): Promise<z.infer<typeof repositoryKeyDrillResultSchema>> {
    const { sealer, catalogue, clock } = this.#context;
    const result = await this.#ask(repositoryId, { kind: 'drill', secret: sealer.seal(KEY_TEXT_PURPOSE, { text }) });
    const { slotId } = result;
    if (slotId !== null) {
      await catalogue.transaction(async (tables) => {
        const record = await loadRecord(tables, repositoryId);
        if (record === null) return;
        const drills = { ...record.drills, [slotId]: clock.nowMs() };
        await tables.settings.save(settingOf(repositoryId), { ...record, drills });
      });
    }
    if (!(await this.#opensByItself(repositoryId))) await this.#takeUpAgain(repositoryId, text);
    const [key] = await this.#views(repositoryId, result);
    return { key: found(key ?? null, 'key', slotId ?? ''), readPointId: result.readPointId };
  }

  /** A key for this installation, of a repository that somebody else's key opens. */
  async takeUp(
    path: string,
    text: string,
    formatId: string | null = null,
  ): Promise<{ machineKey: string; slotId: string }> {
    const { sealer } = this.#context;
    const secret = sealer.seal(KEY_TEXT_PURPOSE, { text });
    const address = formatId === null ? { path } : { path, formatId };
    const { machineKey, slotId } = await this.#request(address, { kind: 'take-up', secret });
    if (machineKey === null || slotId === null) throw new AppError('INTERNAL', 'The worker gave no key.');
    return { machineKey, slotId };
  }

  async #opensByItself(repositoryId: string): Promise<boolean> {
    try {
      await this.list(repositoryId);
      return true;
    } catch (error) {
      const { code } = toAppError(error);
      if (code === 'REPOSITORY_KEY_WRONG' || code === 'REPOSITORY_KEY_NEEDED' || code === 'SECRET_UNREADABLE')
        return false;
      throw error;
    }
  }

  async #takeUpAgain(repositoryId: string, text: string): Promise<void> {
    const { catalogue, events, logger } = this.#context;
    const { path, formatId } = found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
    const own = await this.takeUp(path, text, formatId);
    await catalogue.transaction((tables) => saveOwnKey(tables, repositoryId, own));
    logger.warn({ repositoryId }, "Dozo's own key of a repository did not open it any more; it has a new one");
    events.emit({ type: 'changed', what: 'repository', id: repositoryId });
  }

  /** The words of a recovery key that was just made, for the one answer that shows them. */
  recoveryKeyOf(keys: NewRepositoryKeys | null): string | null {
    return this.#openText(keys?.recoveryKey ?? null);
  }

  #openText(sealed: string | null): string | null {
    if (sealed === null) return null;
    return z.object({ text: z.string() }).parse(this.#context.sealer.open(KEY_TEXT_PURPOSE, sealed)).text;
  }

  async #ask(repositoryId: string, action: KeyAction): Promise<KeysResult> {
    const { catalogue } = this.#context;
    const repository = found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
    return this.#request(await addressOf(catalogue, repository), action);
  }

  async #request(repository: RepositoryAddress, action: KeyAction): Promise<KeysResult> {
    const task = { kind: 'keys' as const, repository, action };
    return (await this.#context.queue.request(task, { timeoutMs: KEYS_TIMEOUT_MS })) as KeysResult;
  }

  async #views(repositoryId: string, { slots }: KeysResult): Promise<RepositoryKeyView[]> {
    const record = await loadRecord(this.#context.catalogue, repositoryId);
    return slots.map((slot) => ({
      ...slot,
      drilledAtMs: record?.drills[slot.slotId] ?? null,
      isOwn: slot.slotId === record?.ownSlotId,
    }));
  }
}
