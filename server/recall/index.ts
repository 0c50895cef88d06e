export type { DiskRecall } from './disk-recall.ts';
export { RecallFolder } from './recall-folder.ts';
export type { TagSubject } from './tag-file.ts';
