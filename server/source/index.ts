export type * from './source.ts';
export type { IscsiAccess } from './esxi/context.ts';
export { connectEsxi, type ConnectEsxiOptions } from './esxi/connect-esxi.ts';
