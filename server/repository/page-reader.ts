import { isAppError } from '../errors/index.ts';
import { decodeChunk } from './chunk-codec.ts';
import { packName } from './layout.ts';
import type { ChunkPlace, PackCatalog } from './pack-catalog.ts';

/** Pages that are wanted one after the other were stored so, too: eight of them cost one look at the disk. */
const WINDOW_BYTES = 64 * 1024;

interface Window {
  pack: number;
  offsetBytes: number;
  bytes: Buffer;
}

/** Reads pages in about the order in which they lie in their packs. */
export class PageReader {
  readonly #catalog: PackCatalog;
  #window: Window | null = null;

  constructor(catalog: PackCatalog) {
    this.#catalog = catalog;
  }

  /** As `PackCatalog.readChunk`, in memory of its own. */
  async read(id: Buffer): Promise<Buffer> {
    const place = await this.#catalog.locate(id, 'read');
    const page = place === null ? null : await this.#readAt(id, place);
    // Which other copy there is, and what is wrong with this one, is told there.
    return page ?? this.#catalog.readChunk(id);
  }

  async #readAt(id: Buffer, place: ChunkPlace): Promise<Buffer | null> {
    const { pack, row, form } = place;
    if (form.storedLength > WINDOW_BYTES) return null;
    let window: Window;
    try {
      window = await this.#windowWith(place);
    } catch (error) {
      if (!isAppError(error)) throw error;
      return null;
    }
    const start = form.offsetBytes - window.offsetBytes;
    const stored = window.bytes.subarray(start, start + form.storedLength);
    const content = decodeChunk(stored, { ...form, id, row }, this.#catalog.packKey(pack), this.#catalog.identity);
    if (typeof content === 'string') return null;
    return content.buffer === window.bytes.buffer ? Buffer.from(content) : content;
  }

  async #windowWith({ pack, form }: ChunkPlace): Promise<Window> {
    const endBytes = form.offsetBytes + form.storedLength;
    const known = this.#window;
    if (
      known?.pack === pack &&
      known.offsetBytes <= form.offsetBytes &&
      endBytes <= known.offsetBytes + known.bytes.length
    )
      return known;
    const { packId, tableOffsetBytes } = this.#catalog.pack(pack);
    const offsetBytes = form.offsetBytes - (form.offsetBytes % WINDOW_BYTES);
    const lengthBytes = Math.max(endBytes, Math.min(offsetBytes + WINDOW_BYTES, tableOffsetBytes)) - offsetBytes;
    const bytes = await this.#catalog.storage.read(packName(packId), { offsetBytes, lengthBytes });
    return (this.#window = { pack, offsetBytes, bytes });
  }
}
