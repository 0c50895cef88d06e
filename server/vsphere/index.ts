export type * from './vsphere.ts';
export { connectVsphere, type VsphereOptions } from './connect-vsphere.ts';
