export type * from './source.ts';
export { connectEsxi, type ConnectEsxiOptions } from './esxi/connect-esxi.ts';
