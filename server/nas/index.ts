export { detectNas } from './detect-nas.ts';
export type { Nas } from './nas.ts';
