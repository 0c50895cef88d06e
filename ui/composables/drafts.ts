const DRAFT = 'dozo-draft:';

/**
 * What was begun and is not done yet, by the address of its page: kept as long as this window is open, so that a load
 * of the page loses nothing. All of it as JSON can hold it, and nothing secret.
 */
export function readDraft<T>(key: string): T | null {
  try {
    return JSON.parse(sessionStorage.getItem(DRAFT + key) ?? 'null') as T | null;
  } catch {
    return null;
  }
}

export function keepDraft(key: string, draft: object): void {
  try {
    sessionStorage.setItem(DRAFT + key, JSON.stringify(draft));
  } catch {
    // A private window may refuse: then a load of the page begins anew.
  }
}

export function forgetDraft(key: string): void {
  try {
    sessionStorage.removeItem(DRAFT + key);
  } catch {
    // As above.
  }
}

/** What one account has begun is not for the next. */
export function forgetDrafts(): void {
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(DRAFT)) sessionStorage.removeItem(key);
  } catch {
    // Where nothing can be kept, nothing is.
  }
}
