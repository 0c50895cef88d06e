export {
  createRepository,
  openRepository,
  type CreateRepositoryOptions,
  type RepositoryOptions,
} from './chunk-repository.ts';
export type * from './repository.ts';
