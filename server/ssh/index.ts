export type * from './ssh.ts';
export { connectSsh, isNativeCrypto } from './connect-ssh.ts';
export { giveBackChunk } from './packet-memory.ts';
export { shell } from './quote.ts';
