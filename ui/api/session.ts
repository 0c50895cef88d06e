import { ref } from 'vue';
import { closeCatalogue, openCatalogue } from './catalogue.ts';
import { api, ApiError } from './client.ts';
import type { Permission, SessionView } from './types.ts';

export const session = ref<SessionView | null>(null);

/** Whether the account is allowed to: what it is not is not shown. */
export function may(permission: Permission): boolean {
  return session.value?.permissions.includes(permission) === true;
}

/** Takes up a session that the browser still has; false when there is none. */
export async function resumeSession(): Promise<boolean> {
  if (session.value !== null) return true;
  try {
    session.value = await api.session();
  } catch (error) {
    if (error instanceof ApiError && error.body.code === 'LOGIN_REQUIRED') return false;
    throw error;
  }
  await openCatalogue();
  return true;
}

export async function logIn(user: string, password: string): Promise<void> {
  session.value = await api.login(user, password);
  await openCatalogue();
}

export async function logOut(): Promise<void> {
  await api.logout();
  forgetSession();
}

export function forgetSession(): void {
  session.value = null;
  closeCatalogue();
}
