export { detectNas } from './detect-nas.ts';
export { inspectFolder, measureSpace } from './inspect-folder.ts';
export type { FolderFacts, Nas } from './nas.ts';
