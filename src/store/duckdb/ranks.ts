import type { DuckDBConnection } from '@duckdb/node-api';
import type { RankRequest } from '../port.ts';
import { query } from './reads.ts';
import { Bindings } from './sql.ts';
import { timeRanges } from './time-ranges.ts';

/** With more ranges of time than this, a look at all ids costs less than one at each range. */
const RANGES_MAX = 16;

/** The rank of each; first where the requests say, so that old row groups are not read, then of the rest anywhere. */
export async function ranks(
  connection: DuckDBConnection,
  requests: readonly RankRequest[],
): Promise<(bigint | undefined)[]> {
  const found = new Map<string, bigint>();
  const look = async (ids: readonly string[], condition: string, bindings: Bindings) => {
    if (ids.length === 0) return;
    const wanted = `SELECT unnest(from_json(${bindings.add(JSON.stringify(ids))}, '["VARCHAR"]'))`;
    const sql = `SELECT id, rank FROM records WHERE ${condition} AND id IN (${wanted})`;
    for (const [id, rank] of await query(connection, sql, bindings)) found.set(String(id), BigInt(String(rank)));
  };
  const ranges = timeRanges(requests.map(({ timestampNs }) => timestampNs));
  for (const { firstNs, lastNs } of ranges.length > RANGES_MAX ? [] : ranges) {
    const inside = requests.filter(({ timestampNs }) => timestampNs >= firstNs && timestampNs <= lastNs);
    const bindings = new Bindings();
    const condition = `"@timestamp" BETWEEN ${bindings.add(firstNs)} AND ${bindings.add(lastNs)}`;
    await look(idsOf(inside), condition, bindings);
  }
  await look(idsOf(requests.filter(({ id }) => !found.has(id))), 'true', new Bindings());
  return requests.map(({ id }) => found.get(id));
}

function idsOf(requests: readonly RankRequest[]): string[] {
  return [...new Set(requests.map(({ id }) => id))];
}
