import type { DuckDBConnection } from '@duckdb/node-api';
import type { Alert } from '../../core/alert.ts';
import { checkAlertLimit, decodeAlertCursor, encodeAlertCursor, groupKey, instantNs } from '../alerts.ts';
import type { AlertGroup, AlertSelection, AlertStore, AlertWrite, StoredAlert } from '../port.ts';
import { query } from './reads.ts';
import { Bindings } from './sql.ts';

/** Beside the alert itself, what reads select and sort by. `version` grows with each change. */
export const CREATE_ALERTS = `CREATE TABLE IF NOT EXISTS alerts (
  id VARCHAR NOT NULL, version BIGINT NOT NULL, namespace VARCHAR NOT NULL, rule VARCHAR NOT NULL, group_key VARCHAR NOT NULL,
  state VARCHAR NOT NULL, severity VARCHAR NOT NULL, accesses BIGINT NOT NULL,
  first_at BIGINT NOT NULL, last_at BIGINT NOT NULL, raised_at BIGINT NOT NULL,
  records VARCHAR[] NOT NULL, traces VARCHAR[] NOT NULL, doc VARCHAR NOT NULL)`;

export interface AlertConnections {
  read<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T>;
  /** One after the other with all other writes. */
  write<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T>;
}

export function createDuckDbAlerts({ read, write }: AlertConnections): AlertStore {
  return {
    read: (ids) => read((connection) => readAlerts(connection, ids)),
    write: (writes) => write((connection) => writeAlerts(connection, writes)),
    async search(selection, limit, cursor) {
      checkAlertLimit(limit);
      const bindings = new Bindings();
      const conditions = [selectionSql(selection, bindings)];
      if (cursor !== undefined) {
        const { raisedAt, id } = decodeAlertCursor(cursor);
        const at = bindings.add(instantNs(raisedAt));
        conditions.push(`(raised_at < ${at} OR (raised_at = ${at} AND id > ${bindings.add(id)}))`);
      }
      const sql = `SELECT doc FROM alerts WHERE ${conditions.join(' AND ')} ORDER BY raised_at DESC, id LIMIT ${limit + 1}`;
      const rows = await read((connection) => query(connection, sql, bindings));
      const alerts = rows.slice(0, limit).map(([doc]) => JSON.parse(String(doc)) as Alert);
      const last = alerts.at(-1);
      return last && rows.length > limit ? { alerts, next: encodeAlertCursor(last) } : { alerts };
    },
    async groups(selection, limit) {
      checkAlertLimit(limit);
      const bindings = new Bindings();
      const sql = `SELECT group_key, count(*), count(*) FILTER (state = 'open'), sum(accesses),
          first(doc ORDER BY raised_at DESC, id) AS newest
        FROM alerts WHERE ${selectionSql(selection, bindings)}
        GROUP BY group_key ORDER BY max(raised_at) DESC, first(id ORDER BY raised_at DESC, id) LIMIT ${limit}`;
      const rows = await read((connection) => query(connection, sql, bindings));
      return rows.map(
        ([key, alerts, open, count, newest]): AlertGroup => ({
          key: String(key),
          alerts: Number(alerts),
          open: Number(open),
          count: Number(count),
          newest: JSON.parse(String(newest)) as Alert,
        }),
      );
    },
  };
}

async function readAlerts(connection: DuckDBConnection, ids: readonly string[]) {
  if (ids.length === 0) return [];
  const bindings = new Bindings();
  const sql = `SELECT id, version, doc FROM alerts WHERE id IN (${listSql(ids, bindings)})`;
  const found = new Map<string, StoredAlert>();
  for (const [id, version, doc] of await query(connection, sql, bindings)) {
    found.set(String(id), { alert: JSON.parse(String(doc)) as Alert, version: String(version) });
  }
  return ids.map((id) => found.get(id));
}

/** All that can be taken in one transaction. */
async function writeAlerts(connection: DuckDBConnection, writes: readonly AlertWrite[]): Promise<boolean[]> {
  if (writes.length === 0) return [];
  await connection.run('BEGIN TRANSACTION');
  try {
    const known = new Bindings();
    const ids = writes.map(({ alert }) => alert.id);
    const sql = `SELECT id, version FROM alerts WHERE id IN (${listSql(ids, known)})`;
    const versions = new Map((await query(connection, sql, known)).map(([id, version]) => [id, String(version)]));
    const taken = writes.map(({ alert, version }) => versions.get(alert.id) === version);
    const rows = writes.filter((_, at) => taken[at]);
    if (rows.length > 0) {
      const gone = new Bindings();
      const where = `id IN (${listSql(
        rows.map(({ alert }) => alert.id),
        gone,
      )})`;
      await connection.run(`DELETE FROM alerts WHERE ${where}`, gone.values, gone.types);
    }
    for (const row of rows) await insert(connection, row);
    await connection.run('COMMIT');
    return taken;
  } catch (error) {
    await connection.run('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

async function insert(connection: DuckDBConnection, { alert, version }: AlertWrite): Promise<void> {
  const bindings = new Bindings();
  const values = [
    alert.id,
    BigInt(version ?? 0) + 1n,
    alert.namespace,
    alert.rule.id,
    groupKey(alert),
    alert.state,
    alert.rule.severity,
    BigInt(Math.round(alert.count)),
    instantNs(alert.firstAt),
    instantNs(alert.lastAt),
    instantNs(alert.raisedAt),
  ].map((value) => bindings.add(value));
  const doc = bindings.add(JSON.stringify(alert));
  const lists = ['records', 'traces'].map((name) => `json_extract_string(${doc}::JSON, '$.${name}[*]')`);
  await connection.run(
    `INSERT INTO alerts SELECT ${[...values, ...lists, doc].join(', ')}`,
    bindings.values,
    bindings.types,
  );
}

function selectionSql(selection: AlertSelection, bindings: Bindings): string {
  const { states, severities, rule, namespace, group, fromNs, toNs, records, traces } = selection;
  const conditions = ['true'];
  if (states !== undefined) conditions.push(inSql('state', states, bindings));
  if (severities !== undefined) conditions.push(inSql('severity', severities, bindings));
  if (rule !== undefined) conditions.push(`rule = ${bindings.add(rule)}`);
  if (namespace !== undefined) conditions.push(`namespace = ${bindings.add(namespace)}`);
  if (group !== undefined) conditions.push(`group_key = ${bindings.add(group)}`);
  if (fromNs !== undefined) conditions.push(`last_at >= ${bindings.add(fromNs)}`);
  if (toNs !== undefined) conditions.push(`first_at < ${bindings.add(toNs)}`);
  for (const [column, ids] of Object.entries({ records, traces })) {
    if (ids === undefined) continue;
    conditions.push(ids.length === 0 ? 'false' : `list_has_any(${column}, [${listSql(ids, bindings)}])`);
  }
  return conditions.join(' AND ');
}

function inSql(column: string, values: readonly string[], bindings: Bindings): string {
  return values.length === 0 ? 'false' : `${column} IN (${listSql(values, bindings)})`;
}

function listSql(values: readonly string[], bindings: Bindings): string {
  return values.map((value) => bindings.add(value)).join(', ');
}
