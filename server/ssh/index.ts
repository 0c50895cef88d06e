export type * from './ssh.ts';
export { connectSsh, isNativeCrypto } from './connect-ssh.ts';
export { quote, raw, shell, type ShellValue } from './quote.ts';
