import { AppError, cancelled, isAppError } from '../errors/index.ts';
import { silentLogger, systemClock, type Clock, type Logger } from '../runtime/index.ts';
import { HttpsFolder } from './datastore-folder.ts';
import type { HostPlace } from './host-request.ts';
import type { Operation } from './local-wsdl.ts';
import { PinnedAgent } from './pinned-agent.ts';
import { explainFault } from './soap-fault.ts';
import { SoapSession } from './soap-session.ts';
import type { About, DatastoreFolder, ObjectContent, Reference, VsphereClient } from './vsphere.ts';

const CONNECT_TIMEOUT_MS = 20_000;
/** QueryChangedDiskAreas of a big disk keeps a host busy for minutes before it says a word. */
const ANSWER_TIMEOUT_MS = 600_000;
const FOLDER_SILENCE_TIMEOUT_MS = 60_000;
/** Ranges read at once; two connections already fill a gigabit line, more hide the host's seeks. */
const FOLDER_READS_MAX = 4;
const PAGE_OBJECTS = 100;
/** A session is closed when nothing was asked for so long: its thread takes 40 MB, and a transfer may take hours. */
const IDLE_MS = 5_000;
const TASK_POLL_FIRST_MS = 100;
const TASK_POLL_MAX_MS = 2_000;
const READ_ATTEMPTS = 3;
const READ_RETRY_MS = 1_000;

const SERVICE = reference('ServiceInstance', 'ServiceInstance');
const PROPERTY_COLLECTOR = reference('PropertyCollector', 'ha-property-collector');
const VIEW_MANAGER = reference('ViewManager', 'ViewManager');
const LICENSE_MANAGER = reference('LicenseManager', 'ha-license-manager');
const HOST_SYSTEM = reference('HostSystem', 'ha-host');
const ROOT_FOLDER = reference('Folder', 'ha-folder-root');
const VM_FOLDER = reference('Folder', 'ha-folder-vm');
const ROOT_POOL = reference('ResourcePool', 'ha-root-pool');

export interface VsphereOptions {
  host: string;
  port: number;
  user: string;
  password: string;
  /** SHA-256 of the pinned certificate (DER), lower-case hex; null takes the first, which the caller then pins. */
  certificate: string | null;
  connectTimeoutMs?: number;
  /** How long a call may stay unanswered. */
  answerTimeoutMs?: number;
  /** Ends the attempt to connect; the client it gave lives on. */
  signal?: AbortSignal;
  /** How long a session is kept that nobody uses; the next call logs in again. */
  idleMs?: number;
  logger?: Logger;
  clock?: Clock;
}

/**
 * Connects and logs in, once; the certificate is compared before anything is sent.
 *
 * @throws HOST_NAME_UNKNOWN, HOST_UNREACHABLE, HOST_PORT_REFUSED, HOST_NOT_ESXI (something else, or a
 *   vCenter), HOST_CERTIFICATE_CHANGED, HOST_LOGIN_REFUSED, HOST_LOCKDOWN, HOST_STALLED, CANCELLED
 */
export async function connectVsphere(options: VsphereOptions): Promise<VsphereClient> {
  const client = new Client(options);
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.close();
    throw error;
  }
}

class Client implements VsphereClient {
  readonly folder: DatastoreFolder;
  readonly #options: VsphereOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #place: HostPlace;
  #session: Promise<SoapSession> | undefined;
  /** A login that was refused is not repeated: wrong passwords lock the account. */
  #refusal: AppError | undefined;
  #calls = 0;
  /** Reads of datastores go in the session's name; without it each would open one of its own on the host. */
  #servesFolder = false;
  #idle: NodeJS.Timeout | undefined;
  #about: About | undefined;
  #isClosed = false;

  constructor(options: VsphereOptions) {
    const { host, port, certificate, connectTimeoutMs = CONNECT_TIMEOUT_MS } = options;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    const agent = new PinnedAgent({ host, port, certificate, connectTimeoutMs });
    this.#place = { host, port, agent };
    this.folder = new HttpsFolder({
      place: this.#place,
      user: options.user,
      password: options.password,
      silenceTimeoutMs: Math.min(FOLDER_SILENCE_TIMEOUT_MS, options.answerTimeoutMs ?? FOLDER_SILENCE_TIMEOUT_MS),
      readsMax: FOLDER_READS_MAX,
      cookies: () => {
        this.#servesFolder = true;
        return this.#cookies();
      },
    });
  }

  #cookies: () => string = () => '';

  get about(): About {
    if (this.#about === undefined) throw new AppError('INVARIANT_BROKEN', 'about was asked for before the login.');
    return this.#about;
  }

  get certificate(): string {
    return this.#place.agent.certificate ?? '';
  }

  wireBytes(): number {
    return this.#place.agent.wireBytes();
  }

  async connect(): Promise<void> {
    await this.#openSession(this.#options.signal);
    const content = record(await this.#call('RetrieveServiceContent', { _this: SERVICE }, 'ServiceContent'));
    const about = record(content['about']);
    this.#about = {
      fullName: text(about['fullName']),
      version: text(about['version']),
      build: text(about['build']),
      apiType: text(about['apiType']),
      productLineId: text(about['productLineId']),
    };
    if (this.#about.apiType === 'HostAgent') return;
    throw new AppError('HOST_NOT_ESXI', `${this.#options.host} is ${this.#about.fullName}, not an ESXi host.`, {
      hint: 'Add the ESXi hosts themselves, by their own addresses.',
      details: { host: this.#options.host, apiType: this.#about.apiType },
    });
  }

  async licenses(): Promise<{ editionKey: string; name: string }[]> {
    const { properties } = await this.retrieveOne(plain(LICENSE_MANAGER), ['licenses']);
    return list(properties['licenses']).map((license) => {
      const { editionKey, name } = record(license);
      return { editionKey: text(editionKey), name: text(name) };
    });
  }

  async lockdownMode(): Promise<string | null> {
    const { properties } = await this.retrieveOne(plain(HOST_SYSTEM), ['config.lockdownMode']);
    const mode = properties['config.lockdownMode'];
    return typeof mode === 'string' ? mode : null;
  }

  async retrieve(type: string, properties: readonly string[]): Promise<ObjectContent[]> {
    return await this.#read(async () => await this.#retrieveAll(type, properties));
  }

  async retrieveOne(wanted: Reference, properties: readonly string[]): Promise<ObjectContent> {
    return await this.#read(async () => {
      const spec = {
        propSet: [propertySpec(wanted.type, properties)],
        objectSet: [{ obj: reference(wanted.type, wanted.value), skip: false }],
      };
      const [content] = await this.#retrievePages(spec);
      if (content !== undefined) return content;
      throw new AppError('SOAP_FAULT', `${this.#options.host} does not know ${wanted.type} ${wanted.value}.`, {
        details: { host: this.#options.host, fault: 'ManagedObjectNotFound' },
      });
    });
  }

  async createSnapshot(
    machine: Reference,
    options: { name: string; description: string; memory: boolean; quiesce: boolean },
    signal?: AbortSignal,
  ): Promise<Reference> {
    const { name, description, memory, quiesce } = options;
    const parameters = { _this: reference(machine.type, machine.value), name, description, memory, quiesce };
    const result = await this.#runTask('CreateSnapshot_Task', parameters, signal);
    return this.#asReference(result, 'CreateSnapshot_Task');
  }

  async removeSnapshot(snapshot: Reference, signal?: AbortSignal): Promise<void> {
    const parameters = { _this: reference(snapshot.type, snapshot.value), removeChildren: false, consolidate: true };
    await this.#runTask('RemoveSnapshot_Task', parameters, signal);
  }

  async queryChangedDiskAreas(request: {
    machine: Reference;
    snapshot: Reference | null;
    deviceKey: number;
    startOffsetBytes: number;
    changeId: string;
  }): Promise<{
    startOffsetBytes: number;
    lengthBytes: number;
    areas: { offsetBytes: number; lengthBytes: number }[];
  }> {
    const { machine, snapshot, deviceKey, startOffsetBytes, changeId } = request;
    const parameters = {
      _this: reference(machine.type, machine.value),
      ...(snapshot === null ? {} : { snapshot: reference(snapshot.type, snapshot.value) }),
      deviceKey,
      startOffset: startOffsetBytes,
      changeId,
    };
    const reply = await this.#read(async () => await this.#call('QueryChangedDiskAreas', parameters, 'DiskChangeInfo'));
    const { startOffset, length, changedArea } = record(reply);
    return {
      startOffsetBytes: this.#bytes(startOffset),
      lengthBytes: this.#bytes(length),
      areas: list(changedArea).map((area) => {
        const extent = record(area);
        return { offsetBytes: this.#bytes(extent['start']), lengthBytes: this.#bytes(extent['length']) };
      }),
    };
  }

  async registerMachine(path: string, name: string): Promise<Reference> {
    const parameters = { _this: VM_FOLDER, path, name, asTemplate: false, pool: ROOT_POOL, host: HOST_SYSTEM };
    return this.#asReference(await this.#runTask('RegisterVM_Task', parameters), 'RegisterVM_Task');
  }

  async unregisterMachine(machine: Reference): Promise<void> {
    await this.#call('UnregisterVM', { _this: reference(machine.type, machine.value) }, 'string');
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#idle);
    await this.#closeSession();
    this.#place.agent.destroy();
  }

  async #closeSession(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#cookies = () => '';
    try {
      await (await session)?.close();
    } catch {
      // It never opened, and said why to whoever waited for it.
    }
  }

  async #retrieveAll(type: string, properties: readonly string[]): Promise<ObjectContent[]> {
    const made = await this.#call(
      'CreateContainerView',
      { _this: VIEW_MANAGER, container: ROOT_FOLDER, type: [type], recursive: true },
      'reference',
    );
    const view = this.#asReference(made, 'CreateContainerView');
    const viewArgument = reference(view.type === '' ? 'ContainerView' : view.type, view.value);
    const members = typed('TraversalSpec', { name: 'members', type: 'ContainerView', path: 'view', skip: false });
    try {
      return await this.#retrievePages({
        propSet: [propertySpec(type, properties)],
        objectSet: [{ obj: viewArgument, skip: true, selectSet: [members] }],
      });
    } finally {
      await this.#call('DestroyView', { _this: viewArgument }, 'string').catch((error: unknown) => {
        // It ends with the session at the latest.
        this.#logger.debug({ error: String(error) }, 'view not destroyed');
      });
    }
  }

  /** Follows the tokens to the end: a host gives as many objects a page as it likes. */
  async #retrievePages(specification: Record<string, unknown>): Promise<ObjectContent[]> {
    const parameters = { _this: PROPERTY_COLLECTOR, specSet: [specification], options: { maxObjects: PAGE_OBJECTS } };
    const found: ObjectContent[] = [];
    let page = await this.#call('RetrievePropertiesEx', parameters, 'RetrieveResult');
    while (page !== null) {
      const { objects, token } = record(page);
      found.push(...list(objects).map(objectContent));
      if (typeof token !== 'string' || token === '') break;
      page = await this.#call('ContinueRetrievePropertiesEx', { _this: PROPERTY_COLLECTOR, token }, 'RetrieveResult');
    }
    return found;
  }

  /** Starts a task and waits for its end. An abort ends the waiting, not the task: hosts cannot stop these. */
  async #runTask(operation: Operation, parameters: Record<string, unknown>, signal?: AbortSignal): Promise<unknown> {
    const task = this.#asReference(await this.#call(operation, parameters, 'reference', signal), operation);
    let waitMs = TASK_POLL_FIRST_MS;
    for (;;) {
      const { properties } = await this.retrieveOne(task, ['info']);
      const info = record(properties['info']);
      const { state, result, error } = info;
      if (state === 'success') return result;
      if (state === 'error') {
        const { fault, localizedMessage } = record(error);
        const faultProperties = record(fault);
        const type = typeof faultProperties['_type'] === 'string' ? faultProperties['_type'] : 'Unknown';
        throw explainFault(this.#options.host, operation, {
          type,
          text: text(localizedMessage),
          properties: faultProperties,
        });
      }
      if (signal?.aborted === true) throw cancelled(signal.reason);
      await this.#clock.sleep(waitMs, signal).catch((cause: unknown) => {
        throw cancelled(cause);
      });
      waitMs = Math.min(TASK_POLL_MAX_MS, waitMs * 1.5);
    }
  }

  /** Repeats what changes nothing when the connection broke under it. */
  async #read<T>(read: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await read();
      } catch (error) {
        const isPassing =
          isAppError(error) && (error.code === 'HOST_CONNECTION_LOST' || error.details['fault'] === 'NotAuthenticated');
        if (!isPassing || this.#isClosed || attempt === READ_ATTEMPTS) throw error;
        await this.#clock.sleep(READ_RETRY_MS);
      }
    }
  }

  /**
   * One call. A host drops sessions that were idle for half an hour; it did nothing then but say so, so
   * that after another login, once, even a writing call may be repeated.
   */
  async #call(
    operation: Operation,
    parameters: Record<string, unknown>,
    returns: string,
    signal?: AbortSignal,
  ): Promise<unknown> {
    clearTimeout(this.#idle);
    this.#calls += 1;
    try {
      return await this.#callInSession(operation, parameters, returns, signal);
    } finally {
      this.#calls -= 1;
      if (this.#calls === 0) this.#idle = setTimeout(() => this.#rest(), this.#options.idleMs ?? IDLE_MS).unref();
    }
  }

  #rest(): void {
    if (!this.#servesFolder && !this.#isClosed) void this.#closeSession();
  }

  async #callInSession(
    operation: Operation,
    parameters: Record<string, unknown>,
    returns: string,
    signal?: AbortSignal,
  ): Promise<unknown> {
    const opened = this.#session;
    const session = await this.#openSession(signal);
    try {
      return await session.call(operation, parameters, returns, signal);
    } catch (error) {
      const hasEnded = isAppError(error) && error.details['fault'] === 'NotAuthenticated';
      if (!hasEnded || opened === undefined) throw error;
      this.#logger.info({ host: this.#options.host }, 'vSphere session ended; logging in again');
      if (this.#session === opened) this.#session = undefined;
      void session.close();
      return await (await this.#openSession(signal)).call(operation, parameters, returns, signal);
    }
  }

  async #openSession(signal?: AbortSignal): Promise<SoapSession> {
    if (this.#isClosed) {
      throw new AppError('CANCELLED', `The vSphere connection to ${this.#options.host} was closed.`);
    }
    if (this.#refusal !== undefined) throw this.#refusal;
    if (this.#session === undefined) {
      const opening = SoapSession.open({
        place: this.#place,
        user: this.#options.user,
        password: this.#options.password,
        answerTimeoutMs: this.#options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS,
        logger: this.#logger,
        signal,
      });
      this.#session = opening;
      opening.then(
        (session) => (this.#cookies = () => session.cookies()),
        (error: unknown) => {
          if (this.#session === opening) this.#session = undefined;
          if (isAppError(error) && error.retry === 'never') this.#refusal = error;
        },
      );
    }
    const session = await this.#session;
    if (!session.isBroken) return session;
    this.#session = undefined;
    return await this.#openSession(signal);
  }

  #asReference(value: unknown, operation: Operation): Reference {
    const { type, value: id } = record(value);
    if (typeof type === 'string' && typeof id === 'string') return { type, value: id };
    throw this.#unreadable(`no object in the answer to ${operation}`);
  }

  #bytes(value: unknown): number {
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.#unreadable('an offset in a change map is not a whole number of bytes');
  }

  #unreadable(what: string): AppError {
    return new AppError('HOST_ANSWER_UNREADABLE', `The answer of ${this.#options.host} cannot be read: ${what}.`, {
      hint: 'Report this with the version of the host.',
      details: { host: this.#options.host },
    });
  }
}

/** A managed object as an argument: node-vsphere-soap's form. */
function reference(type: string, value: string): { attributes: { type: string }; $value: string } {
  return { attributes: { type }, $value: value };
}

function plain(argument: { attributes: { type: string }; $value: string }): Reference {
  return { type: argument.attributes.type, value: argument.$value };
}

/** A data object whose type the host cannot know from its place. */
function typed(type: string, properties: Record<string, unknown>): Record<string, unknown> {
  return { attributes: { 'xsi:type': type }, ...properties };
}

function propertySpec(type: string, properties: readonly string[]): Record<string, unknown> {
  return { type, all: false, pathSet: [...properties] };
}

function objectContent(value: unknown): ObjectContent {
  const { obj, propSet } = record(value);
  const { type, value: id } = record(obj);
  const properties: Record<string, unknown> = {};
  for (const entry of list(propSet)) {
    const { name, val } = record(entry);
    properties[text(name)] = val;
  }
  return { reference: { type: text(type), value: text(id) }, properties };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
