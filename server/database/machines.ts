import type { MachineIdentityView, MachineSummaryView } from '../contract/api/machine.schema.ts';
import { contains, Filter, ID_IS_AMONG } from './filter.ts';
import { encodeJson, integer, integerOrNull, json, jsonOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface MachineRecord {
  /** Dozo's own, for good. */
  id: string;
  /** Null when known from versions only. */
  hostId: string | null;
  name: string;
  identity: MachineIdentityView;
  /** As the host described it the last time. */
  summary: MachineSummaryView | null;
  /** Whether the host listed it the last time. */
  present: boolean;
  seenAtMs: number | null;
}

export class Machines {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async list(filter: { hostId?: string; search?: string; ids?: readonly string[] } = {}): Promise<MachineRecord[]> {
    const { hostId, search, ids } = filter;
    const where = new Filter()
      .add('host_id = ?', hostId)
      .add("name LIKE ? ESCAPE '\\'", search === undefined ? undefined : contains(search))
      .add(ID_IS_AMONG, ids === undefined ? undefined : JSON.stringify(ids));
    const rows = await this.#sql.all(`SELECT * FROM machines WHERE ${where.sql} ORDER BY name, id`, where.params);
    return rows.map(toMachine);
  }

  async load(id: string): Promise<MachineRecord | null> {
    const row = await this.#sql.get('SELECT * FROM machines WHERE id = ?', [id]);
    return row === null ? null : toMachine(row);
  }

  async save(machine: MachineRecord): Promise<void> {
    await this.#sql.run(
      `INSERT INTO machines (id, host_id, name, identity, summary, present, seen_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET host_id = excluded.host_id, name = excluded.name, identity = excluded.identity,
         summary = excluded.summary, present = excluded.present, seen_at_ms = excluded.seen_at_ms`,
      [
        machine.id,
        machine.hostId,
        machine.name,
        JSON.stringify(machine.identity),
        encodeJson(machine.summary),
        machine.present ? 1 : 0,
        machine.seenAtMs,
      ],
    );
  }

  /** After a backup or a restore: who the machine is now. */
  async saveIdentity(id: string, identity: MachineIdentityView): Promise<void> {
    await this.#sql.run('UPDATE machines SET identity = ?, name = ? WHERE id = ?', [
      JSON.stringify(identity),
      identity.name,
      id,
    ]);
  }

  async markAbsent(id: string): Promise<void> {
    await this.#sql.run('UPDATE machines SET present = 0 WHERE id = ?', [id]);
  }

  /** Those of a host that no job and no version needs. */
  async removeUnused(hostId: string): Promise<void> {
    await this.#sql.run(
      `DELETE FROM machines WHERE host_id = ?
         AND NOT EXISTS (SELECT 1 FROM job_machines WHERE machine_id = machines.id)
         AND NOT EXISTS (SELECT 1 FROM points WHERE machine_id = machines.id)`,
      [hostId],
    );
  }
}

function toMachine(row: Row): MachineRecord {
  return {
    id: text(row, 'id'),
    hostId: textOrNull(row, 'host_id'),
    name: text(row, 'name'),
    identity: json(row, 'identity'),
    summary: jsonOrNull(row, 'summary'),
    present: integer(row, 'present') === 1,
    seenAtMs: integerOrNull(row, 'seen_at_ms'),
  };
}
