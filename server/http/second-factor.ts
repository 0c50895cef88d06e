import { createHash, randomBytes } from 'node:crypto';
import { Secret, TOTP } from 'otpauth';
import type { Catalogue, UserRecord } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import type { Sealer } from '../queue/index.ts';
import type { Clock } from '../runtime/index.ts';

const PURPOSE = 'secret of one-time codes';
const SECRET_BYTES = 20;
const PERIOD_MS = 30_000;
/** Clocks of phones are off by a few seconds. */
const WINDOW_STEPS = 1;
const RECOVERY_CODES = 10;
const RECOVERY_BYTES = 10;

/**
 * One-time codes by time (RFC 6238: SHA-1, six digits, 30 s, as every authenticator has them), and codes on paper
 * for the day on which the phone is gone.
 */
export class SecondFactor {
  readonly #catalogue: Catalogue;
  readonly #sealer: Sealer;
  readonly #clock: Clock;

  constructor(parts: { catalogue: Catalogue; sealer: Sealer; clock: Clock }) {
    this.#catalogue = parts.catalogue;
    this.#sealer = parts.sealer;
    this.#clock = parts.clock;
  }

  /** Makes a secret that holds once it was confirmed; one that holds already goes on until then. */
  async begin(user: UserRecord): Promise<{ secret: string; uri: string }> {
    const secret = new Secret({ buffer: new Uint8Array(randomBytes(SECRET_BYTES)).buffer });
    await this.#catalogue.users.saveTotp(user.name, {
      totpSecret: user.totpSecret,
      totpPending: this.#sealer.seal(PURPOSE, secret.base32),
    });
    return { secret: secret.base32, uri: toTotp(secret.base32, user.name).toString() };
  }

  /** @returns the recovery codes, to be shown once @throws CONFLICT, LOGIN_CODE_REFUSED */
  async confirm(user: UserRecord, code: string): Promise<string[]> {
    if (user.totpPending === null) {
      throw new AppError('CONFLICT', 'There is no new secret to confirm.', { hint: 'Begin again.' });
    }
    const step = this.#stepOf(user.totpPending, user.name, code);
    if (step === null) throw codeRefused();
    const codes = Array.from({ length: RECOVERY_CODES }, makeRecoveryCode);
    const { totpPending } = user;
    await this.#catalogue.transaction(async (tables) => {
      await tables.users.saveTotp(user.name, { totpSecret: totpPending, totpPending: null });
      await tables.users.takeTotpStep(user.name, step);
      await tables.users.saveRecoveryCodes(user.name, codes.map(hashRecoveryCode));
    });
    return codes;
  }

  async end(userName: string): Promise<void> {
    await this.#catalogue.transaction(async (tables) => {
      await tables.users.saveTotp(userName, { totpSecret: null, totpPending: null });
      await tables.users.saveRecoveryCodes(userName, []);
    });
  }

  /** Uses a code up: of the authenticator, or from paper. @throws LOGIN_CODE_REFUSED */
  async take(user: UserRecord, code: string): Promise<void> {
    if (user.totpSecret === null) return;
    const typed = code.replaceAll(/[\s-]/g, '').toLowerCase();
    if (/^\d{6}$/.test(typed)) {
      const step = this.#stepOf(user.totpSecret, user.name, typed);
      if (step !== null && (await this.#catalogue.users.takeTotpStep(user.name, step))) return;
    } else if (await this.#catalogue.users.takeRecoveryCode(user.name, hashRecoveryCode(typed))) return;
    throw codeRefused();
  }

  /** The time step that a code belongs to; null when to none that is near. */
  #stepOf(sealed: string, label: string, code: string): number | null {
    const totp = toTotp(String(this.#sealer.open(PURPOSE, sealed)), label);
    const timestamp = this.#clock.nowMs();
    const delta = totp.validate({ token: code, timestamp, window: WINDOW_STEPS });
    return delta === null ? null : Math.floor(timestamp / PERIOD_MS) + delta;
  }
}

function toTotp(base32: string, label: string): TOTP {
  return new TOTP({ issuer: 'Dozo', label, secret: Secret.fromBase32(base32), period: PERIOD_MS / 1000 });
}

function codeRefused(): AppError {
  return new AppError('LOGIN_CODE_REFUSED', 'The one-time code is wrong, or was used before.', {
    hint: 'Wait for the next code, and check the clocks of phone and NAS. A recovery code does as well.',
  });
}

/** 80 random bits as `xxxx-xxxx-xxxx-xxxx`, in letters and digits that nobody confuses. */
function makeRecoveryCode(): string {
  const text = new Secret({ buffer: new Uint8Array(randomBytes(RECOVERY_BYTES)).buffer }).base32.toLowerCase();
  return text.replaceAll(/(.{4})(?!$)/g, '$1-');
}

/** Random and long: a plain hash keeps them. */
function hashRecoveryCode(code: string): string {
  return createHash('sha256').update(code.replaceAll('-', '')).digest('hex');
}
