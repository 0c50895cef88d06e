/** Times and words for people at a terminal. */
export function formatTime(atMs: number | null): string {
  if (atMs === null) return '-';
  const date = new Date(atMs);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function formatSeconds(startedAtMs: number | null, finishedAtMs: number | null): string {
  if (startedAtMs === null || finishedAtMs === null) return '-';
  return `${((finishedAtMs - startedAtMs) / 1000).toFixed(1)} s`;
}
