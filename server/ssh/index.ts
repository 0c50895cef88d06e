export type * from './ssh.ts';
