export { createRepository, openRepository } from './chunk-repository.ts';
export { copyPoints, type CopyReport } from './copy-points.ts';
export { drillKey, openKeyring, type Keyring } from './keyring.ts';
export type { KeySecret } from './key-slot.ts';
export { publishRestoreTool } from './restore-tool-file.ts';
export { looksLikeRecoveryKey } from './recovery-key.ts';
export type * from './repository.ts';
