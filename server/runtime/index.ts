export { readBoot } from './boot.ts';
export { systemClock, type Clock } from './clock.ts';
export { createLogger, silentLogger, type Logger } from './logger.ts';
export { randomHex } from './random.ts';
export { ownsMemory, releaseMemory, SPARE_BYTES } from './release-memory.ts';
export { siblingModule } from './sibling-module.ts';
export { SpeedMeter } from './speed-meter.ts';
export { GIB, KIB, MIB, SECTOR_BYTES, formatBytes } from './units.ts';
export { workAhead } from './work-ahead.ts';
