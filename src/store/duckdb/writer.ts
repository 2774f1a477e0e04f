import { BIGINT, type DuckDBConnection } from '@duckdb/node-api';
import type { RecordWrite } from '../../core/settlement.ts';
import type { WriteResult } from '../port.ts';
import { appendNarrow, appendRecords } from './chunks.ts';
import type { StoredForms } from './forms.ts';
import type { KnownIds } from './known-ids.ts';
import { STORED } from './reads.ts';
import type { RecentWrites } from './recent-writes.ts';
import { rowsSql } from './sql.ts';
import { ALL_TIMES, type TimeRange, timeRanges } from './time-ranges.ts';

/** What the process remembers of its writes. */
export interface WriterMemory {
  readonly known: KnownIds;
  readonly recent: RecentWrites;
  readonly forms: StoredForms;
}

/**
 * Writes one batch in one transaction: earlier states with a lower rank move to `revisions`, then the new ones go in.
 * Resolves after COMMIT, for which DuckDB appends to its own log and calls fsync. After an error nothing of the batch
 * is stored. Callers wait for one batch before they start the next.
 */
export async function writeBatch(
  connection: DuckDBConnection,
  batch: readonly RecordWrite[],
  { known, recent, forms }: WriterMemory,
): Promise<WriteResult> {
  const rows = highestRanks(batch);
  await connection.run('BEGIN TRANSACTION');
  try {
    const held = await replaceHeld(connection, await knownOnes(connection, [...rows.values()], known), recent);
    const writes = held.size === 0 ? [...rows.values()] : [...rows.values()].filter(({ id }) => !held.has(id));
    known.add(writes);
    const { texts, committed: formsCommitted } = await forms.add(connection, writes);
    await appendRecords(connection, writes, texts);
    const committed = await recent.add(connection, writes);
    await connection.run('COMMIT');
    committed();
    formsCommitted();
    const written = batch.filter(({ id, rank }) => !held.get(id)?.isHigher && rank === rows.get(id)?.rank).length;
    return { written, outranked: batch.length - written, rejected: [] };
  } catch (error) {
    // The first error is the one to tell; after a failed COMMIT there is nothing to roll back.
    await connection.run('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

function highestRanks(batch: readonly RecordWrite[]): Map<string, RecordWrite> {
  const rows = new Map<string, RecordWrite>();
  for (const write of batch) {
    const known = rows.get(write.id);
    if (!known || known.rank < write.rank) rows.set(write.id, write);
  }
  return rows;
}

/** Those that the table may hold already; nearly always none or few. */
async function knownOnes(
  connection: DuckDBConnection,
  writes: readonly RecordWrite[],
  known: KnownIds,
): Promise<RecordWrite[]> {
  const isSaid = ({ previousTimestampNs, mayBeElsewhere }: RecordWrite): boolean =>
    previousTimestampNs !== undefined || mayBeElsewhere !== undefined;
  const others = await known.mayHold(
    connection,
    writes.filter((write) => !isSaid(write)),
  );
  return [...writes.filter(isSaid), ...others];
}

/** What the table holds with the same rank, or a higher one, by id. Stored states of a lower rank move to the revisions. */
async function replaceHeld(
  connection: DuckDBConnection,
  writes: readonly RecordWrite[],
  recent: RecentWrites,
): Promise<Map<string, { readonly isHigher: boolean }>> {
  const held = new Map<string, { readonly isHigher: boolean }>();
  if (writes.length === 0) return held;
  await appendNarrow(connection, 'staging', 'temp', [writes.map(({ id }) => id), writes.map(({ rank }) => rank)]);
  for (const range of await lookupRanges(connection, writes, recent)) {
    for (const { id, ahead } of await replaceIn(connection, range)) {
      if (ahead <= 0n) held.set(id, { isHigher: ahead < 0n });
    }
  }
  await connection.run('DELETE FROM staging');
  return held;
}

/** Few ranges that hold every time at which an earlier state may be. */
async function lookupRanges(
  connection: DuckDBConnection,
  writes: readonly RecordWrite[],
  recent: RecentWrites,
): Promise<TimeRange[]> {
  if (writes.some((write) => write.mayBeElsewhere === 'moved')) return [ALL_TIMES];
  const isUnsure = writes.some((write) => write.mayBeElsewhere);
  const times = writes.flatMap((write) =>
    write.previousTimestampNs === undefined ? [write.timestampNs] : [write.timestampNs, write.previousTimestampNs],
  );
  return timeRanges([...times, ...(isUnsure ? await recent.timesOfStaged(connection) : [])]);
}

/** Compares what is staged with what a time range holds. Returns by how much each rank is ahead of the stored one. */
async function replaceIn(
  connection: DuckDBConnection,
  { firstNs, lastNs }: TimeRange,
): Promise<{ readonly id: string; readonly ahead: bigint }[]> {
  const found = await connection.runAndReadAll(
    `SELECT s.id, s.rank, r.rank, r.rowid FROM records r JOIN staging s ON r.id = s.id WHERE r."@timestamp" BETWEEN $1 AND $2`,
    [firstNs, lastNs],
    [BIGINT, BIGINT],
  );
  const matches = found.getRows().map(([id, staged, stored, row]) => ({
    id: String(id),
    ahead: BigInt(String(staged)) - BigInt(String(stored)),
    row: BigInt(String(row)),
  }));
  const replaced = matches.filter((match) => match.ahead > 0n).map((match) => match.row);
  if (replaced.length > 0) {
    await connection.run(`INSERT INTO revisions SELECT id, rank, ${STORED} FROM records WHERE ${rowsSql(replaced)}`);
    await connection.run(`DELETE FROM records WHERE ${rowsSql(replaced)}`);
  }
  return matches;
}
