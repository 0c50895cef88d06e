/** Fails with the text that vmkfstools prints, status 255. */
export class StorageToolError extends Error {}
