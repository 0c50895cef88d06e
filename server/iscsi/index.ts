export type { BackingDisk } from './backing-disk.ts';
export { openFileDisk } from './file-disk.ts';
export { createIngestDisk, type IngestDisk } from './ingest-disk.ts';
export { openOverlayDisk, type OverlayOptions } from './overlay-disk.ts';
export { serveReader } from './reader-disk.ts';
export {
  startIscsiServer,
  type IscsiLimits,
  type IscsiServer,
  type IscsiServerOptions,
  type ServedTarget,
  type TargetSpecification,
} from './iscsi-server.ts';
export type { TargetAccess } from './login.ts';
export type { SessionEnd } from './scsi-target.ts';
