export type * from './vsphere.ts';
