export type NoticeLevel = 'info' | 'warning' | 'error';

/** The system that Dozo is installed on. */
export interface Nas {
  /** For the log only: nobody decides by it. */
  readonly name: string;
  /**
   * Tells whoever looks after the NAS, in the way that its system has: notification center, event log, mail.
   * Resolves when the system took it or refused; never rejects.
   *
   * @param text one line, complete by itself, without secrets
   */
  notify(level: NoticeLevel, text: string): Promise<void>;
}
