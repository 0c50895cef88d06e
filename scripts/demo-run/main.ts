/**
 * Dozo at work, from nothing: a lab host with two guests that keep writing, the server with its
 * embedded Redis and a worker; a full backup, an incremental one, both versions restored as new
 * machines, and every disk compared byte for byte with the source as it was frozen. Then it serves, with a third
 * guest whose single files can be looked for. With `--fresh` nothing is set up or backed up: the first steps are the
 * visitor's.
 *
 * Exit status 0 only when all is equal.
 */
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { BackupResult } from '../../server/contract/run.ts';
import { formatBytes, GIB, MIB, randomHex } from '../../server/runtime/index.ts';
import { startLabHost, type LabHost } from '../../test/lab/lab-host.ts';
import type { MachineOptions } from '../../test/lab/hostd/lab-options.ts';
import { firstDifference } from './compare.ts';
import { FILE_SERVER_DISK_BYTES, makeFileServerDisk } from './file-server.ts';
import { ApiError } from '../../test/product/api.ts';
import { startProduct, type Product } from '../../test/product/product.ts';
import { ProgressBars } from './progress-bars.ts';
import { formatTable } from '../../server/cli/table.ts';

/** How long the guests write between the two backups. */
const WRITING_MS = 8_000;
/** Not among the machines whose disks are compared. */
const FILE_SERVER = 'file server';

const { values: flags } = parseArgs({
  options: { exit: { type: 'boolean' }, json: { type: 'boolean' }, fresh: { type: 'boolean' } },
});
if (flags.fresh === true && (flags.exit === true || flags.json === true)) {
  throw new Error('--fresh compares nothing: it goes with neither --exit nor --json');
}

interface Row {
  version: string;
  machine: string;
  pointId: string;
  route: string;
  nominalBytes: number;
  readBytes: number;
  sentBytes: number;
  storedBytes: number;
  seconds: number;
  bytesPerSecond: number;
  state: string;
  /** `equal`, or where the restored disk differs. */
  restored: string;
}

const HEADER = [
  'version',
  'machine',
  'route',
  'nominal',
  'read',
  'sent',
  'stored',
  'seconds',
  'MB/s',
  'state',
  'restored',
];

/** Progress and explanations; the table alone goes to standard output. */
function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

const folder = await mkdtemp(join(tmpdir(), 'dozo-demo-'));
let lab: LabHost | undefined;
let product: Product | undefined;
let status = 1;
let stopping: Promise<void> | undefined;

async function stop(): Promise<void> {
  stopping ??= (async () => {
    await product?.close();
    await lab?.close();
    await rm(folder, { recursive: true, force: true });
  })();
  return stopping;
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    void stop().then(() => process.exit(status));
  });
}

try {
  await start();
  status = flags.fresh === true || (await demonstrate()) ? 0 : 1;
  if (flags.exit !== true) {
    await invite();
    await new Promise(() => undefined);
  }
} catch (error) {
  say(error instanceof Error ? (error.stack ?? error.message) : String(error));
} finally {
  await stop();
}
process.exit(status);

async function start(): Promise<void> {
  say('Starting the lab host (ESXi 8.0.3, free licence) with running guests, two of which keep writing …');
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    edition: 'free',
    user: 'root',
    password: randomHex(8),
    datastores: [
      { name: 'vmfs6', type: 'VMFS-6', capacityBytes: 40 * GIB },
      { name: 'nfs', type: 'NFS', capacityBytes: 40 * GIB, rawFrozenRead: 'allow' },
    ],
    switches: { keepTruth: true, freeChangedAreas: 'answer' },
    vms: [
      {
        name: 'web server',
        datastore: 'vmfs6',
        running: true,
        changeTracking: false,
        disks: [{ sizeBytes: 1 * GIB, provisioning: 'thin', fill: { percent: 35, seed: 1 } }],
        writer: { bytesPerSecond: 2 * MIB, spanPercent: 60 },
      },
      {
        name: 'メール (mail)',
        datastore: 'nfs',
        running: true,
        changeTracking: true,
        disks: [
          { sizeBytes: 1 * GIB, provisioning: 'thin', fill: { percent: 30, seed: 2 } },
          { sizeBytes: 256 * MIB, provisioning: 'thin', fill: { percent: 10, seed: 3 } },
        ],
        writer: { bytesPerSecond: 2 * MIB, spanPercent: 60 },
      },
      ...(flags.exit === true ? [] : [await fileServer()]),
    ],
  });
  say('Starting Dozo (server, embedded Redis, worker) …');
  product = await startProduct(join(folder, 'dozo'), { bundled: true });
}

async function fileServer(): Promise<MachineOptions> {
  return {
    name: FILE_SERVER,
    datastore: 'nfs',
    running: true,
    changeTracking: true,
    disks: [{ sizeBytes: FILE_SERVER_DISK_BYTES, image: await makeFileServerDisk(folder) }],
  };
}

/** Leaves to who stays what there is to be seen, and says how to get at it. */
async function invite(): Promise<void> {
  if (product === undefined || lab === undefined) throw new Error('not started');
  const { sshPort, httpsPort, user, password } = lab;
  if (flags.fresh === true) await mkdir(join(folder, 'backups'));
  else await backUpFileServer(product);
  // Who looks around finds no token that they did not make.
  await product.api.logout();
  say(`
Dozo serves at ${product.url} (user admin, password ${product.password}). Ctrl-C ends it.
The host: address 127.0.0.1, SSH port ${sshPort}, HTTPS port ${httpsPort ?? 'none'}, user ${user}, password ${password}.`);
  if (flags.fresh === true) say(`A folder for a storage: ${join(folder, 'backups')}. Nothing is set up yet: begin.`);
  else say(`“${FILE_SERVER}” has files of its own: restore single ones.`);
}

async function backUpFileServer({ api }: Product): Promise<void> {
  const [host] = await api.get<{ id: string }[]>('/hosts');
  const [repository] = await api.get<{ id: string }[]>('/repositories');
  const machine = (await machinesOf(host?.id ?? '')).find(({ name }) => name === FILE_SERVER);
  const job = await api.post<{ id: string }>('/jobs', {
    name: 'office files',
    machineIds: [machine?.id],
    repositoryId: repository?.id,
  });
  await watched('Backup', await api.post<{ id: string }>(`/jobs/${job.id}/run`, {}));
  const rules = [{ rule: { kind: 'daily', time: '22:00' } }];
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  for (const { id } of await api.get<{ id: string }[]>('/jobs')) {
    await api.put(`/jobs/${id}/schedule`, { timeZone, rules });
  }
}

async function demonstrate(): Promise<boolean> {
  if (product === undefined || lab === undefined) throw new Error('not started');
  const { api } = product;
  const host = await api.post<{ id: string }>('/hosts', {
    name: 'lab',
    host: '127.0.0.1',
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: lab.user,
    password: lab.password,
    sshHostKey: lab.sshHostKey,
    tlsCertificate: lab.tlsCertificate,
  });
  const repository = await api.post<{ id: string }>('/repositories', {
    name: 'main',
    path: join(folder, 'repository'),
  });
  const machines = (await machinesOf(host.id)).filter(({ name }) => name !== FILE_SERVER);
  say(`The host has ${machines.map((machine) => `“${machine.name}”`).join(' and ')}.`);
  const job = await api.post<{ id: string }>('/jobs', {
    name: 'nightly',
    machineIds: machines.map((machine) => machine.id),
    repositoryId: repository.id,
  });

  const rows: Row[] = [];
  for (const version of ['full', 'incremental']) {
    if (version === 'incremental') {
      say(`The guests go on writing for ${WRITING_MS / 1000} s …`);
      await new Promise((resolve) => setTimeout(resolve, WRITING_MS));
    }
    const run = await watched(`Backup (${version})`, await api.post<{ id: string }>(`/jobs/${job.id}/run`, {}));
    for (const part of run.parts) {
      const result = part.result as BackupResult | null;
      if (result === null || result.pointId === null)
        throw new Error(`${part.name}: ${part.error?.message ?? part.state}`);
      const seconds = (result.finishedAtMs - result.startedAtMs) / 1000;
      rows.push({
        version,
        machine: part.name,
        pointId: result.pointId,
        route: [...new Set(result.disks.map((disk) => disk.route ?? disk.kind))].join(', '),
        nominalBytes: result.stats.nominalBytes,
        readBytes: result.stats.readBytes,
        sentBytes: result.stats.sentBytes,
        storedBytes: result.stats.storedBytes,
        seconds,
        bytesPerSecond: result.stats.nominalBytes / seconds,
        state: result.state,
        restored: 'not compared',
      });
    }
  }
  for (const row of rows) row.restored = await restoreAndCompare(row, host.id);

  const equal = rows.every((row) => row.restored === 'equal');
  if (flags.json === true) {
    process.stdout.write(`${JSON.stringify({ equal, rows }, null, 2)}\n`);
  } else {
    process.stdout.write(`\n${formatTable(HEADER, rows.map(renderRow))}\n`);
    process.stdout.write(equal ? 'Every restored disk is equal to its source as it was frozen.\n' : 'NOT EQUAL.\n');
  }
  return equal;
}

function renderRow(row: Row): string[] {
  return [
    row.version,
    row.machine,
    row.route,
    formatBytes(row.nominalBytes),
    formatBytes(row.readBytes),
    formatBytes(row.sentBytes),
    formatBytes(row.storedBytes),
    row.seconds.toFixed(1),
    (row.bytesPerSecond / 1e6).toFixed(0),
    row.state,
    row.restored,
  ];
}

async function machinesOf(hostId: string): Promise<{ id: string; name: string }[]> {
  return (await product?.api.get<{ id: string; name: string }[]>(`/hosts/${hostId}/machines?refresh=true`)) ?? [];
}

interface RunDetail {
  id: string;
  state: string;
  error: { message: string; hint?: string } | null;
  parts: {
    name: string;
    state: string;
    error: { message: string } | null;
    result: unknown;
    progress: { stage: string; totalBytes: number; doneBytes: number } | null;
  }[];
}

/** Follows a run with one bar a machine until it has ended. */
async function watched(title: string, started: { id: string }): Promise<RunDetail> {
  if (product === undefined) throw new Error('not started');
  const bars = new ProgressBars(title);
  for (;;) {
    const run = await product.api.get<RunDetail>(`/runs/${started.id}`);
    bars.show(run.parts.map((part) => ({ name: part.name, state: part.state, progress: part.progress })));
    if (run.state !== 'waiting' && run.state !== 'running') {
      bars.end();
      if (run.state === 'failed' || run.state === 'cancelled') {
        throw new Error(
          `${title}: ${run.state}: ${run.parts.map((part) => part.error?.message ?? part.state).join('; ')}`,
        );
      }
      return run;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Restores a version as a new machine and compares each of its disks with the truth that the lab kept. */
async function restoreAndCompare(row: Row, hostId: string): Promise<string> {
  if (product === undefined || lab === undefined) throw new Error('not started');
  const name = `${row.machine} ${row.version}`;
  const point = await pointOf(row, product);
  await watched(
    `Restore “${name}”`,
    await product.api.post<{ id: string }>('/restores', {
      pointId: row.pointId,
      hostId,
      mode: { kind: 'new', name },
      datastore: 'vmfs6',
    }),
  );
  const restored = (await lab.state()).vms.find((machine) => machine.name === name);
  if (restored === undefined) return 'machine missing on the host';
  const truth = await truthOf(row, lab);
  if (restored.disks.length !== point.disks.length) return `${restored.disks.length} of ${point.disks.length} disks`;
  for (const disk of restored.disks) {
    const flat = lab.localPath((disk.chain[0]?.absolutePath ?? '').replace(/\.vmdk$/, '-flat.vmdk'));
    const frozen = truth[disk.node];
    if (frozen === undefined) return `${disk.node} was not there when it was frozen`;
    const difference = await firstDifference(flat, frozen);
    if (difference !== null) return `${disk.node} differs at ${difference}`;
  }
  return 'equal';
}

/** A version, once the catalogue has heard of it: a moment after the end of its run. */
async function pointOf(row: Row, { api }: Product): Promise<{ disks: { key: string; sizeBytes: number }[] }> {
  for (;;) {
    try {
      return await api.get(`/points/${row.pointId}`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/**
 * Copies of a machine's disks that the lab made when it took the VM snapshot, by place. The first
 * snapshot of a machine belongs to the full backup, the second to the incremental one.
 */
async function truthOf(row: Row, host: LabHost): Promise<Record<string, string>> {
  const vmId = await host.vmId(row.machine);
  const root = join(host.directory, 'truth');
  const taken: { files: Record<string, string>; atMs: number }[] = [];
  for (const machine of await readdir(root)) {
    for (const snapshot of await readdir(join(root, machine))) {
      const files = await host.frozenCopy(vmId, snapshot);
      if (files !== null) taken.push({ files, atMs: (await stat(join(root, machine, snapshot))).birthtimeMs });
    }
  }
  taken.sort((a, b) => a.atMs - b.atMs);
  const found = taken[row.version === 'full' ? 0 : 1];
  if (taken.length !== 2 || found === undefined) throw new Error(`${taken.length} snapshots of ${row.machine}, not 2`);
  return found.files;
}
