import type { FrozenMap } from './change-tracker.ts';
import type { PowerState } from './protocol.ts';
import { VmxFile } from './vmx-file.ts';

export interface SnapshotRecord {
  id: number;
  parent: number | null;
  name: string;
  description: string;
  createTimeMs: number;
  state: PowerState;
  quiesced: boolean;
  manifest: string | null;
  /** File of state beside the .vmx. */
  stateFile: string;
  /** Descriptor frozen by this snapshot, as the .vmx wrote it. */
  disks: { node: string; fileName: string }[];
  /** The .vmx at that time. */
  config: Record<string, string>;
  /** Change maps of tracked disks, by node. */
  maps: Map<string, FrozenMap>;
}

/** The snapshots of a machine as its .vmsd tells them. */
export class SnapshotTree {
  records: SnapshotRecord[] = [];
  currentId: number | null = null;
  lastId = 0;

  byId(id: number): SnapshotRecord | undefined {
    return this.records.find((record) => record.id === id);
  }

  childrenOf(id: number | null): SnapshotRecord[] {
    return this.records.filter((record) => record.parent === id);
  }

  add(record: SnapshotRecord): void {
    this.records.push(record);
    this.currentId = record.id;
    this.lastId = Math.max(this.lastId, record.id);
  }

  /** Children move up to the parent. */
  remove(id: number): void {
    const record = this.byId(id);
    if (record === undefined) return;
    for (const child of this.childrenOf(id)) child.parent = record.parent;
    if (this.currentId === id) this.currentId = record.parent;
    this.records = this.records.filter((other) => other.id !== id);
  }

  descendantsOf(id: number): SnapshotRecord[] {
    return this.childrenOf(id).flatMap((child) => [...this.descendantsOf(child.id), child]);
  }

  depth(): number {
    let depth = 0;
    for (let id = this.currentId; id !== null; id = this.byId(id)?.parent ?? null) depth += 1;
    return depth;
  }

  encode(): string {
    if (this.records.length === 0 && this.lastId === 0) return '';
    const file = new VmxFile();
    file.set('.encoding', 'UTF-8');
    file.set('snapshot.lastUID', String(this.lastId));
    if (this.currentId !== null) file.set('snapshot.current', String(this.currentId));
    file.set('snapshot.numSnapshots', String(this.records.length));
    this.records.forEach((record, index) => {
      const prefix = `snapshot${index}`;
      file.set(`${prefix}.uid`, String(record.id));
      file.set(`${prefix}.filename`, record.stateFile);
      if (record.parent !== null) file.set(`${prefix}.parent`, String(record.parent));
      file.set(`${prefix}.displayName`, record.name);
      file.set(`${prefix}.description`, record.description);
      if (record.state === 'poweredOn') file.set(`${prefix}.type`, '1');
      const micros = BigInt(record.createTimeMs) * 1000n;
      file.set(`${prefix}.createTimeHigh`, String(micros >> 32n));
      file.set(`${prefix}.createTimeLow`, String(BigInt.asIntN(32, micros)));
      file.set(`${prefix}.numDisks`, String(record.disks.length));
      record.disks.forEach((disk, disk_index) => {
        file.set(`${prefix}.disk${disk_index}.fileName`, disk.fileName);
        file.set(`${prefix}.disk${disk_index}.node`, disk.node);
      });
    });
    return file.encode();
  }

  /** @param config what the machine's .vmx says, for snapshots whose own state is not known */
  static parse(text: string, config: Record<string, string>): SnapshotTree {
    const tree = new SnapshotTree();
    const file = VmxFile.parse(text);
    tree.lastId = Number(file.get('snapshot.lastUID') ?? 0);
    const current = file.get('snapshot.current');
    const known: SnapshotRecord[] = [];
    // Numbers have gaps after deletions, so the keys decide and not the count.
    const indices = new Set(file.keys().flatMap((key) => /^snapshot(\d+)\.uid$/.exec(key)?.[1] ?? []));
    for (const index of [...indices].map(Number).sort((a, b) => a - b)) {
      const prefix = `snapshot${index}`;
      const high = BigInt(file.get(`${prefix}.createTimeHigh`) ?? '0');
      const low = BigInt.asUintN(32, BigInt(file.get(`${prefix}.createTimeLow`) ?? '0'));
      const disks = [];
      for (let disk = 0; disk < Number(file.get(`${prefix}.numDisks`) ?? 0); disk++) {
        const fileName = file.get(`${prefix}.disk${disk}.fileName`);
        const node = file.get(`${prefix}.disk${disk}.node`);
        if (fileName !== undefined && node !== undefined) disks.push({ node, fileName });
      }
      const parent = file.get(`${prefix}.parent`);
      known.push({
        id: Number(file.get(`${prefix}.uid`)),
        parent: parent === undefined ? null : Number(parent),
        name: file.get(`${prefix}.displayName`) ?? '',
        description: file.get(`${prefix}.description`) ?? '',
        createTimeMs: Number(((high << 32n) | low) / 1000n),
        state: file.get(`${prefix}.type`) === '1' ? 'poweredOn' : 'poweredOff',
        quiesced: false,
        manifest: null,
        stateFile: file.get(`${prefix}.filename`) ?? '',
        disks,
        config,
        maps: new Map(),
      });
    }
    tree.records = known;
    tree.currentId = current === undefined || tree.byId(Number(current)) === undefined ? null : Number(current);
    return tree;
  }
}
