/** A file of a package: where it lies below the package's folder, its mode and its bytes. */
export interface PayloadFile {
  path: string;
  mode: number;
  data: Buffer;
}
