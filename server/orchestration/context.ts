import { settingsSchema, type Settings } from '../contract/api/settings.schema.ts';
import type { Catalogue, Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import type { Sealer, TaskQueue } from '../queue/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import type { EventHub } from './event-hub.ts';

/** What every part of this room works with. */
export interface OrchestrationContext {
  catalogue: Catalogue;
  queue: TaskQueue;
  sealer: Sealer;
  events: EventHub;
  clock: Clock;
  logger: Logger;
}

export async function loadSettings(tables: Tables): Promise<Settings> {
  return settingsSchema.parse((await tables.settings.load('settings')) ?? {});
}

/** @throws NOT_FOUND when the record is null */
export function found<T>(record: T | null, what: string, id: string): T {
  if (record !== null) return record;
  throw new AppError('NOT_FOUND', `There is no ${what} ${id}.`, {
    hint: 'It may have been deleted meanwhile; load the list again.',
    details: { what, id },
  });
}
