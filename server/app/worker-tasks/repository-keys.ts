import type { KeysResult, WorkerResults } from '../../contract/task-result.ts';
import type { KeyAction, WorkerTask } from '../../contract/task.ts';
import { AppError } from '../../errors/index.ts';
import type { Sealer } from '../../queue/index.ts';
import { drillKey, openKeyring, type Keyring } from '../../repository/index.ts';
import type { Clock, Logger } from '../../runtime/index.ts';
import { openLocalStorage } from '../../storage/index.ts';
import { assertMeant, createInFolder } from '../open-repository.ts';
import { openAddressKey, openText, openTypedKey, sealMachineKey, sealText } from '../repository-secrets.ts';

interface Parts {
  sealer: Sealer;
  clock: Clock;
  logger: Logger;
}

/** On the machine's own slot, for whoever lists the keys. */
const OWN_LABEL = 'Dozo, for unattended runs';

/** Makes a repository; an encrypted one with a key of this installation and a recovery key besides. */
export async function createWithKeys(
  parts: Parts,
  task: Extract<WorkerTask, { kind: 'create-repository' }>,
): Promise<WorkerResults['create-repository']> {
  const { sealer, clock, logger } = parts;
  const { path } = task.repository;
  const passphrase = task.secret === undefined ? null : openText(sealer, task.secret);
  const repository = await createInFolder(path, { clock, logger, chunkSizeBytes: task.chunkSizeBytes, passphrase });
  const made = { formatId: repository.id, chunkSizeBytes: repository.chunkSizeBytes };
  await repository.close();
  if (passphrase === null) return { ...made, keys: null };
  const ring = await openKeyring({
    storage: await openLocalStorage({ folder: path, clock, logger }),
    secret: { passphrase },
    clock,
  });
  const { slot, machineKey } = await ring.addMachineKey(OWN_LABEL);
  const { recoveryKey } = await ring.addRecoveryKey('first recovery key');
  const keys = {
    ownSlotId: slot.slotId,
    machineKey: sealMachineKey(sealer, machineKey),
    recoveryKey: sealText(sealer, recoveryKey),
  };
  return { ...made, keys };
}

/** Lists, adds, removes and proves keys of a repository. */
export async function manageKeys(parts: Parts, task: Extract<WorkerTask, { kind: 'keys' }>): Promise<KeysResult> {
  const { sealer, clock, logger } = parts;
  const { action } = task;
  const storage = await openLocalStorage({ folder: task.repository.path, clock, logger });
  const nothing = { slotId: null, machineKey: null, recoveryKey: null, readPointId: null };
  if (action.kind === 'drill') {
    const { repositoryId, slot, readPointId } = await drillKey({
      storage,
      secret: openTypedKey(sealer, action.secret),
    });
    assertMeant({ id: repositoryId }, task.repository);
    return { ...nothing, slots: [slot], slotId: slot.slotId, readPointId };
  }
  const secret =
    action.kind === 'take-up' ? openTypedKey(sealer, action.secret) : openAddressKey(sealer, task.repository);
  const ring = await openKeyring({ storage, secret, clock });
  assertMeant({ id: ring.repositoryId }, task.repository);
  switch (action.kind) {
    case 'list':
      return { ...nothing, slots: await ring.list() };
    case 'add':
      return add(parts, ring, action);
    case 'remove':
      await ring.remove(action.slotId);
      return { ...nothing, slots: await ring.list() };
    case 'take-up':
      return add(parts, ring, { kind: 'add', what: 'machine', label: OWN_LABEL });
  }
}

async function add(
  { sealer }: Parts,
  ring: Keyring,
  { what, label, secret, replaces }: Extract<KeyAction, { kind: 'add' }>,
): Promise<KeysResult> {
  const former = replaces === undefined ? undefined : (await ring.list()).find(({ slotId }) => slotId === replaces);
  if (replaces !== undefined && former?.kind !== what) {
    throw new AppError('CONFLICT', `There is no key ${replaces} of this kind to be replaced.`, {
      hint: 'List the keys of the repository again.',
      details: { slotId: replaces },
    });
  }
  const added = { slotId: '', machineKey: null as string | null, recoveryKey: null as string | null };
  if (what === 'passphrase') {
    const passphrase = secret === undefined ? '' : openText(sealer, secret);
    added.slotId = (await ring.addPassphrase(passphrase, label)).slotId;
  } else if (what === 'recovery') {
    const { slot, recoveryKey } = await ring.addRecoveryKey(label);
    added.slotId = slot.slotId;
    added.recoveryKey = sealText(sealer, recoveryKey);
  } else {
    const { slot, machineKey } = await ring.addMachineKey(label);
    added.slotId = slot.slotId;
    added.machineKey = sealMachineKey(sealer, machineKey);
  }
  // Only now: the new one was read back and opened.
  if (former !== undefined) await ring.remove(former.slotId);
  return { ...added, slots: await ring.list(), readPointId: null };
}
