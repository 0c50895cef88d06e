import type { z } from 'zod';
import {
  backupResultSchema,
  checkResultSchema,
  copyResultSchema,
  maintenanceResultSchema,
  restoreResultSchema,
  type RunKind,
} from '../contract/api/run.schema.ts';
import { ERROR_CODES, type ErrorBody } from '../contract/error-codes.ts';
import { RUN_STATE_ORDER, type RunState } from '../contract/run.ts';
import { AppError } from '../errors/index.ts';
import type { TaskOutcome } from '../queue/index.ts';

/** What an outcome means for the part that it is of. Pure. */
export interface PartVerdict {
  state: RunState;
  error: ErrorBody | null;
  /** As the worker gave it; null when it gave none. */
  result: unknown;
  /** True: proven that nothing of ours is left on the host. */
  isHoldReleased: boolean;
}

export function judgeOutcome(kind: RunKind, outcome: TaskOutcome): PartVerdict {
  if (!outcome.ok) {
    const error = outcome.error === null ? unreadable() : narrowError(outcome.error);
    return {
      state: error.code === 'CANCELLED' ? 'cancelled' : 'failed',
      error: error.code === 'CANCELLED' ? null : error,
      result: null,
      isHoldReleased: false,
    };
  }
  const parsed = RESULT_SCHEMAS[kind].safeParse(outcome.value);
  if (!parsed.success) return { state: 'failed', error: unreadable(), result: null, isHoldReleased: false };
  const result = parsed.data;
  if ('damages' in result) {
    const isSound = result.damages.length === 0;
    return {
      state: isSound ? 'success' : 'failed',
      error: isSound ? null : damaged(result),
      result,
      isHoldReleased: true,
    };
  }
  return {
    state: result.state,
    error: result.error === null ? null : narrowError(result.error),
    result,
    isHoldReleased: result.holdReleased,
  };
}

const RESULT_SCHEMAS = {
  backup: backupResultSchema,
  restore: restoreResultSchema,
  export: restoreResultSchema,
  check: checkResultSchema,
  maintenance: maintenanceResultSchema,
  copy: copyResultSchema,
} as const;

/** The worst part decides; waiting and running parts must not be among them. */
export function worstState(states: readonly RunState[]): RunState {
  let worst: RunState = 'success';
  for (const state of states) {
    if (RUN_STATE_ORDER.indexOf(state) > RUN_STATE_ORDER.indexOf(worst)) worst = state;
  }
  return worst;
}

function narrowError(error: { code: string; message: string; hint?: string | undefined; details: unknown }): ErrorBody {
  const code = error.code in ERROR_CODES ? (error.code as ErrorBody['code']) : 'INTERNAL';
  const details = error.details as ErrorBody['details'];
  return error.hint === undefined
    ? { code, message: error.message, details }
    : { code, message: error.message, hint: error.hint, details };
}

function damaged(result: Pick<z.infer<typeof checkResultSchema>, 'damages'>): ErrorBody {
  const first = result.damages[0]?.text ?? '';
  return new AppError('REPOSITORY_PACK_DAMAGED', `${result.damages.length} damages were found. The first: ${first}`, {
    hint: 'Look at the volume and its disks. The result of this run says which versions are concerned.',
    details: { damages: result.damages.length },
  }).toBody();
}

function unreadable(): ErrorBody {
  return new AppError('INTERNAL', 'The worker gave a result of an unknown form.', {
    hint: 'Server and workers must have the same version.',
  }).toBody();
}
