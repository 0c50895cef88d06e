import { createHash, randomBytes } from 'node:crypto';
import type { Request, Response } from 'express';
import type { z } from 'zod';
import type { loginSchema, tokenRequestSchema } from '../contract/api/session.schema.ts';
import type { Catalogue, SessionRecord } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { randomHex, type Clock } from '../runtime/index.ts';
import { LoginLimiter } from './login-limiter.ts';
import { hashPassword, verifyPassword } from './password.ts';

/** The prefix makes browsers insist on Secure, on the whole path and on no domain. */
export const SESSION_COOKIE = '__Host-dozo';
/** Present on every changing request that is let in by cookie: another site cannot set it. */
export const REQUEST_HEADER = 'x-dozo-request';
const TOKEN_PREFIX = 'dozo_';
const SESSION_IDLE_MS = 12 * 3600_000;
const TOUCH_EVERY_MS = 5 * 60_000;
const DAY_MS = 86_400_000;

export interface AuthenticationOptions {
  catalogue: Catalogue;
  clock: Clock;
}

/** Local accounts, sessions of browsers and tokens of programs. Only hashes of secrets are stored. */
export class Authentication {
  readonly #catalogue: Catalogue;
  readonly #clock: Clock;
  readonly #limiter: LoginLimiter;

  constructor(options: AuthenticationOptions) {
    this.#catalogue = options.catalogue;
    this.#clock = options.clock;
    this.#limiter = new LoginLimiter(options.clock);
  }

  /**
   * Makes the first account if there is none.
   * @param password null: a random one
   * @returns the random password, to be shown once; null when nothing is to be shown
   */
  async ensureAdministrator(password: string | null): Promise<string | null> {
    if ((await this.#catalogue.users.count()) > 0) return null;
    const chosen = password ?? randomBytes(15).toString('base64url');
    await this.#catalogue.users.add({
      name: 'admin',
      role: 'administrator',
      passwordHash: await hashPassword(chosen),
      createdAtMs: this.#clock.nowMs(),
    });
    return password === null ? chosen : null;
  }

  /** @throws LOGIN_REFUSED, LOGIN_RATE_LIMITED */
  async login(input: z.infer<typeof loginSchema>, request: Request, response: Response): Promise<SessionRecord> {
    await this.#verify(input, request);
    const secret = randomBytes(32).toString('base64url');
    const session = await this.#add({
      secret,
      userName: input.user,
      kind: 'cookie',
      name: 'browser',
      expiresAtMs: this.#clock.nowMs() + SESSION_IDLE_MS,
    });
    response.cookie(SESSION_COOKIE, secret, { httpOnly: true, secure: true, sameSite: 'strict', path: '/' });
    await this.#catalogue.sessions.removeExpired(this.#clock.nowMs());
    return session;
  }

  async logout(session: SessionRecord, response: Response): Promise<void> {
    await this.#catalogue.sessions.remove(session.id, session.userName);
    response.clearCookie(SESSION_COOKIE, { httpOnly: true, secure: true, sameSite: 'strict', path: '/' });
  }

  /** @throws LOGIN_REFUSED, LOGIN_RATE_LIMITED */
  async makeToken(
    input: z.infer<typeof tokenRequestSchema>,
    request: Request,
  ): Promise<{ token: string; session: SessionRecord }> {
    await this.#verify(input, request);
    const secret = TOKEN_PREFIX + randomBytes(32).toString('base64url');
    const { expiresInDays } = input;
    const session = await this.#add({
      secret,
      userName: input.user,
      kind: 'token',
      name: input.name,
      scope: input.scope,
      expiresAtMs: expiresInDays === null ? null : this.#clock.nowMs() + expiresInDays * DAY_MS,
    });
    return { token: secret, session };
  }

  /** Ends every other session and token of the account. @throws LOGIN_REFUSED, LOGIN_RATE_LIMITED */
  async changePassword(
    session: SessionRecord,
    passwords: { oldPassword: string; newPassword: string },
    request: Request,
  ): Promise<void> {
    await this.#verify({ user: session.userName, password: passwords.oldPassword }, request);
    const hash = await hashPassword(passwords.newPassword);
    await this.#catalogue.transaction(async (tables) => {
      await tables.users.savePassword(session.userName, hash, this.#clock.nowMs());
      await tables.sessions.removeOthers(session.userName, session.id);
    });
  }

  /**
   * Who asks. Null: nobody that we know.
   * @throws FORBIDDEN when another site may have sent the request
   */
  async identify(request: Request): Promise<SessionRecord | null> {
    const bearer = /^Bearer ([A-Za-z0-9_-]{20,200})$/.exec(request.headers.authorization ?? '')?.[1];
    const secret = bearer ?? readCookie(request.headers.cookie, SESSION_COOKIE);
    if (secret === undefined) return null;
    const nowMs = this.#clock.nowMs();
    const session = await this.#catalogue.sessions.find(hashSecret(secret), nowMs);
    if (session === null || (session.kind === 'token') !== (bearer !== undefined)) return null;
    if (session.kind === 'cookie') assertSameSite(request);
    if (nowMs - (session.usedAtMs ?? 0) > TOUCH_EVERY_MS) {
      const expiresAtMs = session.kind === 'cookie' ? nowMs + SESSION_IDLE_MS : session.expiresAtMs;
      await this.#catalogue.sessions.touch(session.id, nowMs, expiresAtMs);
    }
    return session;
  }

  /** For long answers: whether the session still holds. */
  async isAlive(session: SessionRecord): Promise<boolean> {
    return (await this.#catalogue.sessions.find(session.secretHash, this.#clock.nowMs())) !== null;
  }

  async #verify(input: { user: string; password: string }, request: Request): Promise<void> {
    const attempt = this.#limiter.begin(request.ip ?? 'unknown', input.user);
    const user = await this.#catalogue.users.load(input.user);
    if (!(await verifyPassword(input.password, user?.passwordHash ?? null))) {
      throw new AppError('LOGIN_REFUSED', 'The user name or the password is wrong.', {
        hint: 'Check both. The password of "admin" was printed at the first start or given as a setting.',
      });
    }
    attempt.succeeded();
  }

  async #add(input: {
    secret: string;
    userName: string;
    kind: SessionRecord['kind'];
    name: string;
    expiresAtMs: number | null;
    scope?: SessionRecord['scope'];
  }): Promise<SessionRecord> {
    const nowMs = this.#clock.nowMs();
    const session: SessionRecord = {
      id: randomHex(8),
      secretHash: hashSecret(input.secret),
      userName: input.userName,
      kind: input.kind,
      name: input.name,
      createdAtMs: nowMs,
      usedAtMs: nowMs,
      expiresAtMs: input.expiresAtMs,
      scope: input.scope ?? 'full',
    };
    await this.#catalogue.sessions.add(session);
    return session;
  }
}

/** The secrets are random and long: a plain hash keeps them, no slow one is needed. */
function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

function readCookie(header: string | undefined, name: string): string | undefined {
  for (const part of (header ?? '').split(';')) {
    const [key, value] = part.trim().split('=', 2);
    if (key === name && value !== undefined && /^[A-Za-z0-9_-]{20,200}$/.test(value)) return value;
  }
  return undefined;
}

/**
 * Refuses what another site may have sent.
 *
 * Such a page can make a browser send our cookie (less and less, by SameSite), but it can
 * neither set a header of ours nor hide where it comes from.
 * @throws FORBIDDEN
 */
export function assertSameSite(request: Request): void {
  const isChanging = request.method !== 'GET' && request.method !== 'HEAD';
  const site = request.headers['sec-fetch-site'];
  const isForeign = typeof site === 'string' && site !== 'same-origin' && site !== 'none';
  if (isForeign || (isChanging && request.headers[REQUEST_HEADER] === undefined)) {
    throw new AppError('FORBIDDEN', 'The request does not come from the window of Dozo.', {
      hint: `Programs send the header X-Dozo-Request: 1.`,
    });
  }
}
