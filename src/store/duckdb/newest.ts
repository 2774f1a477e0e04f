import type { DuckDBConnection } from '@duckdb/node-api';
import type { Bindings } from './sql.ts';

/** Rows written last that are looked at first: two row groups or three. */
const LAST_ROWS = 200_000;

/** Each look takes in so many times the rows of the one before. */
const GROWTH = 8;

/**
 * A condition that the newest `count` records which fulfil another one fulfil, too: not to be older than as many that were found
 * among the rows written last. With it, row groups that hold nothing but older records are not read. Empty when the last quarter of
 * the rows has too few: then to look further would cost more than it saves. Within a transaction.
 */
export async function newestSql(
  connection: DuckDBConnection,
  condition: string,
  bindings: Bindings,
  count: number,
  lastRows = LAST_ROWS,
): Promise<string> {
  const size = await connection.runAndReadAll(
    "SELECT estimated_size FROM duckdb_tables() WHERE table_name = 'records'",
  );
  const rows = Number(size.getRows()[0]?.[0] ?? 0);
  const times: bigint[] = [];
  for (let [last, end] = [lastRows, rows]; last < rows / 4; [last, end] = [last * GROWTH, rows - last]) {
    const sql = `SELECT "@timestamp" FROM records WHERE rowid >= ${rows - last} AND rowid < ${end} AND ${condition}
      ORDER BY "@timestamp" DESC LIMIT ${count}`;
    const found = await connection.runAndReadAll(sql, bindings.values, bindings.types);
    for (const [time] of found.getRows()) times.push(BigInt(String(time)));
    times.sort((a, b) => (a < b ? 1 : a > b ? -1 : 0));
    const oldest = times[count - 1];
    if (oldest !== undefined) return ` AND "@timestamp" >= ${oldest}`;
  }
  return '';
}
