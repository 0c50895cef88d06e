import { Dialog } from 'quasar';
import { i18n } from '../i18n/index.ts';

/**
 * Asks before something goes; with `typed`, for what nobody can bring back, the name must be typed first. Where what is
 * asked for is itself to cancel something, `keep` says what the other button does.
 */
export function confirm(input: {
  title: string;
  message: string;
  ok: string;
  keep?: string;
  typed?: string;
}): Promise<boolean> {
  const { t } = i18n.global;
  const { title, message, ok, keep, typed } = input;
  return new Promise((resolve) => {
    Dialog.create({
      title,
      message:
        typed === undefined
          ? message
          : t('common.twoSentences', { first: message, second: t('common.typeToConfirm', { name: typed }) }),
      // Names come from strangers: never as markup.
      html: false,
      ok: { label: ok, color: 'negative', noCaps: true },
      cancel: { label: keep ?? t('common.cancel'), flat: true, noCaps: true, color: 'primary' },
      focus: 'cancel',
      ...(typed === undefined
        ? {}
        : {
            prompt: {
              model: '',
              type: 'text' as const,
              isValid: (value: string) => value.trim() === typed.trim(),
              label: t('common.name'),
              outlined: true,
              dense: true,
            },
          }),
    })
      .onOk(() => resolve(true))
      .onCancel(() => resolve(false))
      .onDismiss(() => resolve(false));
  });
}
