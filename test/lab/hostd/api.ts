import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { HostFault } from './fault.ts';
import type { Host } from './host.ts';
import type { MachineOptions } from './lab-options.ts';
import type {
  AutostartEntry,
  ChangedAreasRequest,
  CreateSnapshotRequest,
  LoginRequest,
  PowerRequest,
  ReconfigureRequest,
  RegisterRequest,
} from './protocol.ts';
import type { RunningTask } from './tasks.ts';
import type { VirtualMachine } from './virtual-machine.ts';

/** What only the lab's own programs ask for: tests, not clients of a host. */
export interface LabControl {
  /** Ends SSH sessions at once; gives how many. */
  killSessions(): number;
  /** Resolves when the switches set so far have taken effect. */
  settled(): Promise<void>;
  losePower(): Promise<void>;
  boot(options: { autostart: boolean }): Promise<void>;
}

interface Request {
  host: Host;
  control: LabControl;
  url: URL;
  parts: string[];
  body: unknown;
  isAsync: boolean;
}

type Route = [method: string, pattern: RegExp, handler: (request: Request, match: string[]) => unknown];

class UnknownRoute extends Error {}

/** The daemon's HTTP face, described in protocol.ts. */
export function serveApi(host: Host, control: LabControl, path: string): Promise<Server> {
  const server = createServer((request, response) => {
    void answer(host, control, request, response);
  });
  server.keepAliveTimeout = 60_000;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve(server));
  });
}

async function answer(
  host: Host,
  control: LabControl,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let status = 200;
  let value: unknown;
  try {
    const url = new URL(request.url ?? '/', 'http://hostd');
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString('utf8');
    value = await dispatch(request.method ?? 'GET', {
      host,
      control,
      url,
      parts: url.pathname.split('/').filter((part) => part !== ''),
      body: text === '' ? {} : JSON.parse(text),
      isAsync: url.searchParams.get('async') === '1',
    });
  } catch (error) {
    if (error instanceof HostFault) value = { fault: error.detail };
    else {
      status = error instanceof UnknownRoute ? 404 : 500;
      value = { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
  }
  const body = Buffer.from(JSON.stringify(value ?? {}));
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length });
  response.end(body);
}

function dispatch(method: string, request: Request): unknown {
  for (const [wanted, pattern, handler] of ROUTES) {
    const match = wanted === method ? pattern.exec(request.url.pathname) : null;
    if (match !== null) return handler(request, [...match]);
  }
  throw new UnknownRoute(`${method} ${request.url.pathname}`);
}

function machine({ host }: Request, id: string | undefined): VirtualMachine {
  const vm = host.vm(Number(id));
  if (vm === undefined) {
    throw new HostFault(
      'ManagedObjectNotFound',
      'The object has already been deleted or has not been completely created',
      {
        obj: `vim.VirtualMachine:${id ?? ''}`,
      },
    );
  }
  return vm;
}

async function finish(request: Request, { task, done }: RunningTask): Promise<{ task: string; id?: number }> {
  if (request.isAsync) return { task: task.id };
  const result = await done;
  return result === null ? { task: task.id } : { task: task.id, id: result };
}

const ROUTES: Route[] = [
  [
    'GET',
    /^\/state$/,
    async ({ host, url }) => {
      const after = url.searchParams.get('after');
      if (after !== null) await host.waitForChange(Number(after), Number(url.searchParams.get('waitMs') ?? 30_000));
      return host.state();
    },
  ],
  ['GET', /^\/lab\/clones$/, ({ host }) => ({ waiting: host.waitingClones })],
  ['GET', /^\/lab\/iscsi\/changes$/, ({ host }) => host.iscsiChanges],
  ['GET', /^\/lab\/iscsi$/, ({ host }) => host.iscsi.state()],
  ['POST', /^\/lab\/iscsi\/cut$/, async ({ host }) => ({ cut: await host.iscsi.cut() })],
  [
    'POST',
    /^\/login$/,
    ({ host, body }) => {
      const { user, password } = body as LoginRequest;
      return host.accounts.login(user, password);
    },
  ],
  [
    'GET',
    /^\/open$/,
    ({ host, url }) =>
      host.open(url.searchParams.get('path') ?? '', url.searchParams.get('kind') === 'raw' ? 'raw' : 'descriptor'),
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/snapshots$/,
    (request, [, id]) =>
      finish(request, machine(request, id).startCreateSnapshot(request.body as CreateSnapshotRequest)),
  ],
  [
    'DELETE',
    /^\/vms\/(\d+)\/snapshots\/(\d+)$/,
    (request, [, id, snapshot]) =>
      finish(
        request,
        machine(request, id).startRemoveSnapshot(Number(snapshot), request.url.searchParams.get('children') === '1'),
      ),
  ],
  [
    'DELETE',
    /^\/vms\/(\d+)\/snapshots$/,
    (request, [, id]) => finish(request, machine(request, id).startRemoveAllSnapshots()),
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/snapshots\/(\d+)\/revert$/,
    (request, [, id, snapshot]) => finish(request, machine(request, id).startRevert(Number(snapshot))),
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/consolidate$/,
    (request, [, id]) => finish(request, machine(request, id).startConsolidate()),
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/power$/,
    (request, [, id]) => {
      const vm = machine(request, id);
      const { to } = request.body as PowerRequest;
      const start = {
        on: () => vm.startPowerOn(),
        off: () => vm.startPowerOff(false),
        shutdown: () => vm.startPowerOff(true),
        reset: () => vm.startReset(),
        suspend: () => vm.startSuspend(),
      }[to];
      return finish(request, start());
    },
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/reconfigure$/,
    (request, [, id]) => finish(request, machine(request, id).startReconfigure(request.body as ReconfigureRequest)),
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/answer$/,
    (request, [, id]) => {
      const { question, choice } = request.body as { question: string; choice: string };
      machine(request, id).answer(question, choice);
      return {};
    },
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/reload$/,
    (request, [, id]) => {
      machine(request, id).reload();
      return {};
    },
  ],
  [
    'DELETE',
    /^\/vms\/(\d+)$/,
    (request, [, id]) => {
      const vm = machine(request, id);
      if (request.url.searchParams.get('files') === '1') {
        return finish(
          request,
          vm.startDestroy(() => request.host.forget(vm)),
        );
      }
      request.host.unregister(vm);
      return {};
    },
  ],
  [
    'POST',
    /^\/register$/,
    ({ host, body }) => {
      const { path, name } = body as RegisterRequest;
      return { id: host.register(path, name).id };
    },
  ],
  [
    'POST',
    /^\/vms\/(\d+)\/changed-areas$/,
    (request, [, id]) => {
      const { host } = request;
      if (host.edition === 'free' && host.switches.freeChangedAreas === 'refuse') {
        throw new HostFault(
          'RestrictedVersion',
          'Current license or ESXi version prohibits execution of the requested operation.',
        );
      }
      return machine(request, id).changedAreas(request.body as ChangedAreasRequest);
    },
  ],
  [
    'GET',
    /^\/tasks\/(.+)$/,
    ({ host }, [, id]) => {
      const task = host.tasks.list().find((candidate) => candidate.id === decodeURIComponent(id ?? ''));
      if (task === undefined) {
        throw new HostFault(
          'ManagedObjectNotFound',
          'The object has already been deleted or has not been completely created',
        );
      }
      return task;
    },
  ],
  ['GET', /^\/switches$/, ({ host }) => host.switches],
  [
    'PUT',
    /^\/switches$/,
    async ({ host, control, body }) => {
      host.setSwitches(body as Record<string, unknown>);
      await control.settled();
      return host.switches;
    },
  ],

  // --- for tests alone
  ['POST', /^\/lab\/vms$/, async ({ host, body }) => ({ id: (await host.createMachine(body as MachineOptions)).id })],
  [
    'POST',
    /^\/lab\/vms\/(\d+)\/write$/,
    (request, [, id]) => {
      const options = request.body as Parameters<VirtualMachine['writeBlocks']>[0];
      return { writtenBytes: machine(request, id).writeBlocks(options) };
    },
  ],
  [
    'POST',
    /^\/lab\/vms\/(\d+)\/write-at$/,
    (request, [, id]) => {
      const { node, writes } = request.body as { node: string; writes: { offsetBytes: number; base64: string }[] };
      machine(request, id).writeAt(node, writes);
      return {};
    },
  ],
  [
    'POST',
    /^\/lab\/vms\/(\d+)\/truth$/,
    async (request, [, id]) => {
      const { label } = request.body as { label: string };
      const vm = machine(request, id);
      vm.captureTruth(label);
      return { files: await vm.truth(label) };
    },
  ],
  [
    'GET',
    /^\/lab\/vms\/(\d+)\/truth$/,
    async (request, [, id]) => ({
      files: await machine(request, id).truth(request.url.searchParams.get('label') ?? ''),
    }),
  ],
  [
    'DELETE',
    /^\/lab\/datastores\/([^/]+)$/,
    ({ host }, [, name = '']) => {
      host.datastores.remove(decodeURIComponent(name));
      host.changed();
      return {};
    },
  ],
  [
    'POST',
    /^\/lab\/vms\/(\d+)\/autostart$/,
    (request, [, id]) => {
      request.host.autostart.set(machine(request, id).id, request.body as AutostartEntry);
      return {};
    },
  ],
  ['POST', /^\/lab\/sessions\/kill$/, ({ control }) => ({ killed: control.killSessions() })],
  ['POST', /^\/lab\/power\/lose$/, async ({ control }) => await control.losePower()],
  ['POST', /^\/lab\/power\/boot$/, async ({ control, body }) => await control.boot(body as { autostart: boolean })],
  [
    'POST',
    /^\/lab\/unlock$/,
    ({ host }) => {
      host.accounts.unlock();
      return {};
    },
  ],
  [
    'GET',
    /^\/lab\/failures$/,
    ({ host, url }) => ({ count: host.accounts.failures(url.searchParams.get('user') ?? 'root') }),
  ],
  [
    'POST',
    /^\/lab\/forget-tasks$/,
    ({ host }) => {
      host.tasks.forget();
      return {};
    },
  ],
];
