export { loadCertificate, readCertificate, type ServerCertificate } from './certificate.ts';
export { startHttpServer } from './http-server.ts';
export { createPeople } from './people.ts';
export type { DiskBrowser, DiskDownload, DiskDownloads } from './route.ts';
