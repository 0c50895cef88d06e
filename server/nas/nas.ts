export type NoticeLevel = 'info' | 'warning' | 'error';

/** What a request to the web server of the NAS showed of the session there. */
export interface NasRequest {
  /** The `Cookie` header as it came. */
  cookies: string;
  /** The header `X-Syno-Token`; empty where there is none. */
  csrfToken: string;
  /** Of the browser, as the web server of the NAS tells it. */
  address: string;
  /** The `Host` header. */
  host: string;
}

/** A shared folder that backups could lie in. */
export interface NasShare {
  name: string;
  path: string;
}

/** Facts of a folder, found out by trying. Null: could not be found out. */
export interface FolderFacts {
  path: string;
  exists: boolean;
  /** A file was written, synced and removed there. */
  isWritable: boolean;
  /** There was no room for that file: the volume is full, or a quota used up. */
  isFull: boolean;
  /** `btrfs`, `ext`, `zfs`, `xfs`, `ecryptfs`, `memory`, `network`, `other`; null: it does not exist. */
  fileSystem: string | null;
  /** What the volume and `quotaBytes` leave. A quota that cannot be read may leave less. */
  freeBytes: number | null;
  totalBytes: number | null;
  /** What the file system lets the shared folder hold; null: as much as there is, or it cannot be read. */
  quotaBytes: number | null;
  quotaUsedBytes: number | null;
  /** Whether a file can share blocks with another one. */
  hasReflink: boolean | null;
  /** Whether the file system keeps checksums of data. */
  hasChecksums: boolean | null;
  isEncrypted: boolean | null;
  /** It does not exist since the NAS has not been given its key. */
  isLocked: boolean;
}

/** The system that Dozo is installed on. */
export interface Nas {
  /** For the log and to be shown: nobody decides by it. */
  readonly name: string;
  /** Whether people can be signed in by its own session. */
  readonly hasSignIn: boolean;
  /** Whether its web server says who asks, in the place of whatever address the browser claims. */
  readonly vouchesForAddress: boolean;
  /** A folder as they are called on such a system: an example, which need not be there. */
  readonly exampleFolder: string;
  /**
   * Tells whoever looks after the NAS, in the way that its system has: notification center, event log, mail.
   * Never rejects.
   *
   * @param text one line, complete by itself, without secrets
   * @returns whether the system took it
   */
  notify(level: NoticeLevel, text: string): Promise<boolean>;
  /**
   * The name of the administrator of the NAS that the request's session belongs to; null: of nobody, or of somebody
   * who is no administrator. The password and second factor were the NAS's business.
   * @throws NAS_UNREACHABLE
   */
  identify(request: NasRequest): Promise<string | null>;
  /** Shared folders that Dozo may reach. */
  listShares(): Promise<NasShare[]>;
  /** Whether a firewall of the NAS may keep other machines from Dozo's port; null: not known. */
  hasFirewall(): Promise<boolean | null>;
}
