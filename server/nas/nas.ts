export type NoticeLevel = 'info' | 'warning' | 'error';

/** The system that Dozo is installed on. */
export interface Nas {
  /** For the log only: nobody decides by it. */
  readonly name: string;
  /**
   * Tells whoever looks after the NAS, in the way that its system has: notification center, event log, mail.
   * Never rejects.
   *
   * @param text one line, complete by itself, without secrets
   * @returns whether the system took it
   */
  notify(level: NoticeLevel, text: string): Promise<boolean>;
}
