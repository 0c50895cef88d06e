import type { ErrorBody } from '../api/types.ts';
import { i18n } from '../i18n/index.ts';

/** What the server's schema says of one field; undefined when nothing. */
export function fieldError(error: ErrorBody | null, field: string): string | undefined {
  if (error?.code !== 'INPUT_INVALID' || !Object.hasOwn(error.details, field)) return undefined;
  return i18n.global.t('error.field', { why: String(error.details[field]) });
}
