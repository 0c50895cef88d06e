import type { ErrorBody } from '../api/types.ts';
import { i18n } from '../i18n/index.ts';
import { reasonOf } from './field-reason.ts';
import { formatNumber } from './format.ts';

/** What the server's schema says of one field; undefined when nothing. */
export function fieldError(error: ErrorBody | null, field: string): string | undefined {
  if (error?.code !== 'INPUT_INVALID' || !Object.hasOwn(error.details, field)) return undefined;
  const why = String(error.details[field]);
  const reason = reasonOf(why);
  if (reason === null) return i18n.global.t('error.field', { why });
  return i18n.global.t(`error.why.${reason.key}`, { n: formatNumber(reason.bound ?? 0, 1) });
}

/** The same as a field of a form takes it, by `v-bind`. */
export function fieldProblem(
  error: ErrorBody | null,
  field: string,
): { error: boolean; errorMessage: string | undefined } {
  const errorMessage = fieldError(error, field);
  return { error: errorMessage !== undefined, errorMessage };
}
