import { createHash, randomBytes } from 'node:crypto';
import type { CookieOptions, Request, Response } from 'express';
import { AppError } from '../errors/index.ts';

/** The prefix makes browsers insist on Secure, on the whole path and on no domain. */
export const SESSION_COOKIE = '__Host-dozo';
/**
 * For a desktop of the NAS that was opened without TLS: browsers take no Secure cookie there. Given for a session
 * of the NAS only, whose own cookie travels just as openly; never for a password.
 */
const PLAIN_COOKIE = 'dozo-window';
/** Present on every changing request that is let in by cookie: another site cannot set it. */
export const REQUEST_HEADER = 'x-dozo-request';
const TOKEN_PREFIX = 'dozo_';
const TOKEN_ANYWHERE = /dozo_[A-Za-z0-9_-]{43}/;
/** Names under which programs put secrets into addresses. */
const SECRET_PARAMETERS = new Set(['token', 'access_token', 'api_key', 'apikey', 'authorization', 'auth', 'password']);

export function newSecret(kind: 'cookie' | 'token'): string {
  return (kind === 'token' ? TOKEN_PREFIX : '') + randomBytes(32).toString('base64url');
}

/** The secrets are random and long: a plain hash keeps them, no slow one is needed. */
export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** What a request shows of us, and as what; a token in the header goes before cookies. */
export function readSecret(request: Request): { kind: 'cookie' | 'token'; secret: string } | null {
  const bearer = /^Bearer ([A-Za-z0-9_-]{20,200})$/.exec(request.headers.authorization ?? '')?.[1];
  if (bearer !== undefined) return { kind: 'token', secret: bearer };
  const cookie = readCookie(request.headers.cookie, SESSION_COOKIE) ?? readCookie(request.headers.cookie, PLAIN_COOKIE);
  return cookie === undefined ? null : { kind: 'cookie', secret: cookie };
}

/** @param allowPlain whether a page without TLS may keep the session too */
export function setSessionCookie(
  request: Request,
  response: Response,
  options: { secret: string; allowPlain: boolean },
): void {
  // Not every web server in front says how it was asked; the page's own address does.
  const isSecure = request.secure || request.headers.origin?.startsWith('https://') === true;
  const name = isSecure || !options.allowPlain ? SESSION_COOKIE : PLAIN_COOKIE;
  response.cookie(name, options.secret, cookieOptions(name));
}

export function clearSessionCookies(response: Response): void {
  for (const name of [SESSION_COOKIE, PLAIN_COOKIE]) response.clearCookie(name, cookieOptions(name));
}

function cookieOptions(name: string): CookieOptions {
  return { httpOnly: true, secure: name === SESSION_COOKIE, sameSite: 'strict', path: '/' };
}

function readCookie(header: string | undefined, name: string): string | undefined {
  for (const part of (header ?? '').split(';')) {
    const [key, value] = part.trim().split('=', 2);
    if (key === name && value !== undefined && /^[A-Za-z0-9_-]{20,200}$/.test(value)) return value;
  }
  return undefined;
}

/** Addresses end up in logs, histories and referrers. @throws TOKEN_IN_URL */
export function assertNoSecretInUrl(request: Request): void {
  const names = Object.keys(request.query).map((name) => name.toLowerCase());
  if (!names.some((name) => SECRET_PARAMETERS.has(name)) && !TOKEN_ANYWHERE.test(request.originalUrl)) return;
  throw new AppError('TOKEN_IN_URL', 'The address of the request holds a token or a password.', {
    hint: 'Send it in the header Authorization: Bearer …, and revoke this one: addresses are kept in logs.',
  });
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
