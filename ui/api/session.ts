import { ref, shallowRef } from 'vue';
import { closeCatalogue, openCatalogue } from './catalogue.ts';
import { api, ApiError, renewLoginBy } from './client.ts';
import type { Permission, RunView, SessionView } from './types.ts';

export const session = ref<SessionView | null>(null);

/** Whether the account is allowed to: what it is not is not shown. */
export function may(permission: Permission): boolean {
  return session.value?.permissions.includes(permission) === true;
}

/** Who may restore may take a restore back; other runs are an operator's business. */
export function mayCancel({ kind }: Pick<RunView, 'kind'>): boolean {
  return may(kind === 'restore' ? 'restore' : 'operate');
}

let resuming: Promise<boolean> | null = null;

/** Takes up a session that the browser still has; false when there is none. However many ask at a time, one asks. */
export function resumeSession(): Promise<boolean> {
  resuming ??= askForSession().finally(() => {
    resuming = null;
  });
  return resuming;
}

async function askForSession(): Promise<boolean> {
  if (session.value !== null) return true;
  try {
    session.value = await api.session();
  } catch (error) {
    if (error instanceof ApiError && error.body.code === 'LOGIN_REQUIRED') return false;
    throw error;
  }
  await openCatalogue(session.value);
  return true;
}

/** Who logged out here wants the form, not to be let in again at once. */
let hasLoggedOut = false;

/** Who was signed in and is asked to sign in again, over the page where they are; `answer` says whether they did. */
export const askedAgain = shallowRef<{ user: string; answer(isIn: boolean): void } | null>(null);

renewLoginBy(async () => (await renewByNas()) || (await renewByPerson()));

/** In the window on the desktop of a NAS its session is enough, as long as it lives. */
async function renewByNas(): Promise<boolean> {
  // Only a NAS serves the window below a path.
  if (hasLoggedOut || new URL('.', document.baseURI).pathname === '/') return false;
  try {
    await api.loginByNas(await readSynoToken());
    return true;
  } catch (error) {
    if (error instanceof ApiError) return false;
    throw error;
  }
}

/** What waits for the answer goes on where it was: nothing that was typed is lost. */
function renewByPerson(): Promise<boolean> {
  const user = session.value?.user;
  if (user === undefined) return Promise.resolve(false);
  return new Promise((resolve) => {
    askedAgain.value = {
      user,
      answer: (isIn) => {
        askedAgain.value = null;
        resolve(isIn);
      },
    };
  });
}

export async function logInAgain(user: string, password: string, code?: string): Promise<void> {
  session.value = await api.login(user, password, code);
  askedAgain.value?.answer(true);
}

/** DSM's own token against requests of other sites, which it wants to see again; empty on another NAS. */
async function readSynoToken(): Promise<string> {
  if (!document.baseURI.includes('/webman/')) return '';
  try {
    const response = await fetch('/webman/login.cgi', { credentials: 'same-origin' });
    const { SynoToken } = (await response.json()) as { SynoToken?: unknown };
    return typeof SynoToken === 'string' ? SynoToken : '';
  } catch {
    return '';
  }
}

export async function logIn(user: string, password: string, code?: string): Promise<void> {
  session.value = await api.login(user, password, code);
  await openCatalogue(session.value);
}

export async function logOut(): Promise<void> {
  await api.logout();
  hasLoggedOut = true;
  forgetSession();
}

export function forgetSession(): void {
  session.value = null;
  closeCatalogue();
}
