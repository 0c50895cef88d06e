import { existsSync } from 'node:fs';
import { access, constants, readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors/index.ts';
import type { Logger } from '../runtime/index.ts';
import type { Nas, NasRequest, NasShare, NoticeLevel } from './nas.ts';
import { cookieValues, runProgram, tell, toLine } from './program.ts';

const APPLICATION = 'SYNO.SDS.Dozo.Application';
const ADMINISTRATORS = 'administrators';
/** Names of local accounts. Those of a domain (`DOMAIN\name`) are not let in: who administers there is not known. */
const USER = /^[\p{L}\p{N}][\p{L}\p{N}._-]{0,63}$/u;
const SESSION_COOKIE = /^[A-Za-z0-9._~%+/=-]{8,512}$/;
const TOKEN = /^[A-Za-z0-9._~-]{1,128}$/;
const COOKIES_MAX = 8;

/** @param root of the file system; another one in tests */
export function createDsm(logger: Logger, root: string): Nas {
  return {
    name: 'DSM',
    hasSignIn: true,
    // By our own rule for it: spk/nginx/dozo.conf.
    vouchesForAddress: true,
    exampleFolder: '/volume1/Dozo',
    notify: (level, text) => tell('DSM', logger, noticeWays(root, level, toLine(text))),
    identify: (request) => identify(root, request),
    listShares: () => listShares(root),
    // Its rules can be read by root only.
    hasFirewall: async () => null,
  };
}

/**
 * First the system's notification, which goes on to mail and phone by the rules of the control panel; its words are in
 * spk/desktop/texts/<language>/mails. A package without the right to it leaves a note on the desktop of every
 * administrator: since DSM 7 its words must be keys of the package's own texts, which take the sentence as an argument.
 */
function noticeWays(root: string, level: NoticeLevel, text: string): string[][] {
  const system = join(root, 'usr/syno/bin/synonotify');
  const tag = { info: 'DozoInfo', warning: 'DozoWarning', error: 'DozoError' }[level];
  const values = JSON.stringify({ '%TEXT%': text, DESKTOP_NOTIFY_CLASSNAME: APPLICATION });
  const note = [join(root, 'usr/syno/bin/synodsmnotify'), '-c', APPLICATION, `@${ADMINISTRATORS}`];
  return [
    ...(existsSync(system) ? [[system, tag, values]] : []),
    [...note, `Dozo:notify:${level}`, 'Dozo:notify:text', text],
  ];
}

/** By DSM's own authenticate.cgi, which a CGI would run as: it prints the name of who is signed in. */
async function identify(root: string, request: NasRequest): Promise<string | null> {
  const folder = join(root, 'usr/syno/synoman/webman');
  const program = ['modules/authenticate.cgi', 'authenticate.cgi']
    .map((name) => join(folder, name))
    .find((name) => existsSync(name));
  if (program === undefined) {
    throw new AppError('NAS_UNREACHABLE', 'DSM cannot be asked who is signed in: authenticate.cgi is missing.', {
      hint: 'Log in with an account of Dozo.',
    });
  }
  if (request.csrfToken !== '' && !TOKEN.test(request.csrfToken)) return null;
  // Of several cookies of one name the newest comes last, and DSM itself looks at one only.
  const ids = cookieValues(request.cookies, 'id').filter((id) => SESSION_COOKIE.test(id));
  for (const id of ids.slice(-COOKIES_MAX).reverse()) {
    const { status, output } = await runProgram(program, [], {
      PATH: '/bin:/usr/bin',
      GATEWAY_INTERFACE: 'CGI/1.1',
      REQUEST_METHOD: 'GET',
      QUERY_STRING: '',
      HTTP_COOKIE: `id=${id}`,
      HTTP_HOST: request.host,
      HTTP_X_SYNO_TOKEN: request.csrfToken,
      REMOTE_ADDR: request.address,
      SERVER_ADDR: '127.0.0.1',
      SERVER_PORT: '5001',
    });
    if (status === null) {
      throw new AppError('NAS_UNREACHABLE', 'DSM did not say in time who is signed in.', {
        hint: 'Try again, or log in with an account of Dozo.',
      });
    }
    const user = output.trim();
    if (status === 0 && USER.test(user)) return (await isAdministrator(root, user)) ? user : null;
  }
  return null;
}

async function isAdministrator(root: string, user: string): Promise<boolean> {
  const program = ['usr/bin/id', 'bin/id'].map((name) => join(root, name)).find((name) => existsSync(name));
  if (program === undefined) return false;
  const { status, output } = await runProgram(program, ['-nG', user]);
  return status === 0 && output.trim().split(/\s+/).includes(ADMINISTRATORS);
}

/** Its own, and those that an administrator has given the package's user the right to. */
async function listShares(root: string): Promise<NasShare[]> {
  const shares = new Map<string, string>();
  const own = join(root, 'var/packages/Dozo/shares');
  for (const name of await readdir(own).catch(() => [])) {
    const path = await realpath(join(own, name)).catch(() => null);
    if (path !== null) shares.set(path, name);
  }
  for (const volume of await readdir(root).catch(() => [])) {
    if (!/^volume(USB)?\d+$/.test(volume)) continue;
    for (const name of await readdir(join(root, volume)).catch(() => [])) {
      // Those of the system: @appstore, @eaDir, #recycle, ...
      if (/^[@#.]/.test(name)) continue;
      const path = join(root, volume, name);
      const isOurs = await access(path, constants.R_OK | constants.W_OK | constants.X_OK).then(
        () => true,
        () => false,
      );
      if (isOurs) shares.set(path, name);
    }
  }
  return [...shares].map(([path, name]) => ({ name, path })).sort((a, b) => (a.path < b.path ? -1 : 1));
}
