/**
 * vSphere's SOAP API as Dozo needs it. Behind it: node-vsphere-soap in a worker thread of its own,
 * which reaches the host only through a loopback tunnel that enforces the pinned certificate. Replies
 * are typed here; arrays are always arrays, references always `{ type, value }`.
 *
 * Errors of reaching the host: HOST_NAME_UNKNOWN, HOST_UNREACHABLE, HOST_PORT_REFUSED, HOST_NOT_ESXI,
 * HOST_CERTIFICATE_CHANGED, HOST_LOGIN_REFUSED, HOST_LOCKDOWN. Of any call: HOST_CONNECTION_LOST (after
 * repeating, for reads; a write may or may not have been done), HOST_STALLED, HOST_ANSWER_UNREADABLE,
 * HOST_NOT_ADMINISTRATOR, HOST_LICENSE_REFUSES (RestrictedVersion, in a fault or a task), CANCELLED, and
 * SOAP_FAULT with `details.fault` for any other fault. An abort while a task runs ends the waiting, not
 * the task. A session that the host has dropped is renewed by itself.
 */
export interface VsphereClient {
  readonly about: About;
  /** SHA-256 of the certificate that the host showed (DER), lower-case hex. */
  readonly certificate: string;
  wireBytes(): number;
  licenses(): Promise<{ editionKey: string; name: string }[]>;
  lockdownMode(): Promise<string | null>;
  /** Properties of every object of a type, paged to the end. Missing properties are absent. */
  retrieve(type: string, properties: readonly string[]): Promise<ObjectContent[]>;
  retrieveOne(reference: Reference, properties: readonly string[]): Promise<ObjectContent>;
  createSnapshot(
    machine: Reference,
    options: { name: string; description: string; memory: boolean; quiesce: boolean },
    signal?: AbortSignal,
  ): Promise<Reference>;
  removeSnapshot(snapshot: Reference, signal?: AbortSignal): Promise<void>;
  /**
   * One reply of QueryChangedDiskAreas, unchecked: it may cover less than was asked.
   * @param snapshot null only for a machine that is off
   * @throws SOAP_FAULT with `details.fault` and, for FileFault, `details.key`
   */
  queryChangedDiskAreas(request: {
    machine: Reference;
    snapshot: Reference | null;
    deviceKey: number;
    startOffsetBytes: number;
    changeId: string;
  }): Promise<{ startOffsetBytes: number; lengthBytes: number; areas: { offsetBytes: number; lengthBytes: number }[] }>;
  registerMachine(path: string, name: string): Promise<Reference>;
  unregisterMachine(machine: Reference): Promise<void>;
  /** Bytes of a datastore file over HTTPS `/folder`. */
  folder: DatastoreFolder;
  close(): Promise<void>;
}

export interface DatastoreFolder {
  /** The whole small file. @throws NOT_FOUND, DISK_READ_REFUSED (locked) */
  read(datastore: string, path: string): Promise<Buffer>;
  /**
   * A range, checked to be the one that was asked for.
   * @throws DISK_RANGE_IGNORED (200 for a range), DISK_READ_REFUSED, DISK_READ_SHORT
   */
  readRange(
    datastore: string,
    path: string,
    range: { offsetBytes: number; lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Buffer>;
}

export interface About {
  fullName: string;
  version: string;
  build: string;
  apiType: string;
  productLineId: string;
}

export interface Reference {
  type: string;
  value: string;
}

/**
 * Values as plain JSON: data objects as objects with their `xsi:type` under `_type`, references as
 * `Reference`, `ArrayOf…` as arrays, xsd numbers as numbers, booleans as booleans, dates as ISO text.
 */
export interface ObjectContent {
  reference: Reference;
  properties: Record<string, unknown>;
}
