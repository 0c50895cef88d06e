/** `HH:MM` of what somebody wrote as a time of day in English, German or Japanese; null when it is none. */
export function readTimeOfDay(written: string): string | null {
  // Full-width digits become plain ones.
  const text = written.normalize('NFKC').trim().toLowerCase();
  const found =
    /^(午前|午後)?\s*(\d{1,2})(?:\s*[:.時h]\s*(\d{2})?\s*分?|(\d{2}))?\s*(?:uhr)?\s*([ap])?\.?(?:m\.?)?$/.exec(text);
  if (found === null) return null;
  const [, before, hours = '', colon, packed, after] = found;
  const half = before === '午前' || after === 'a' ? 'first' : before === '午後' || after === 'p' ? 'second' : null;
  const minute = Number(colon ?? packed ?? 0);
  const named = Number(hours);
  if (half !== null && named > 12) return null;
  const hour = half === null ? named : (named % 12) + (half === 'second' ? 12 : 0);
  if (hour > 23 || minute > 59) return null;
  return `${String(hour).padStart(2, '0')}:${String(minute).padStart(2, '0')}`;
}
