import { AppError, isAppError } from '../../errors/index.ts';

/** A file on a datastore: `[ds1] folder/file.vmdk`. */
export interface DatastorePath {
  datastore: string;
  /** Without a leading slash. */
  file: string;
}

/**
 * Takes `[name] file` apart. A name may itself hold brackets, so where the host's datastores are known
 * the longest that fits decides.
 * @throws HOST_ANSWER_UNREADABLE
 */
export function parseDatastorePath(text: string, knownNames: readonly string[] = []): DatastorePath {
  const known = knownNames.filter((name) => text.startsWith(`[${name}]`)).sort((a, b) => b.length - a.length)[0];
  const end = known === undefined ? text.indexOf(']') : known.length + 1;
  if (!text.startsWith('[') || end < 1) {
    throw new AppError('HOST_ANSWER_UNREADABLE', `"${text.slice(0, 200)}" is no path on a datastore.`, {
      hint: 'Check in the Host Client that the machine is not orphaned or invalid.',
    });
  }
  return { datastore: text.slice(1, end), file: text.slice(end + 1).trimStart() };
}

export function formatDatastorePath({ datastore, file }: DatastorePath): string {
  return `[${datastore}] ${file}`;
}

/** The folder part without a slash at the end; empty at the top. */
export function folderOf(file: string): string {
  const slash = file.lastIndexOf('/');
  return slash < 0 ? '' : file.slice(0, slash);
}

export function baseNameOf(file: string): string {
  return file.slice(file.lastIndexOf('/') + 1);
}

/**
 * Turns paths as SOAP and `.vmx` files give them into paths of the host's shell and back.
 * `/vmfs/volumes/<name>` is a link to `/vmfs/volumes/<uuid>`; the folder with the UUID is used where
 * the host told it, since names change.
 */
export class DatastoreMap {
  readonly #volumes: { name: string; root: string }[];

  /** @param datastores with `url` as SOAP gives it; others than `/vmfs/volumes/…` are ignored */
  constructor(datastores: readonly { name: string; url: string }[]) {
    this.#volumes = datastores.map(({ name, url }) => {
      const match = /^(?:ds:\/\/)?(\/vmfs\/volumes\/[^/]+)\/*$/.exec(url);
      return { name, root: match?.[1] ?? `/vmfs/volumes/${name}` };
    });
  }

  get names(): string[] {
    return this.#volumes.map((volume) => volume.name);
  }

  /** @throws DATASTORE_NOT_FOUND */
  rootOf(datastore: string): string {
    const volume = this.#volumes.find((candidate) => candidate.name === datastore);
    if (volume === undefined) {
      throw new AppError('DATASTORE_NOT_FOUND', `The host has no datastore named "${datastore}".`, {
        hint: 'Choose one of the datastores that the host shows, or attach the missing one again.',
        details: { datastore },
      });
    }
    return volume.root;
  }

  parse(text: string): DatastorePath {
    return parseDatastorePath(text, this.names);
  }

  /** `/vmfs/volumes/…` of a path on a datastore. @throws DATASTORE_NOT_FOUND */
  toShell(path: DatastorePath): string {
    return path.file === '' ? this.rootOf(path.datastore) : `${this.rootOf(path.datastore)}/${path.file}`;
  }

  /** The same of a path as the inventory gives it; null where its datastore is gone (`[] /vmfs/…`) or it has none. */
  toShellIfThere(text: string): string | null {
    try {
      return this.toShell(this.parse(text));
    } catch (error) {
      if (isAppError(error)) return null;
      throw error;
    }
  }

  /** @throws DATASTORE_NOT_FOUND where the path lies on no datastore of the host */
  fromShell(path: string): DatastorePath {
    for (const { name, root } of this.#volumes) {
      for (const prefix of [`${root}/`, `/vmfs/volumes/${name}/`]) {
        if (path.startsWith(prefix)) return { datastore: name, file: path.slice(prefix.length) };
      }
    }
    throw new AppError('DATASTORE_NOT_FOUND', `"${path.slice(0, 200)}" lies on no datastore of the host.`, {
      hint: 'Attach the missing datastore again, or remove the file from the machine.',
    });
  }

  /** A file name of a `.vmx`, `.vmsd` or descriptor in `folder`: relative to it, or absolute. */
  resolve(folder: DatastorePath, fileName: string): DatastorePath {
    if (fileName.startsWith('/')) return this.fromShell(fileName);
    if (fileName.startsWith('[')) {
      const known = this.names.some((name) => fileName.startsWith(`[${name}] `));
      if (known) return this.parse(fileName);
    }
    return { datastore: folder.datastore, file: folder.file === '' ? fileName : `${folder.file}/${fileName}` };
  }
}
