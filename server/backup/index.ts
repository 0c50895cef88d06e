export { BACKUP_ARROWS, type BackupArrow } from './disk-run.ts';
export { runBackup, type BackupDeps, type BackupHooks, type BackupTask } from './run-backup.ts';
export { DEFAULT_VERIFY_SAMPLE } from './sample-verification.ts';
export { ProgressMeter } from './transfer-meter.ts';
