import { Dialog } from 'quasar';
import { i18n } from '../i18n/index.ts';

/** Asks before something goes; with `typed`, for what nobody can bring back, the name must be typed first. */
export function confirm(input: { title: string; message: string; ok: string; typed?: string }): Promise<boolean> {
  const { t } = i18n.global;
  const { title, message, ok, typed } = input;
  return new Promise((resolve) => {
    Dialog.create({
      title,
      message: typed === undefined ? message : `${message} ${t('common.typeToConfirm', { name: typed })}`,
      // Names come from strangers: never as markup.
      html: false,
      ok: { label: ok, color: 'negative', noCaps: true },
      cancel: { label: t('common.cancel'), flat: true, noCaps: true, color: 'primary' },
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
