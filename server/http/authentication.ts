import type { Request, Response } from 'express';
import type { z } from 'zod';
import type { Permission, Role } from '../contract/api/permission.schema.ts';
import type { loginSchema, tokenRequestSchema } from '../contract/api/session.schema.ts';
import type { Catalogue, SessionRecord, UserRecord } from '../database/index.ts';
import { AppError, isAppError } from '../errors/index.ts';
import { randomHex, type Clock } from '../runtime/index.ts';
import type { AuditTrail } from './audit-trail.ts';
import { LoginLimiter, type Attempt } from './login-limiter.ts';
import { hashPassword, verifyPassword } from './password.ts';
import { permissionsOf } from './permissions.ts';
import { loadReach, type Reach } from './reach.ts';
import type { SecondFactor } from './second-factor.ts';
import {
  assertSameSite,
  clearSessionCookies,
  hashSecret,
  newSecret,
  readSecret,
  setSessionCookie,
} from './session-secrets.ts';

const SESSION_IDLE_MS = 12 * 3600_000;
const SESSION_MS_MAX = 7 * 86_400_000;
/** Short: the window signs in again by itself as long as the session of the NAS lives. */
const NAS_SESSION_IDLE_MS = 30 * 60_000;
const NAS_SESSION_MS_MAX = 3600_000;
const TOUCH_EVERY_MS = 5 * 60_000;
const DAY_MS = 86_400_000;
const AGENT_CHARACTERS_MAX = 120;

/** Who asks, and what they may do. */
export interface Caller {
  session: SessionRecord;
  user: UserRecord;
  role: Role;
  permissions: readonly Permission[];
  /** How far `browse` and `restore` reach; null: to everything. */
  reach: Reach | null;
}

interface Credentials {
  user: string;
  password: string;
  code?: string | undefined;
}

export interface AuthenticationParts {
  catalogue: Catalogue;
  clock: Clock;
  audit: AuditTrail;
  secondFactor: SecondFactor;
}

/** Logins, sessions of browsers and tokens of programs. Only hashes of secrets are stored. */
export class Authentication {
  readonly #catalogue: Catalogue;
  readonly #clock: Clock;
  readonly #audit: AuditTrail;
  readonly #secondFactor: SecondFactor;
  readonly #limiter: LoginLimiter;

  constructor(parts: AuthenticationParts) {
    this.#catalogue = parts.catalogue;
    this.#clock = parts.clock;
    this.#audit = parts.audit;
    this.#secondFactor = parts.secondFactor;
    this.#limiter = new LoginLimiter(parts.clock);
  }

  /** @throws LOGIN_REFUSED, LOGIN_CODE_REQUIRED, LOGIN_CODE_REFUSED, LOGIN_RATE_LIMITED */
  async login(input: z.infer<typeof loginSchema>, request: Request, response: Response): Promise<Caller> {
    const user = await this.verify(input, request);
    return this.#openBrowserSession(user, request, response);
  }

  /** For an administrator of the NAS whom its own session proves. @throws FORBIDDEN when the account is disabled */
  async loginNasUser(user: UserRecord, request: Request, response: Response): Promise<Caller> {
    if (user.disabled) {
      throw new AppError('FORBIDDEN', `The account ${user.name} is disabled in Dozo.`, {
        hint: 'Another administrator of Dozo can enable it.',
      });
    }
    return this.#openBrowserSession(user, request, response);
  }

  async logout(session: SessionRecord, response: Response): Promise<void> {
    await this.#catalogue.sessions.remove(session.id, session.userName);
    clearSessionCookies(response);
  }

  /** @throws LOGIN_REFUSED, LOGIN_CODE_REQUIRED, LOGIN_CODE_REFUSED, LOGIN_RATE_LIMITED */
  async makeToken(
    input: z.infer<typeof tokenRequestSchema>,
    request: Request,
  ): Promise<{ token: string; session: SessionRecord }> {
    const user = await this.verify(input, request);
    const token = newSecret('token');
    const { expiresInDays } = input;
    const session = await this.#add(request, {
      secret: token,
      userName: user.name,
      kind: 'token',
      name: input.name,
      scope: input.scope,
      expiresAtMs: expiresInDays === null ? null : this.#clock.nowMs() + expiresInDays * DAY_MS,
      endsAtMs: null,
    });
    await this.#audit.record({
      session,
      request,
      action: 'token made',
      target: session.id,
      outcome: 'done',
      details: { name: input.name, scope: input.scope, expiresInDays },
    });
    return { token, session };
  }

  /** Ends every other session and token of the account. @throws as `verify` */
  async changePassword(
    session: SessionRecord,
    input: { oldPassword: string; newPassword: string; code?: string | undefined },
    request: Request,
  ): Promise<void> {
    await this.verify({ user: session.userName, password: input.oldPassword, code: input.code }, request);
    const hash = await hashPassword(input.newPassword);
    await this.#catalogue.transaction(async (tables) => {
      await tables.users.savePassword(session.userName, hash, this.#clock.nowMs());
      await tables.sessions.removeOthers(session.userName, session.id);
    });
  }

  /**
   * Who asks. Null: nobody that we know.
   * @throws FORBIDDEN when another site may have sent the request
   */
  async identify(request: Request): Promise<Caller | null> {
    const shown = readSecret(request);
    if (shown === null) return null;
    const nowMs = this.#clock.nowMs();
    const session = await this.#catalogue.sessions.find(hashSecret(shown.secret), nowMs);
    if (session === null || session.kind !== shown.kind) return null;
    if (session.kind === 'cookie') assertSameSite(request);
    const user = await this.#catalogue.users.load(session.userName);
    if (user === null || user.disabled) return null;
    if (nowMs - (session.usedAtMs ?? 0) > TOUCH_EVERY_MS) {
      const idleMs = user.source === 'nas' ? NAS_SESSION_IDLE_MS : SESSION_IDLE_MS;
      const expiresAtMs = session.kind === 'cookie' ? nowMs + idleMs : session.expiresAtMs;
      await this.#catalogue.sessions.touch(session.id, nowMs, expiresAtMs);
    }
    return this.#toCaller(session, user);
  }

  /** For long answers: whether the session still holds, and reaches as far as it did. */
  async isAlive({ session, user, reach }: Caller): Promise<boolean> {
    if ((await this.#catalogue.sessions.find(session.secretHash, this.#clock.nowMs())) === null) return false;
    return reach === null || (await loadReach(this.#catalogue, user))?.equals(reach) === true;
  }

  /** Slows down guessing of one-time codes. @throws LOGIN_RATE_LIMITED */
  beginCode(request: Request, userName: string): Attempt {
    return this.#limiter.beginCode(request.ip ?? 'unknown', userName);
  }

  /** @throws LOGIN_REFUSED, LOGIN_CODE_REQUIRED, LOGIN_CODE_REFUSED, LOGIN_RATE_LIMITED */
  async verify(input: Credentials, request: Request): Promise<UserRecord> {
    const isAddressSure = request.app.locals['isAddressClaimed'] !== true;
    const attempt = this.#limiter.begin(request.ip ?? 'unknown', input.user, { isAddressSure });
    const user = await this.#catalogue.users.load(input.user);
    const isRight = await verifyPassword(
      input.password,
      user === null || user.disabled || user.passwordHash === '' ? null : user.passwordHash,
    );
    if (!isRight || user === null) {
      // People type passwords into the field of the name: only names that exist are written down.
      await this.#audit.recordRefusal(request, { user: user?.name ?? null, why: 'password' });
      throw new AppError('LOGIN_REFUSED', 'The user name or the password is wrong.', {
        hint: 'Check both. The password of "admin" was printed at the first start or given as a setting.',
      });
    }
    if (user.totpSecret !== null) {
      if (input.code === undefined) {
        attempt.undo();
        throw new AppError('LOGIN_CODE_REQUIRED', 'This account asks for a one-time code as well.', {
          hint: 'Enter the six digits of the authenticator, or a recovery code.',
        });
      }
      const code = this.beginCode(request, user.name);
      try {
        await this.#secondFactor.take(user, input.code);
      } catch (error) {
        if (isAppError(error) && error.code === 'LOGIN_CODE_REFUSED') {
          await this.#audit.recordRefusal(request, { user: user.name, why: 'code' });
        }
        throw error;
      }
      code.succeeded();
    }
    attempt.succeeded();
    return user;
  }

  async #openBrowserSession(user: UserRecord, request: Request, response: Response): Promise<Caller> {
    const nowMs = this.#clock.nowMs();
    const isNas = user.source === 'nas';
    const secret = newSecret('cookie');
    const session = await this.#add(request, {
      secret,
      userName: user.name,
      kind: 'cookie',
      name: toLine(request.headers['user-agent'] ?? 'browser'),
      scope: 'full',
      expiresAtMs: nowMs + (isNas ? NAS_SESSION_IDLE_MS : SESSION_IDLE_MS),
      endsAtMs: nowMs + (isNas ? NAS_SESSION_MS_MAX : SESSION_MS_MAX),
    });
    setSessionCookie(request, response, { secret, allowPlain: isNas });
    await this.#catalogue.sessions.removeExpired(nowMs);
    await this.#audit.record({ session, request, action: 'login', outcome: 'done', details: { source: user.source } });
    return this.#toCaller(session, user);
  }

  async #toCaller(session: SessionRecord, user: UserRecord): Promise<Caller> {
    const permissions = permissionsOf(user.role, session.scope);
    return { session, user, role: user.role, permissions, reach: await loadReach(this.#catalogue, user) };
  }

  async #add(
    request: Request,
    input: Pick<SessionRecord, 'userName' | 'kind' | 'name' | 'scope' | 'expiresAtMs' | 'endsAtMs'> & {
      secret: string;
    },
  ): Promise<SessionRecord> {
    const nowMs = this.#clock.nowMs();
    const { secret, ...rest } = input;
    const session: SessionRecord = {
      ...rest,
      id: randomHex(8),
      secretHash: hashSecret(secret),
      address: request.ip ?? null,
      createdAtMs: nowMs,
      usedAtMs: nowMs,
    };
    await this.#catalogue.sessions.add(session);
    return session;
  }
}

/** @throws FORBIDDEN */
export function assertPermitted({ session, role, permissions }: Caller, permission: Permission): void {
  if (permissions.includes(permission)) return;
  const isScope = session.scope !== 'full' && permissionsOf(role, 'full').includes(permission);
  throw new AppError(
    'FORBIDDEN',
    isScope
      ? `A token of the scope "${session.scope}" may not do this.`
      : `An account of the role "${role}" may not do this.`,
    {
      hint: isScope
        ? 'Make a token with a wider scope.'
        : 'Ask an administrator of Dozo to do it, or for another role.',
      details: { permission },
    },
  );
}

function toLine(text: string): string {
  return text
    .replaceAll(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, AGENT_CHARACTERS_MAX);
}
