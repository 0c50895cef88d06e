export { found } from './context.ts';
export { EventHub, type NumberedEvent } from './event-hub.ts';
export { ADDRESS_PURPOSE } from './host-addresses.ts';
export { addressOf, KEY_TEXT_PURPOSE, MACHINE_KEY_PURPOSE } from './repository-keys.ts';
export { findLastSuccess } from './last-success.ts';
export { Orchestration } from './orchestration.ts';
export { listJobRows, listMachineRows, loadHistory, loadOverview } from './overview.ts';
export { listHostViews, listJobViews, listMachineViews, listRepositoryViews, viewRun, viewRunParts } from './views.ts';
