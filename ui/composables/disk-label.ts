import { i18n } from '../i18n/index.ts';

/** A disk's name in the reader's language where it is still the one that vSphere gives, `Hard disk 1`. */
export function diskLabel(label: string): string {
  const number = /^Hard disk (\d+)$/.exec(label)?.[1];
  return number === undefined ? label : i18n.global.t('disk.numbered', { n: number });
}
