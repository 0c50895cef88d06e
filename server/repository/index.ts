export { createRepository, openRepository } from './chunk-repository.ts';
export type * from './repository.ts';
