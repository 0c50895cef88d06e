export { Authentication } from './authentication.ts';
export { loadCertificate, readCertificate, type ServerCertificate } from './certificate.ts';
export { startHttpServer, type HttpServer } from './http-server.ts';
export type { DiskDownload, DiskDownloads } from './route.ts';
