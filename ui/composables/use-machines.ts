import { ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue';
import { api, toErrorBody } from '../api/client.ts';
import type { ErrorBody, MachineView } from '../api/types.ts';

/** Of one request. */
const IDS_MAX = 100;

/** The machines of these ids in full; each is asked for once. */
export function useMachines(ids: () => readonly string[]): {
  machines: ShallowRef<MachineView[]>;
  isWhole: Ref<boolean>;
  error: Ref<ErrorBody | null>;
} {
  const known = new Map<string, MachineView>();
  const machines = shallowRef<MachineView[]>([]);
  const isWhole = ref(false);
  const error = ref<ErrorBody | null>(null);

  async function load(wanted: readonly string[]): Promise<void> {
    isWhole.value = false;
    const missing = wanted.filter((id) => !known.has(id));
    try {
      for (let at = 0; at < missing.length; at += IDS_MAX) {
        for (const machine of await api.machinesById(missing.slice(at, at + IDS_MAX))) known.set(machine.id, machine);
      }
      error.value = null;
    } catch (failure) {
      error.value = toErrorBody(failure);
    }
    if (wanted.join() !== ids().join()) return;
    machines.value = wanted.flatMap((id) => known.get(id) ?? []);
    isWhole.value = error.value === null;
  }

  watch(
    () => ids().join(),
    () => void load([...ids()]),
    { immediate: true },
  );
  return { machines, isWhole, error };
}
