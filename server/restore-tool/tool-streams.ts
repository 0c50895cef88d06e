/** Where a run of the tool reads and writes, and how it is ended. */
export interface ToolStreams {
  input: NodeJS.ReadableStream;
  output: NodeJS.WritableStream;
  errors: NodeJS.WritableStream;
  /** Where the tool itself lies: the repository, as a rule. */
  folder: string;
  signal: AbortSignal;
}
