export type { BackingDisk } from './backing-disk.ts';
export { identityOf } from './device-pages.ts';
export { openFileDisk } from './file-disk.ts';
export { createIngestDisk, type IngestDisk } from './ingest-disk.ts';
export { startIscsiServer, type IscsiLimits, type ServedTarget } from './iscsi-server.ts';
export { openOverlayDisk } from './overlay-disk.ts';
export { serveReader } from './reader-disk.ts';
export type { SessionEnd } from './scsi-target.ts';
export { SharedPortal, type PortalLease } from './shared-portal.ts';
