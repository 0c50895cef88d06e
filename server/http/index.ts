export { Authentication } from './authentication.ts';
export { loadCertificate, readCertificate } from './certificate.ts';
export { startHttpServer } from './http-server.ts';
export type { DiskDownload, DiskDownloads } from './route.ts';
