export { openGuestArchive } from './guest-archive.ts';
export { KeptContents } from './kept-contents.ts';
export { listGuestFolder, listGuestVolumes, openGuestFile } from './guest-files.ts';
export { wasQuiet } from './point-machine.ts';
export { runExport, type ExportTask } from './run-export.ts';
export { RESTORE_ARROWS, runRestore, type RestoreHooks, type RestoreTask } from './run-restore.ts';
