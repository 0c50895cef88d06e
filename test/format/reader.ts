/**
 * Reads a repository of format 1 from a folder. Written from docs/repository-format.md alone; uses
 * nothing of the product and nothing but Node. Section numbers are the document's.
 */
import { createDecipheriv, createHash, createHmac, hkdfSync, scryptSync } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { crc32, zstdDecompressSync } from 'node:zlib';

interface Header {
  repositoryId: string;
  chunkSizeBytes: number;
  identity: string;
  encryption: { keyId: string } | null;
}

interface Place {
  pack: string;
  packId: Buffer;
  row: number;
  offset: number;
  stored: number;
  plain: number;
  crc: number;
  codec: number;
}

export interface ReadPoint {
  pointId: string;
  rootHash: string;
  previousRootHash: string | null;
  machineName: string;
  disks: { key: string; sizeBytes: number; rootHash: string }[];
  files: { name: string; sizeBytes: number; chunks: string[] }[];
  /** What a reader may tell of, and need not know; `skipped` as section 9 has it. */
  evidence: { disks: { skipped?: unknown }[] } | null;
}

const ZERO = '0'.repeat(64);

export class FormatReader {
  readonly header: Header;
  readonly points: ReadPoint[] = [];
  readonly #folder: string;
  readonly #master: Buffer | null;
  /** Section 14, of points that something was decided about. */
  readonly fates = new Map<string, { trashed: boolean; purged: boolean; lockedUntilMs: number | null }>();
  readonly #chunks = new Map<string, Place[]>();

  /** @param secret a passphrase, or the 32 bytes of a recovery key */
  constructor(folder: string, secret: string | Buffer = '') {
    this.#folder = folder;
    this.header = JSON.parse(this.#sealed('repository.dozo', 'DOZOHEAD', null).toString()) as Header;
    this.#master = this.header.encryption === null ? null : this.#unlock(secret);
    for (const pack of this.#files('packs', /^packs\/(..)\/\1[0-9a-f]{30}\.pack$/)) this.#loadPack(pack);
    this.#loadMarks();
    for (const name of this.#files('points', /\.point$/)) {
      const isFence = readFileSync(path.join(folder, name)).toString('latin1', 0, 8) === 'DOZOFENC';
      const fate = this.fates.get(path.basename(name, '.point'));
      if (!isFence && fate?.trashed !== true && fate?.purged !== true) this.#loadPoint(name);
    }
    this.points.sort((a, b) => (a.pointId < b.pointId ? -1 : 1));
  }

  /** Section 8. */
  disk(point: ReadPoint, key: string): Buffer {
    const disk = point.disks.find((one) => one.key === key);
    if (disk === undefined) throw new Error(`no disk ${key}`);
    const size = this.header.chunkSizeBytes;
    const count = Math.ceil(disk.sizeBytes / size);
    let levels = 1;
    while (256 ** levels < count) levels += 1;
    let ids = [disk.rootHash];
    for (let level = 0; level < levels; level += 1) {
      ids = ids.flatMap((id) => {
        const page = id === ZERO ? Buffer.alloc(8192) : this.#chunk(id);
        return Array.from({ length: 256 }, (_, slot) => page.toString('hex', slot * 32, slot * 32 + 32));
      });
    }
    const content = Buffer.alloc(disk.sizeBytes);
    ids.forEach((id, index) => {
      if (id === ZERO) return;
      const chunk = this.#chunk(id);
      if (chunk.length !== Math.min(size, disk.sizeBytes - index * size)) throw new Error('a chunk has the wrong length');
      chunk.copy(content, index * size);
    });
    return content;
  }

  file(point: ReadPoint, name: string): Buffer {
    const file = point.files.find((one) => one.name === name);
    if (file === undefined) throw new Error(`no file ${name}`);
    let left = file.sizeBytes;
    const pieces = file.chunks.map((id) => {
      const length = Math.min(left, this.header.chunkSizeBytes);
      left -= length;
      return id === ZERO ? Buffer.alloc(length) : this.#chunk(id);
    });
    return Buffer.concat(pieces);
  }

  /** Section 6, "Chunk", and section 11. */
  #chunk(id: string): Buffer {
    // Section 13: when a copy is damaged, another one may be whole.
    let damage = new Error(`chunk ${id} is missing`);
    for (const place of this.#chunks.get(id) ?? []) {
      try {
        return this.#copy(id, place);
      } catch (error) {
        damage = error as Error;
      }
    }
    throw damage;
  }

  #copy(id: string, place: Place): Buffer {
    let bytes: Buffer = readFileSync(path.join(this.#folder, place.pack)).subarray(place.offset, place.offset + place.stored);
    if (crc32(bytes) !== place.crc) throw new Error(`chunk ${id} is damaged`);
    if (this.#master !== null) {
      const nonce = Buffer.alloc(12);
      nonce.writeUInt32LE(place.row);
      bytes = gcm(hkdf(this.#master, place.packId, 'dozo pack 1', 32), nonce, Buffer.from(id, 'hex'), bytes);
    }
    const content = place.codec === 1 ? zstdDecompressSync(bytes) : bytes;
    if (content.length !== place.plain || this.#identity(content) !== id) throw new Error(`chunk ${id} is not what it should be`);
    return content;
  }

  /** Section 3. */
  #identity(content: Buffer): string {
    const { identity, repositoryId } = this.header;
    if (this.#master === null) return createHash(identity).update(content).digest('hex');
    const key = hkdf(this.#master, Buffer.from(repositoryId, 'hex'), 'dozo identity 1', 32);
    return createHmac(identity, key).update(content).digest('hex');
  }

  /** Section 6. */
  #loadPack(name: string): void {
    const file = readFileSync(path.join(this.#folder, name));
    const packId = Buffer.from(path.basename(name, '.pack'), 'hex');
    const trailer = file.subarray(file.length - 64);
    if (file.toString('latin1', 0, 8) !== 'DOZOPACK' || trailer.toString('latin1', 56) !== 'DOZOPEND') throw new Error('not a pack');
    const table = file.subarray(Number(trailer.readBigUInt64LE(0)), file.length - 64);
    const hash = createHash('sha256').update(packId).update(table).update(trailer.subarray(0, 16)).digest();
    if (!hash.equals(trailer.subarray(16, 48)) || !file.subarray(16, 32).equals(packId)) throw new Error('damaged pack');
    for (let row = 0; row < trailer.readUInt32LE(8); row += 1) {
      const at = row * 52;
      const id = table.toString('hex', at, at + 32);
      const places = this.#chunks.get(id) ?? [];
      this.#chunks.set(id, places);
      places.push({
        pack: name,
        packId,
        row,
        offset: table.readUInt32LE(at + 32),
        stored: table.readUInt32LE(at + 36),
        plain: table.readUInt32LE(at + 40),
        crc: table.readUInt32LE(at + 44),
        codec: table.readUInt8(at + 48),
      });
    }
  }

  /** Section 14. */
  #loadMarks(): void {
    for (const name of this.#files('marks', /\/\d{8}\.mark$/).sort()) {
      const mark = JSON.parse(this.#sealed(name, 'DOZOMARK', this.#master).toString()) as {
        pointId: string;
        verb: string;
        untilMs: number | null;
      };
      const fate = this.fates.get(mark.pointId) ?? { trashed: false, purged: false, lockedUntilMs: null };
      this.fates.set(mark.pointId, fate);
      if (mark.verb === 'lock') fate.lockedUntilMs = Math.max(fate.lockedUntilMs ?? 0, mark.untilMs ?? 0);
      else if (mark.verb === 'purge') fate.purged = true;
      else fate.trashed = mark.verb === 'delete';
    }
  }

  /** Section 9. */
  #loadPoint(name: string): void {
    const body = this.#sealed(name, 'DOZOPONT', this.#master);
    const rootHash = createHash('sha256').update('dozo point 1\n').update(body).digest('hex');
    this.points.push({ ...(JSON.parse(body.toString()) as ReadPoint), rootHash });
  }

  /** Section 4. */
  #sealed(name: string, kind: string, master: Buffer | null): Buffer {
    const file = readFileSync(path.join(this.#folder, name));
    const end = file.length - 32;
    if (!createHash('sha256').update(file.subarray(0, end)).digest().equals(file.subarray(end))) throw new Error(`${name} is damaged`);
    if (file.toString('latin1', 0, 8) !== kind || file.readUInt16LE(8) !== 1) throw new Error(`${name} is not of format 1`);
    const flags = file.readUInt16LE(10);
    let body: Buffer = file.subarray(64, 64 + Number(file.readBigUInt64LE(16)));
    if ((flags & 2) !== 0) {
      if (master === null) throw new Error('the key is needed');
      body = gcm(hkdf(master, file.subarray(48, 64), `dozo file 1 ${kind}`, 32), Buffer.alloc(12), file.subarray(0, 64), body);
    }
    if ((flags & 1) !== 0) {
      const unpackedMax = 2 ** 20 + 64 * body.length;
      if (Number(file.readBigUInt64LE(24)) > unpackedMax) throw new Error(`${name} would unpack to too much`);
      body = zstdDecompressSync(body, { maxOutputLength: unpackedMax });
    }
    if (body.length !== Number(file.readBigUInt64LE(24))) throw new Error(`${name} has the wrong length`);
    return body;
  }

  /** Section 11, "Key slots". */
  #unlock(secret: string | Buffer): Buffer {
    const repositoryId = Buffer.from(this.header.repositoryId, 'hex');
    for (const name of this.#files('keys', /\.key$/)) {
      const slot = JSON.parse(this.#sealed(name, 'DOZOKEYS', null).toString()) as {
        kdf: { name: string; n: number; r: number; p: number; salt: string };
        wrapped: string;
      };
      if ((slot.kdf.name === 'scrypt') !== (typeof secret === 'string')) continue;
      const { n: N, r, p, salt } = slot.kdf;
      const key =
        typeof secret === 'string'
          ? scryptSync(secret.normalize('NFC'), Buffer.from(salt, 'hex'), 32, { N, r, p, maxmem: 256 * N * r })
          : secret;
      const wrapped = Buffer.from(slot.wrapped, 'hex');
      try {
        const aad = Buffer.concat([Buffer.from('dozo key 1'), repositoryId]);
        const master = gcm(key, wrapped.subarray(0, 12), aad, wrapped.subarray(12));
        if (hkdf(master, repositoryId, 'dozo key id 1', 16).toString('hex') === this.header.encryption?.keyId) return master;
      } catch {
        continue;
      }
    }
    throw new Error('the secret opens no slot');
  }

  #files(folder: string, name: RegExp): string[] {
    if (!existsSync(path.join(this.#folder, folder))) return [];
    return readdirSync(path.join(this.#folder, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(this.#folder, path.join(entry.parentPath, entry.name)))
      .filter((one) => name.test(one))
      .sort();
  }
}

function gcm(key: Buffer, nonce: Buffer, aad: Buffer, bytes: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce);
  decipher.setAAD(aad);
  decipher.setAuthTag(bytes.subarray(bytes.length - 16));
  return Buffer.concat([decipher.update(bytes.subarray(0, bytes.length - 16)), decipher.final()]);
}

function hkdf(key: Buffer, salt: Buffer, info: string, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, length));
}
