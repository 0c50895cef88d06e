import { randomBytes } from 'node:crypto';
import { AppError, isAppError } from '../errors/index.ts';
import { systemClock, type Clock } from '../runtime/index.ts';
import type { Storage } from '../storage/index.ts';
import { readHeader, type RepositoryHeader } from './header.ts';
import { openSlot, parseSlot, publishSlot, slotName, type KeySecret, type KeySlot } from './key-slot.ts';
import { deriveKeys, type RepositoryKeys } from './keys.ts';
import { KEYS_FOLDER, pointIdOfName, POINTS_FOLDER } from './layout.ts';
import { parsePoint } from './point-file.ts';
import { encodeRecoveryKey } from './recovery-key.ts';

/** A key slot as people see it: nothing of its secret. */
export interface KeySlotListing {
  slotId: string;
  kind: KeySlot['kind'];
  label: string;
  createdAtMs: number;
}

/** The slots of an encrypted repository, for whoever could open one of them. */
export interface Keyring {
  readonly repositoryId: string;
  /** The slot that was opened. */
  readonly openedSlotId: string;
  /** Oldest first; a damaged slot is left out, `check` names it. */
  list(): Promise<KeySlotListing[]>;
  addPassphrase(passphrase: string, label: string): Promise<KeySlotListing>;
  /** @returns the key as 24 words, which nobody can show again */
  addRecoveryKey(label: string): Promise<{ slot: KeySlotListing; recoveryKey: string }>;
  /** @returns 32 bytes for the caller to keep sealed */
  addMachineKey(label: string): Promise<{ slot: KeySlotListing; machineKey: Buffer }>;
  /**
   * Removes a slot. No data is written again, so whoever opened the repository with it before may have kept the
   * master key.
   * @throws NOT_FOUND, CONFLICT for the last slot that a person can open
   */
  remove(slotId: string): Promise<void>;
}

/**
 * @throws REPOSITORY_NOT_FOUND, REPOSITORY_FORMAT_UNKNOWN, REPOSITORY_KEY_NEEDED, REPOSITORY_KEY_WRONG,
 *   CONFLICT when the repository is not encrypted, storage errors
 */
export async function openKeyring(options: { storage: Storage; secret: KeySecret; clock?: Clock }): Promise<Keyring> {
  const { storage, secret, clock = systemClock } = options;
  const header = await readHeader(storage);
  if (header.encryption === null) {
    throw new AppError('CONFLICT', `The repository in ${storage.location} is not encrypted.`, {
      hint: 'It has no keys. To have its versions encrypted, copy them into a new, encrypted repository.',
      details: { location: storage.location },
    });
  }
  const { slotId, keys } = await unlock(storage, header, secret);
  return new StoredKeyring({ storage, clock, header, keys, openedSlotId: slotId });
}

/**
 * Proves that a key opens the repository and reads what is in it: the slot, the key's identity, and the newest
 * version's own file.
 * @returns the repository, the slot, and the version that was read; null when there is none yet
 * @throws as `openKeyring`, REPOSITORY_MANIFEST_DAMAGED
 */
export async function drillKey(options: {
  storage: Storage;
  secret: KeySecret;
}): Promise<{ repositoryId: string; slot: KeySlotListing; readPointId: string | null }> {
  const { storage, secret } = options;
  const ring = await openKeyring(options);
  const { repositoryId } = ring;
  const slot = (await ring.list()).find(({ slotId }) => slotId === ring.openedSlotId);
  if (slot === undefined) throw slotMissing(ring.openedSlotId);
  const header = await readHeader(storage);
  const names: string[] = [];
  for await (const name of storage.listNames(POINTS_FOLDER)) if (pointIdOfName(name) !== null) names.push(name);
  const newest = names.sort().at(-1);
  if (newest === undefined) return { repositoryId, slot, readPointId: null };
  const { keys } = await unlock(storage, header, secret);
  return { repositoryId, slot, readPointId: parsePoint(await storage.read(newest), newest, keys).manifest.pointId };
}

/**
 * The keys of an encrypted repository, from whichever slot the secret opens. A damaged slot does not hide the
 * others.
 * @throws REPOSITORY_KEY_NEEDED without a secret, REPOSITORY_KEY_WRONG
 */
export async function unlock(
  storage: Storage,
  header: RepositoryHeader,
  secret: KeySecret,
): Promise<{ slotId: string; keys: RepositoryKeys }> {
  const details = { location: storage.location };
  if (secret.passphrase === undefined && secret.recoveryKey === undefined && secret.machineKey === undefined) {
    throw new AppError('REPOSITORY_KEY_NEEDED', `The repository in ${storage.location} is encrypted.`, {
      hint: 'Give its passphrase or its recovery key.',
      details,
    });
  }
  const { slots, damage } = await readSlots(storage);
  for (const slot of slots) {
    const masterKey = await openSlot(slot, secret, header.repositoryId);
    if (masterKey === null) continue;
    const keys = deriveKeys(masterKey, header.repositoryId);
    if (keys.keyId.toString('hex') === header.encryption?.keyId) return { slotId: slot.slotId, keys };
    throw new AppError('REPOSITORY_KEY_WRONG', `The key slots in ${storage.location} belong to another repository.`, {
      hint: 'Put the folder keys back from a copy of this repository.',
      details,
    });
  }
  const what =
    secret.passphrase !== undefined ? 'passphrase' : secret.recoveryKey !== undefined ? 'recovery key' : 'machine key';
  throw new AppError('REPOSITORY_KEY_WRONG', `The ${what} does not open the repository in ${storage.location}.`, {
    hint:
      secret.machineKey !== undefined
        ? 'Try a passphrase or the recovery key: Dozo has a new key of its own then.'
        : damage === null
          ? 'Check the passphrase (upper and lower case, keyboard layout), or use the recovery key.'
          : 'One of the key files is damaged. Put the folder keys back from a copy of the repository.',
    details,
    cause: damage ?? undefined,
  });
}

async function readSlots(storage: Storage): Promise<{ slots: KeySlot[]; damage: AppError | null }> {
  const slots: KeySlot[] = [];
  let damage: AppError | null = null;
  for await (const name of storage.listNames(KEYS_FOLDER)) {
    if (!name.endsWith('.key')) continue;
    try {
      const slot = parseSlot(await storage.read(name), name);
      // A slot under another's name could not be removed.
      if (slotName(slot.slotId) === name) slots.push(slot);
    } catch (error) {
      if (!isAppError(error)) throw error;
      if (error.code === 'NOT_FOUND') continue;
      if (error.code !== 'REPOSITORY_KEY_WRONG') throw error;
      damage = error;
    }
  }
  return { slots: slots.sort((a, b) => a.createdAtMs - b.createdAtMs), damage };
}

class StoredKeyring implements Keyring {
  readonly openedSlotId: string;
  readonly #storage: Storage;
  readonly #clock: Clock;
  readonly #header: RepositoryHeader;
  readonly #keys: RepositoryKeys;

  constructor(parts: {
    storage: Storage;
    clock: Clock;
    header: RepositoryHeader;
    keys: RepositoryKeys;
    openedSlotId: string;
  }) {
    this.openedSlotId = parts.openedSlotId;
    this.#storage = parts.storage;
    this.#clock = parts.clock;
    this.#header = parts.header;
    this.#keys = parts.keys;
  }

  get repositoryId(): string {
    return this.#header.repositoryId;
  }

  async list(): Promise<KeySlotListing[]> {
    return (await readSlots(this.#storage)).slots.map(describe);
  }

  async addPassphrase(passphrase: string, label: string): Promise<KeySlotListing> {
    return this.#add({ passphrase }, label);
  }

  async addRecoveryKey(label: string): Promise<{ slot: KeySlotListing; recoveryKey: string }> {
    const recoveryKey = encodeRecoveryKey(randomBytes(32));
    return { slot: await this.#add({ recoveryKey }, label), recoveryKey };
  }

  async addMachineKey(label: string): Promise<{ slot: KeySlotListing; machineKey: Buffer }> {
    const machineKey = randomBytes(32);
    return { slot: await this.#add({ machineKey }, label), machineKey };
  }

  async #add(secret: KeySecret, label: string): Promise<KeySlotListing> {
    const { repositoryId } = this.#header;
    const { masterKey } = this.#keys;
    const createdAtMs = this.#clock.nowMs();
    const slot = await publishSlot(this.#storage, { secret, label, createdAtMs, masterKey, repositoryId });
    // What was published is read back and opened: a key that opens nothing is worse than none.
    const name = slotName(slot.slotId);
    const opened = await openSlot(parseSlot(await this.#storage.read(name), name), secret, repositoryId);
    if (opened?.equals(masterKey) !== true) {
      throw new AppError('REPOSITORY_KEY_WRONG', `The new key slot ${name} does not open.`, {
        hint: 'Check the volume, then add the key again.',
        details: { name },
      });
    }
    return describe(slot);
  }

  async remove(slotId: string): Promise<void> {
    const { slots } = await readSlots(this.#storage);
    const slot = slots.find((one) => one.slotId === slotId);
    if (slot === undefined) throw slotMissing(slotId);
    const isForPeople = ({ kind }: KeySlot): boolean => kind !== 'machine';
    if (isForPeople(slot) && !slots.some((other) => other !== slot && isForPeople(other))) {
      throw new AppError('CONFLICT', 'This is the last key of the repository that a person can use.', {
        hint: 'Add another passphrase or a recovery key first: without any, the data would be lost with this NAS.',
        details: { slotId },
      });
    }
    await this.#storage.remove(slotName(slotId));
  }
}

function describe({ slotId, kind, label, createdAtMs }: KeySlot): KeySlotListing {
  return { slotId, kind, label, createdAtMs };
}

function slotMissing(slotId: string): AppError {
  return new AppError('NOT_FOUND', `There is no key slot ${slotId}.`, {
    hint: 'List the keys of the repository again.',
    details: { slotId },
  });
}
