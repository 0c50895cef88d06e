import { ref, watch, type Ref } from 'vue';
import { forgetDraft, keepDraft, readDraft } from '../../composables/drafts.ts';
import type { GuestPlace } from './guest-path.ts';

/** What was chosen in a folder of a version. */
interface Choice {
  at: GuestPlace;
  chosen: ReadonlySet<string>;
}
type Kept = { key: string; at: GuestPlace; names: string[] }[];

/**
 * What was chosen in each folder of a version, for as long as it is looked into: also when the page is loaded anew in
 * one of its folders, or left and come back to there. Who begins above its volumes begins anew.
 */
export function useGuestChoices(pointId: () => string, place: () => GuestPlace): Ref<Map<string, Choice>> {
  const draft = (): string => `files ${pointId()}`;
  const choices = ref(new Map<string, Choice>());
  watch(
    pointId,
    () => {
      if (place().volume === null) forgetDraft(draft());
      const kept = readDraft<Kept>(draft()) ?? [];
      choices.value = new Map(kept.map(({ key, at, names }) => [key, { at, chosen: new Set(names) }]));
    },
    { immediate: true },
  );
  watch(
    choices,
    (now) => {
      const kept: Kept = [...now].map(([key, { at, chosen }]) => ({ key, at, names: [...chosen] }));
      if (kept.length === 0) forgetDraft(draft());
      else keepDraft(draft(), kept);
    },
    { deep: true },
  );
  return choices;
}
