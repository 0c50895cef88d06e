import type { Readable, Writable } from 'node:stream';

/**
 * One SSH connection to a host, as many channels as `limits` allows (more wait in line). Answers
 * keyboard-interactive with the password, or signs with the key; never offers plain `password`; one
 * try, since a second wrong password may lock the account. Needs neither forwarding nor SFTP.
 *
 * Errors: HOST_NAME_UNKNOWN, HOST_UNREACHABLE, HOST_SSH_OFF (port refused), HOST_SSH_DROPPED (closed
 * before or during the handshake and the login), HOST_LOGIN_REFUSED, HOST_KEY_CHANGED, HOST_CONNECTION_LOST,
 * HOST_STALLED (nothing heard for `stallTimeoutMs`).
 */
export interface SshConnection {
  /** `SHA256:…` of the key that the host showed. */
  readonly hostKey: string;
  /** Address of this machine on the way to the host: where the host finds us. */
  readonly localAddress: string;
  /** Bytes that crossed the wire so far, both ways, as the socket counted them. */
  wireBytes(): number;
  /**
   * Runs a command line to its end. `command` is built with `shell` from `quote.ts` only. A status
   * other than 0 is an answer, not an error; the caller decides. An abort or `timeoutMs` ends the
   * command on the host as well; the connection stays usable.
   * @param options.stdin sent and closed
   * @throws CANCELLED, HOST_STALLED (`timeoutMs`), HOST_ANSWER_UNREADABLE (`outputBytesMax`),
   *   HOST_COMMAND_FAILED (refused, or ended without a status)
   */
  exec(command: ShellCommand, options?: ExecOptions): Promise<ExecResult>;
  /** The same with streams, for disks. `exit` settles after the output was read to its end. */
  open(command: ShellCommand, options?: { signal?: AbortSignal }): Promise<SshChannel>;
  close(): Promise<void>;
}

/** A command line in which every foreign value was quoted. Made by `shell` alone. */
export type ShellCommand = string & { readonly __brand: 'ShellCommand' };

export interface ExecOptions {
  stdin?: string | Buffer;
  /** Longer output is an error: HOST_ANSWER_UNREADABLE. 16 MiB unless told. */
  outputBytesMax?: number;
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface ExecResult {
  /** Exit status; null when the command was ended by a signal. */
  code: number | null;
  stdout: Buffer;
  stderr: string;
}

export interface SshChannel {
  /** Ends only after the command told its status; destroyed early, it ends the command. */
  stdout: Readable;
  stdin: Writable;
  exit: Promise<{ code: number | null; stderr: string }>;
  /** Ends the channel at once and the command on the host; the streams and `exit` fail with CANCELLED. */
  abort(): void;
}

export interface SshOptions {
  host: string;
  port: number;
  user: string;
  password?: string;
  /**
   * The host has just taken this password, here or over HTTPS: a connection that ends while the answer to it is
   * awaited was cut then (HOST_SSH_DROPPED, which may be tried again), not refused (HOST_LOGIN_REFUSED).
   */
  isPasswordProven?: boolean;
  privateKey?: string;
  /** Pinned key; null accepts the first one, which the caller then pins. */
  hostKey: string | null;
  channelsMax: number;
  connectTimeoutMs?: number;
  stallTimeoutMs?: number;
  /** Ends the attempt to connect; the connection it gave lives on. */
  signal?: AbortSignal;
}
