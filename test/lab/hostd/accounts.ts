import type { LoginAnswer, Switches } from './protocol.ts';

/** Passwords and the lockout, which SSH and SOAP share. */
export class Accounts {
  readonly #passwords: Map<string, string>;
  readonly #failures = new Map<string, { count: number; lockedUntilMs: number }>();
  readonly #switches: () => Switches;

  constructor(passwords: Record<string, string>, switches: () => Switches) {
    this.#passwords = new Map(Object.entries(passwords));
    this.#switches = switches;
  }

  login(user: string, password: string): LoginAnswer {
    if (this.isLocked(user)) return { locked: true };
    const expected = this.#passwords.get(user);
    if (expected === undefined || expected !== password) {
      const { loginFailuresMax, lockoutMs } = this.#switches();
      const failure = this.#failures.get(user) ?? { count: 0, lockedUntilMs: 0 };
      failure.count += 1;
      if (loginFailuresMax > 0 && failure.count >= loginFailuresMax) failure.lockedUntilMs = Date.now() + lockoutMs;
      this.#failures.set(user, failure);
      return { refused: true };
    }
    this.#failures.delete(user);
    return this.#switches().lockdown === 'lockdownDisabled' ? { ok: true } : { noPermission: true };
  }

  isLocked(user: string): boolean {
    const failure = this.#failures.get(user);
    if (failure === undefined || failure.lockedUntilMs === 0) return false;
    if (Date.now() < failure.lockedUntilMs) return true;
    this.#failures.delete(user);
    return false;
  }

  failures(user: string): number {
    return this.#failures.get(user)?.count ?? 0;
  }

  unlock(): void {
    this.#failures.clear();
  }
}
