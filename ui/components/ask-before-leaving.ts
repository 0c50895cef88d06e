import { onUnmounted } from 'vue';
import { useRouter } from 'vue-router';
import { i18n } from '../i18n/index.ts';
import { confirm } from './confirm.ts';

/**
 * As long as the component is there and something of it would be lost, whoever goes to another page is asked first;
 * whoever closes or loads the window anew is asked by the browser, in its own words. Signing out is always let through.
 */
export function askBeforeLeaving(isAtStake: () => boolean, question: () => Parameters<typeof confirm>[0]): void {
  const stop = useRouter().beforeEach(async (to) => to.name === 'login' || !isAtStake() || (await confirm(question())));
  function onUnload(event: BeforeUnloadEvent): void {
    if (isAtStake()) event.preventDefault();
  }
  addEventListener('beforeunload', onUnload);
  onUnmounted(() => {
    stop();
    removeEventListener('beforeunload', onUnload);
  });
}

/**
 * Asks as above where what was typed into a form is not saved.
 * @param fields as JSON can hold them; null: there is no form now
 * @returns to be called whenever the fields are as they are kept
 */
export function askBeforeDropping(fields: () => object | null): () => void {
  const { t } = i18n.global;
  const told = (): string => JSON.stringify(fields());
  /** Empty: not known yet. */
  let kept = '';
  askBeforeLeaving(
    () => kept !== '' && fields() !== null && told() !== kept,
    () => ({
      title: t('common.unsaved'),
      message: t('common.unsavedText'),
      ok: t('common.leaveUnsaved'),
      keep: t('common.stay'),
    }),
  );
  return () => {
    kept = told();
  };
}
