/** A run of bytes of a disk. Both numbers are whole, `lengthBytes` above 0. */
export interface Extent {
  offsetBytes: number;
  lengthBytes: number;
}

/** The extents sorted, touching and overlapping ones joined. */
export function normalizeExtents(extents: Iterable<Extent>): Extent[] {
  const sorted = [...extents].filter((extent) => extent.lengthBytes > 0).sort((a, b) => a.offsetBytes - b.offsetBytes);
  const joined: Extent[] = [];
  for (const extent of sorted) {
    const last = joined.at(-1);
    const endBytes = extent.offsetBytes + extent.lengthBytes;
    if (last !== undefined && extent.offsetBytes <= last.offsetBytes + last.lengthBytes) {
      last.lengthBytes = Math.max(last.lengthBytes, endBytes - last.offsetBytes);
    } else {
      joined.push({ ...extent });
    }
  }
  return joined;
}

/**
 * Every extent widened to whole blocks, clipped to the disk, joined.
 * @param blockBytes the block, in bytes; the last block of a disk may be shorter
 */
export function alignExtents(extents: Iterable<Extent>, blockBytes: number, diskSizeBytes: number): Extent[] {
  const aligned: Extent[] = [];
  for (const { offsetBytes, lengthBytes } of extents) {
    const start = Math.floor(offsetBytes / blockBytes) * blockBytes;
    const end = Math.min(Math.ceil((offsetBytes + lengthBytes) / blockBytes) * blockBytes, diskSizeBytes);
    if (end > start) aligned.push({ offsetBytes: start, lengthBytes: end - start });
  }
  return normalizeExtents(aligned);
}

/** What of `from` is not in `minus`. Both normalized. */
export function subtractExtents(from: readonly Extent[], minus: readonly Extent[]): Extent[] {
  const rest: Extent[] = [];
  let index = 0;
  for (const extent of from) {
    let start = extent.offsetBytes;
    const end = start + extent.lengthBytes;
    while (index < minus.length) {
      const hole = minus[index];
      if (hole === undefined || hole.offsetBytes >= end) break;
      const holeEnd = hole.offsetBytes + hole.lengthBytes;
      if (hole.offsetBytes > start) rest.push({ offsetBytes: start, lengthBytes: hole.offsetBytes - start });
      start = Math.max(start, holeEnd);
      if (holeEnd > end) break;
      index += 1;
    }
    if (start < end) rest.push({ offsetBytes: start, lengthBytes: end - start });
  }
  return rest;
}

export function totalBytes(extents: Iterable<Extent>): number {
  let total = 0;
  for (const extent of extents) total += extent.lengthBytes;
  return total;
}
