import type { Datastore, MachineView, PointView } from '../../api/types.ts';

export interface Conflict {
  /** `info`: nothing is in the way of the restore itself. */
  level: 'ok' | 'info' | 'warning' | 'error';
  key: string;
  values: Record<string, string>;
}

interface Plan {
  kind: 'new' | 'replace' | 'export';
  point: PointView;
  name: string;
  /** Machines of the host that the restore goes to. */
  there: MachineView[];
  replaced: MachineView | undefined;
  /** The one that the version is of, as its host describes it; undefined: not known any more. */
  original: MachineView | undefined;
  datastore: Datastore | undefined;
  networks: { from: string; to: string }[];
  known: string[];
  identity: 'keep' | 'new';
  powerOn: boolean;
  formatBytes(bytes: number): string;
}

/** What would be in the way of a restore, from what the host says now. Errors keep it from starting. */
export function findConflicts(plan: Plan): Conflict[] {
  const found: Conflict[] = [];
  if (plan.point.state === 'damaged') found.push({ level: 'error', key: 'damaged', values: {} });
  if (plan.point.state === 'incomplete') found.push({ level: 'warning', key: 'incomplete', values: {} });
  if (plan.kind === 'export') return found;
  if (plan.kind === 'new') {
    const isTaken = plan.there.some(({ name, present }) => present && name === plan.name);
    found.push({
      level: isTaken ? 'error' : 'ok',
      key: isTaken ? 'nameTaken' : 'nameFree',
      values: { name: plan.name },
    });
    if (plan.identity === 'keep') found.push(...findSameIdentity(plan));
    found.push(...findSameAddress(plan));
  } else if (plan.replaced?.summary?.powerState === 'on') {
    found.push({ level: 'error', key: 'running', values: { name: plan.replaced.name } });
  } else if (plan.replaced !== undefined) {
    found.push({ level: 'warning', key: 'willReplace', values: { name: plan.replaced.name } });
  }
  if (plan.datastore !== undefined) {
    const { name, freeBytes, accessible } = plan.datastore;
    const values = {
      name,
      free: plan.formatBytes(freeBytes),
      needed: plan.formatBytes(plan.point.sizeBytes),
    };
    if (!accessible) found.push({ level: 'error', key: 'datastoreGone', values });
    else if (freeBytes < plan.point.sizeBytes) found.push({ level: 'warning', key: 'datastoreTight', values });
    else found.push({ level: 'ok', key: 'datastoreFits', values });
  }
  for (const { to } of plan.networks) {
    // Without an answer of the host nothing is claimed.
    if (plan.known.length > 0 && !plan.known.includes(to))
      found.push({ level: 'warning', key: 'networkMissing', values: { name: to } });
  }
  return found;
}

function findSameIdentity(plan: Plan): Conflict[] {
  const wanted = new Set(plan.original?.summary?.macAddresses ?? []);
  const taken = plan.there.flatMap(({ name, present, summary }) =>
    present ? (summary?.macAddresses ?? []).filter((mac) => wanted.has(mac)).map((mac) => ({ name, mac })) : [],
  );
  const told = taken.map(({ name, mac }): Conflict => ({ level: 'warning', key: 'macTaken', values: { name, mac } }));
  return [{ level: 'warning', key: 'sameIdentity', values: {} }, ...told];
}

/** A guest with a fixed address brings it along, once it runs. */
function findSameAddress({ original, powerOn }: Plan): Conflict[] {
  if (original?.present !== true || original.summary?.powerState !== 'on') return [];
  const { name } = original;
  const ip = original.summary.ipAddress ?? null;
  const level = powerOn ? 'warning' : 'info';
  return ip === null
    ? [{ level, key: powerOn ? 'originalRuns' : 'originalRunsNow', values: { name } }]
    : [{ level, key: powerOn ? 'addressTaken' : 'addressTakenNow', values: { name, ip } }];
}
