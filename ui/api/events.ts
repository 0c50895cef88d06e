import { ref } from 'vue';
import { api, apiUrl } from './client.ts';
import type { ServerEvent } from './types.ts';

const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 20_000;
/** A proxy that gathers answers before it passes them on lets no stream begin. */
const OPEN_MS_MAX = 8_000;
const LOOK_AGAIN_MS = 10_000;
const TYPES: ServerEvent['type'][] = ['reset', 'run', 'part', 'progress', 'log', 'probe', 'changed'];

/** False while what is shown may be old. */
export const isConnected = ref(true);

const listeners = new Set<(event: ServerEvent) => void>();
let source: EventSource | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;
let watch: ReturnType<typeof setTimeout> | undefined;
let retryMs = RETRY_MS_MIN;

/** Calls back for every event until the function returned is called. */
export function onEvent(listener: (event: ServerEvent) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Opens the stream. The browser reconnects by itself with the last id; only what it gives up on is opened anew here.
 */
export function openEvents(): void {
  closeEvents();
  const stream = new EventSource(apiUrl('/events'));
  source = stream;
  watch = setTimeout(lookAgain, OPEN_MS_MAX);
  for (const type of TYPES) {
    stream.addEventListener(type, (message: MessageEvent<string>) => tell(JSON.parse(message.data) as ServerEvent));
  }
  stream.addEventListener('open', () => {
    retryMs = RETRY_MS_MIN;
    clearTimeout(watch);
    // After a break that the server's memory did not span it says `reset` itself.
    isConnected.value = true;
  });
  stream.addEventListener('error', () => {
    isConnected.value = false;
    if (stream.readyState !== EventSource.CLOSED) return;
    timer = setTimeout(() => {
      retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
      // Asks first, so that an ended session leads to the login instead of to endless tries.
      api
        .session()
        .then(() => {
          openEvents();
          tell({ type: 'reset' });
        })
        .catch(() => {
          if (source === stream) stream.dispatchEvent(new Event('error'));
        });
    }, retryMs);
  });
}

/** Without a stream, everything is asked for anew from time to time. */
function lookAgain(): void {
  tell({ type: 'reset' });
  watch = setTimeout(lookAgain, LOOK_AGAIN_MS);
}

export function closeEvents(): void {
  clearTimeout(timer);
  clearTimeout(watch);
  source?.close();
  source = null;
  isConnected.value = true;
}

function tell(event: ServerEvent): void {
  for (const listener of listeners) listener(event);
}
