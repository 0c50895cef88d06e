/** Characters; a shorter one the server refuses. */
const PASSPHRASE_MIN = 12;

/** Whether it is long enough and was typed twice alike. */
export function isPassphraseReady(passphrase: string, again: string): boolean {
  return passphrase.length >= PASSPHRASE_MIN && again === passphrase;
}
