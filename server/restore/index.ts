export { runExport, type ExportDeps, type ExportHooks, type ExportTask } from './run-export.ts';
export {
  RESTORE_ARROWS,
  runRestore,
  type RestoreArrow,
  type RestoreDeps,
  type RestoreHooks,
  type RestoreTask,
} from './run-restore.ts';
