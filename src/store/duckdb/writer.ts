import { BIGINT, type DuckDBConnection, DuckDBDataChunk, type DuckDBValue, VARCHAR } from '@duckdb/node-api';
import { fieldValues } from '../../core/fields.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import { ipKey, letterLine } from '../../query/text.ts';
import { documentText } from '../document.ts';
import type { WriteResult } from '../port.ts';
import type { RecentWrites } from './recent-writes.ts';
import { INSERT_STAGED, STAGING_FIELDS } from './schema.ts';
import { rowsSql } from './sql.ts';
import { ALL_TIMES, type TimeRange, timeRanges } from './time-ranges.ts';

/** Rows of one data chunk: DuckDB's vector size. */
const CHUNK_ROWS = 2048;

/**
 * Writes one batch in one transaction: earlier states with a lower rank move to `revisions`, then the new ones go in.
 * Resolves after COMMIT, for which DuckDB appends to its own log and calls fsync. After an error nothing of the batch
 * is stored. Callers wait for one batch before they start the next.
 */
export async function writeBatch(
  connection: DuckDBConnection,
  batch: readonly RecordWrite[],
  recent: RecentWrites,
): Promise<WriteResult> {
  const rows = highestRanks(batch);
  await connection.run('BEGIN TRANSACTION');
  try {
    await connection.run('DELETE FROM staging');
    await stage(connection, rows);
    const ranges = await lookupRanges(connection, [...rows.values()], recent);
    const outranked = new Set<string>();
    for (const range of ranges) for (const id of await replaceIn(connection, range)) outranked.add(id);
    await connection.run(INSERT_STAGED);
    const committed = await recent.add(connection, rows.size);
    await connection.run('COMMIT');
    committed();
    const written = batch.filter((write) => !outranked.has(write.id) && write.rank === rows.get(write.id)?.rank).length;
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

async function stage(connection: DuckDBConnection, rows: ReadonlyMap<string, RecordWrite>): Promise<void> {
  const appender = await connection.createAppender('staging', null, 'temp');
  const types = [VARCHAR, BIGINT, BIGINT, VARCHAR, VARCHAR, ...STAGING_FIELDS.map(() => VARCHAR)];
  try {
    const writes = [...rows.values()];
    for (let from = 0; from < writes.length; from += CHUNK_ROWS) {
      const some = writes.slice(from, from + CHUNK_ROWS);
      const chunk = DuckDBDataChunk.create(types, some.length);
      const keys = STAGING_FIELDS.map(({ name }) => some.map((write) => addressKeys(write.record, name)));
      chunk.setColumns([
        some.map((write) => write.id),
        some.map((write) => write.rank),
        some.map((write) => write.timestampNs),
        some.map((write) => (write.record.message === undefined ? null : letterLine(write.record.message))),
        some.map((write) => documentText(write.record)),
        ...keys,
      ]);
      appender.appendDataChunk(chunk);
    }
    appender.flushSync();
  } finally {
    appender.closeSync();
  }
}

function addressKeys(record: object, name: string): DuckDBValue {
  const keys = fieldValues(record, name).flatMap((value) => ipKey(String(value)) ?? []);
  return keys.length === 0 ? null : keys.join(' ');
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

/**
 * Compares what is staged with what a time range holds. Stored states of a lower rank move to the revisions; of an equal
 * or higher one, the staged row is dropped. Returns the ids that a higher rank holds.
 */
async function replaceIn(connection: DuckDBConnection, { firstNs, lastNs }: TimeRange): Promise<string[]> {
  const bounds = [firstNs, lastNs];
  const types = [BIGINT, BIGINT];
  const found = await connection.runAndReadAll(
    `SELECT s.id, s.rank, r.rank, r.rowid FROM records r JOIN staging s ON r.id = s.id WHERE r."@timestamp" BETWEEN $1 AND $2`,
    bounds,
    types,
  );
  if (found.currentRowCount === 0) return [];
  const matches = found.getRows().map(([id, staged, stored, row]) => ({
    id: String(id),
    ahead: BigInt(String(staged)) - BigInt(String(stored)),
    row: BigInt(String(row)),
  }));
  if (matches.some((match) => match.ahead <= 0n)) {
    await connection.run(
      `DELETE FROM staging WHERE id IN (SELECT s.id FROM staging s JOIN records r ON r.id = s.id
        WHERE r."@timestamp" BETWEEN $1 AND $2 AND r.rank >= s.rank)`,
      bounds,
      types,
    );
  }
  const replaced = matches.filter((match) => match.ahead > 0n).map((match) => match.row);
  if (replaced.length > 0) {
    await connection.run(`INSERT INTO revisions SELECT id, rank, doc FROM records WHERE ${rowsSql(replaced)}`);
    await connection.run(`DELETE FROM records WHERE ${rowsSql(replaced)}`);
  }
  return matches.filter((match) => match.ahead < 0n).map((match) => match.id);
}
